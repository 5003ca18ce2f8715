"""Which family a database belongs to: nobody else compares a dialect's name."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Dialect

__all__ = ["MYSQL", "is_mysql", "is_postgresql", "is_sqlite"]

MYSQL: Final = ("mysql", "mariadb")
"""The names by which SQLAlchemy knows MariaDB and MySQL: each goes with a URL, and with either server."""


def is_mysql(dialect: Dialect) -> bool:
    """Return whether this is MariaDB or MySQL."""
    return dialect.name in MYSQL


def is_sqlite(dialect: Dialect) -> bool:
    """Return whether this is SQLite."""
    return dialect.name == "sqlite"


def is_postgresql(dialect: Dialect) -> bool:
    """Return whether this is PostgreSQL."""
    return dialect.name == "postgresql"
