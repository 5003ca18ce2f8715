"""The environment in which Alembic's own commands run our revisions: the checkout's, and the package's.

The database is told by `-x url=...` or `PROJECTION_GUARD_DATABASE_URL`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, make_url
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from .._dialect import UtcDateTime
from .._tables import metadata, table_names
from ._mysql import INSTEAD_OF_WHERE, MYSQL
from ._place import enter
from ._revisions import PREFIX, VERSION_TABLE, revisions

__all__ = ["run"]

_DRIVERS: Final = {"sqlite": "sqlite", **{name: f"{name}+pymysql" for name in MYSQL}}
_DEFAULT: Final = "sqlite:///projection_guard.db"


def run() -> None:
    """Run what the command line asks for, in one transaction and under the lock of `guard.migrate()`."""
    if context.is_offline_mode():
        context.configure(url=_url(), literal_binds=True, **_options())
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(_url(), poolclass=NullPool)
    with engine.begin() as connection:
        enter(connection, None)
        context.configure(connection=connection, **_options())
        context.run_migrations()


def _url() -> URL:
    given = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("PROJECTION_GUARD_DATABASE_URL")
    url = make_url(given or _DEFAULT)
    backend = url.get_backend_name()
    return url.set(drivername=_DRIVERS.get(backend, "postgresql+psycopg"))


def _options() -> dict[str, Any]:
    return {
        "target_metadata": metadata,
        "version_table": VERSION_TABLE,
        "transactional_ddl": True,
        "compare_type": True,
        "compare_server_default": True,
        "include_name": _is_to_be_compared,
        "include_object": _is_object_to_be_compared,
        "render_item": _rendered,
        "process_revision_directives": _numbered,
    }


def _is_to_be_compared(name: str | None, type_: str, parent_names: object) -> bool:
    """Leave out other people's tables: `alembic check` may well be pointed at an application's database."""
    del parent_names
    if type_ == "column":
        return name not in INSTEAD_OF_WHERE.values()
    return type_ != "table" or name in table_names


def _is_object_to_be_compared(item: object, name: str | None, type_: str, *_: object) -> bool:
    """Leave out the indexes that are unique among some rows only, where an invisible column stands for their WHERE."""
    del item
    is_on_mysql = context.get_context().dialect.name in MYSQL
    return not (is_on_mysql and type_ in ("index", "unique_constraint") and name in INSTEAD_OF_WHERE)


def _rendered(kind: str, item: object, autogenerate: AutogenContext) -> str | Literal[False]:
    """Write a type of ours as SQLAlchemy's own: a revision must not change when our code does."""
    del autogenerate
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def _numbered(
    migrating: MigrationContext, revision: str | Iterable[str | None] | Iterable[str], scripts: list[MigrationScript]
) -> None:
    """Give a new revision the next readable id, unless `--rev-id` says another."""
    del migrating, revision
    asked: str | None = getattr(context.config.cmd_opts, "rev_id", None)
    for script in scripts:
        script.rev_id = asked or f"{PREFIX}{len(revisions().known) + 1:04d}"
