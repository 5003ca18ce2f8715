"""Which revisions this version of the package has, and how they are run in process.

Alembic's commands work through globals of the process (`alembic.op`, `alembic.context`), which a host's own migration
may be using at this moment: in another thread, or further up this one's stack. Here every run has objects of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ..errors import ConfigurationError, SchemaError
from ._mysql import MYSQL
from ._place import check_schema_name, statements_to_be_in

__all__ = ["PREFIX", "VERSION_TABLE", "Revisions", "record_newest", "revisions", "upgrade", "upgrade_sql"]

VERSION_TABLE: Final = "projection_guard_alembic_version"
"""The table in which the revision stands that the guard's tables are at, where the guard migrates them itself."""
PREFIX: Final = "projection_guard_"
"""How every revision id of ours begins, so that it is told from the host's in a version table that both share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The revisions that this version of the package has; `newest` is the one that its code needs."""

    newest: str
    known: frozenset[str]


def _scripts() -> ScriptDirectory:
    scripts = ScriptDirectory(Path(__file__).parent)
    for script in scripts.walk_revisions():
        # alembic puts a revision beside the head that it follows, and where ours is the only one that is here
        if not script.revision.startswith(PREFIX):
            raise SchemaError(
                f"{script.path} is no revision of this package's: alembic revision wrote it there, for it followed our "
                "newest one. Take it out of the package; docs/migrations.md shows how an application's first revision "
                "is made"
            )
    return scripts


@cache
def revisions() -> Revisions:
    """Return what is in `versions/`."""
    scripts = _scripts()
    newest = scripts.get_current_head()
    assert newest is not None
    return Revisions(newest=newest, known=frozenset(script.revision for script in scripts.walk_revisions()))


def upgrade(connection: Connection, schema: str | None) -> None:
    """Run what our own version table does not have yet, in the caller's transaction (see `_place.enter`)."""
    _context(schema, connection=connection).run_migrations()


def record_newest(connection: Connection, schema: str | None) -> None:
    """Write the newest revision into our own version table without running anything."""
    _context(schema, connection=connection).stamp(_scripts(), revisions().newest)


def upgrade_sql(dialect_name: str, schema: str | None = None) -> str:
    """Return the SQL that makes the tables in an empty database, in one transaction, for people who run it by hand.

    `dialect_name` is "postgresql", "sqlite", "mariadb" or "mysql"; on the last two each statement
    stands for itself. Raises `ConfigurationError` for others, and for a schema's bad name.
    """
    if dialect_name not in ("postgresql", "sqlite", *MYSQL):
        raise ConfigurationError(
            f"There is SQL for 'postgresql', 'sqlite', 'mariadb' and 'mysql', not for {dialect_name!r}"
        )
    check_schema_name(dialect_name, schema)
    written = StringIO()
    context = _context(schema, dialect_name=dialect_name, as_sql=True, output_buffer=written)
    with context.begin_transaction():
        for statement in statements_to_be_in(schema):
            context.execute(statement)
        context.run_migrations()
    return written.getvalue()


def _context(
    schema: str | None, *, connection: Connection | None = None, dialect_name: str | None = None, **more: Any
) -> MigrationContext:
    scripts = _scripts()

    def steps(heads: tuple[str, ...], context: MigrationContext) -> Iterable[RevisionStep]:
        """Return what is to be run, oldest first, with an `op` of its own instead of the process's."""
        operations = Operations(context)
        due = list(scripts.iterate_revisions("heads", heads or "base"))
        for script in due:
            vars(script.module)["op"] = operations
        return [MigrationStep.upgrade_from_script(scripts.revision_map, script) for script in reversed(due)]

    options = {"fn": steps, "version_table": VERSION_TABLE, "version_table_schema": schema, "transactional_ddl": True}
    return MigrationContext.configure(connection, dialect_name=dialect_name, opts=options | more)
