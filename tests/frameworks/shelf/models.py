"""A read model with what databases and drivers keep in different ways."""

from __future__ import annotations

from typing import Any

from django.db import models

__all__ = ["Book", "Note"]


class Book(models.Model):
    """A book, of one stream each."""

    id: Any = models.CharField(max_length=50, primary_key=True)
    count: Any = models.IntegerField(default=0)
    seen_at: Any = models.DateTimeField(null=True)
    price: Any = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    is_old: Any = models.BooleanField(default=False)
    extra: Any = models.JSONField(default=dict)


class Note(models.Model):
    """What was done, in order."""

    book: Any = models.ForeignKey(Book, on_delete=models.CASCADE)
    n: Any = models.IntegerField()
