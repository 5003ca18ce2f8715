"""The schema's life: create or upgrade the tables, check at the first contact that they are what the code expects.

The revisions are Alembic's; they run in the caller's transaction, so that a crash in the middle leaves nothing, and
under a lock, so that any number of processes may migrate at once.
"""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from ._tables import metadata, table_names
from .errors import ConfigurationError, SchemaError

__all__ = [
    "VERSION_TABLE",
    "adopt",
    "check",
    "check_schema_name",
    "configure_options",
    "head",
    "migrate",
    "upgrade_sql",
]

VERSION_TABLE: Final = "projection_guard_alembic_version"
_HOSTS_VERSION_TABLE: Final = "alembic_version"
_PREFIX: Final = "projection_guard_"
_LOCK: Final = 7_206_116_935_214_561_203  # any number will do, as long as it is ours
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_HOW: Final = "run guard.migrate(), or alembic upgrade heads where your own Alembic environment holds our revisions"


def check_schema_name(dialect_name: str, schema: str | None) -> None:
    """Refuse a `schema=` that cannot be one. Raises `ConfigurationError`."""
    if schema is None:
        return
    if dialect_name == "sqlite":
        raise ConfigurationError("schema= is for PostgreSQL; a SQLite database has none")
    if not _IDENTIFIER.fullmatch(schema) or schema.lower().startswith("pg_"):
        raise ConfigurationError(
            f"schema={schema!r} is no name for a schema: letters, digits and underscores, at most 63, not pg_..."
        )


def configure_options() -> dict[str, Any]:
    """Return how Alembic is to be configured, wherever our environment runs."""
    return {
        "version_table": VERSION_TABLE,
        "compare_type": True,
        "include_name": lambda name, type_, _: type_ != "table" or name in table_names,
    }


def _config(connection: Connection | None = None) -> Config:
    config = Config(output_buffer=StringIO(), stdout=StringIO())
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "newline")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _revisions() -> tuple[str, frozenset[str]]:
    """Return our newest revision, and all of them."""
    script = ScriptDirectory.from_config(_config())
    newest = script.get_current_head()
    assert newest is not None
    return newest, frozenset(revision.revision for revision in script.walk_revisions())


def head() -> str:
    """Return the revision that this version of the package needs."""
    return _revisions()[0]


def migrate(connection: Connection, schema: str | None = None) -> None:
    """Create our tables or bring them up to this version, in the caller's transaction. Raises `SchemaError`."""
    try:
        _enter(connection, schema)
        found = _versions(connection, schema)
        if not found:
            _refuse_foreign(connection, schema)
        newest, known = _revisions()
        if found and not found & known:
            raise SchemaError(
                f"The database is at revision {', '.join(sorted(found))}, which is newer than this version of "
                "projection_guard knows; upgrade the package"
            )
        if newest not in found:
            command.upgrade(_config(connection), "head")
    except SQLAlchemyError as error:
        raise SchemaError(
            f"The tables could not be created or upgraded ({type(error).__name__}); nothing was changed. Is the role "
            "allowed to create tables here?"
        ) from error


def _enter(connection: Connection, schema: str | None) -> None:
    """Take the lock, and let everything that has no schema of its own be found and made in ours."""
    if connection.dialect.name == "sqlite":
        return  # the caller's transaction is the only writer
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if schema is not None:
        connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        connection.exec_driver_sql(f'SET LOCAL search_path TO "{schema}"')


def _versions(connection: Connection, schema: str | None) -> frozenset[str]:
    """Return which of our revisions the database says it is at, by our version table or by the host's."""
    names = set(inspect(connection).get_table_names(schema=schema))
    prefix = f'"{schema}".' if schema else ""
    found: set[str] = set()
    for table in (VERSION_TABLE, _HOSTS_VERSION_TABLE):
        if table in names:
            rows = connection.exec_driver_sql(f"SELECT version_num FROM {prefix}{table}")
            found |= {row[0] for row in rows if row[0].startswith(_PREFIX)}
    return frozenset(found)


def _refuse_foreign(connection: Connection, schema: str | None) -> None:
    """Refuse to install beside a table of somebody else's that has one of our names."""
    inspector = inspect(connection)
    for name in sorted(table_names & set(inspector.get_table_names(schema=schema))):
        columns = {column["name"] for column in inspector.get_columns(name, schema=schema)}
        expected = set(metadata.tables[name].columns.keys())
        if columns != expected:
            strange = sorted(columns ^ expected)
            raise SchemaError(
                f"There is a table {name} that is not ours (it differs in {', '.join(strange[:5])}); nothing was "
                "created. Rename it, or give the guard a schema of its own with schema=..."
            )
        raise SchemaError(
            f"The table {name} is there, but no version of the guard's schema is recorded; nothing was created. "
            "If the guard's tables are complete, adopt them (projection_guard._schema.adopt)"
        )


def check(connection: Connection, schema: str | None = None) -> None:
    """Check that the tables are there and of a version that this package works with. Raises `SchemaError`.

    A newer revision than this version knows is accepted: releases expand first and contract later.
    """
    there = table_names & set(inspect(connection).get_table_names(schema=schema))
    if not there:
        raise SchemaError(f"The guard's tables are not in the database; {_HOW}")
    missing = sorted(table_names - there)
    found = _versions(connection, schema)
    newest, known = _revisions()
    if missing:
        raise SchemaError(f"Some of the guard's tables are missing ({', '.join(missing)}); {_HOW}")
    if not found:
        raise SchemaError(f"The guard's tables are there, but their version is not on record; {_HOW}")
    if found & known and newest not in found:
        raise SchemaError(f"The guard's tables are at revision {', '.join(sorted(found))}, older than {newest}; {_HOW}")


def adopt(connection: Connection, schema: str | None = None) -> None:
    """Record tables that were made by other means as ours, if nothing differs. Raises `SchemaError`."""
    _enter(connection, schema)
    context = MigrationContext.configure(connection, opts=configure_options())
    differences = compare_metadata(context, metadata)
    if differences:
        kinds = ", ".join(sorted({str(entry[0] if isinstance(entry, tuple) else entry[0][0]) for entry in differences}))
        raise SchemaError(f"The tables differ from what this version needs ({len(differences)}: {kinds}); not adopted")
    command.stamp(_config(connection), "head")


def upgrade_sql(dialect_name: str) -> str:
    """Return the SQL that creates or upgrades everything, for people who run such things by hand."""
    out = StringIO()
    config = _config()
    config.output_buffer = out
    config.set_main_option("sqlalchemy.url", f"{dialect_name}://")
    command.upgrade(config, "head", sql=True)
    return out.getvalue()
