"""What all models are made of: one metadata, and how types become columns on either database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import JSON, MetaData
from sqlalchemy.orm import DeclarativeBase

from .._dialect import UtcDateTime, UuidKey

__all__ = ["Model", "Payload", "metadata"]

metadata = MetaData()
Payload = JSON(none_as_null=True)


class Model(DeclarativeBase):
    """A table of the guard's."""

    metadata = metadata
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime(), UUID: UuidKey, Any: Payload}
