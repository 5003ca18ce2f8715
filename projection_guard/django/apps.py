"""The application that stands in INSTALLED_APPS. It has no models: the guard makes its tables itself."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["ProjectionGuardConfig"]


class ProjectionGuardConfig(AppConfig):
    """Brings the command `manage.py projection_guard`."""

    name = "projection_guard.django"
    label = "projection_guard"
    verbose_name = "Projection guard"
