"""Column types that are not the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CHAR, BigInteger, DateTime, Dialect, Integer, Text, TypeDecorator, Uuid
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from .families import MYSQL, is_mysql

__all__ = ["BigIdentity", "LongText", "UtcDateTime", "UuidKey"]

BigIdentity: Final = BigInteger().with_variant(Integer(), "sqlite")
"""A 64-bit key that the database counts up; SQLite does so only for a column declared INTEGER."""

LongText: Final = Text().with_variant(mysql.LONGTEXT(), *MYSQL)
"""Text of any length; MariaDB's and MySQL's TEXT ends after 64 KiB."""

UuidKey: Final[TypeEngine[UUID]] = Uuid(as_uuid=True).with_variant(Uuid(as_uuid=True, native_uuid=False), *MYSQL)
"""A UUID; 32 hexadecimal digits where the database has no such type, or, as MariaDB, orders it in a way of its own."""

HexUuid: Final = CHAR(32)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, whatever the session's, the server's or the process's time zone is."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Keep microseconds on MariaDB and MySQL, whose DATETIME has none unless asked."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if is_mysql(dialect) else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; SQLite, MariaDB and MySQL, which have no zones, store it bare."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored; make it aware")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return aware UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
