"""Adopt tables that were made by other means, if they are exactly what our revisions would have made."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn, ReflectedIndex

from .._dialect import is_mysql
from .._tables import table_names
from ..errors import SchemaError
from ._found import look
from ._place import check_schema_name, enter, refusals_explained
from ._revisions import record_newest, revisions, upgrade

__all__ = ["adopt", "described"]

_SCRATCH: Final = "projection_guard_scratch"
_MOST_SHOWN: Final = 10
_TRIGGERS_POSTGRESQL: Final = text(
    "SELECT tgname AS name, relname AS tbl "
    "FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    "WHERE NOT tgisinternal AND tgenabled <> 'D' AND relname = ANY(:tables) AND "
    "CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(pg_class.oid) ELSE nspname = :schema END"
)
_TRIGGERS_SQLITE: Final = text("SELECT name, tbl_name AS tbl FROM sqlite_master WHERE type = 'trigger'")


def adopt(connection: Connection, schema: str | None = None) -> None:
    """Record in our version table that the tables are at this version's revision, if they differ in nothing from it.

    Compared are columns, types, defaults, keys, indexes with their predicates, and triggers. It runs in the caller's
    transaction. On PostgreSQL the role must be allowed to create a schema: what should be there is made in one of its
    own, and undone. Raises `SchemaError`, which lists the differences.
    """
    check_schema_name(connection.dialect.name, schema)
    if is_mysql(connection.dialect):
        raise SchemaError(
            "Tables on MariaDB or MySQL cannot be adopted: what should be there cannot be made, compared and undone in "
            "one transaction. Let guard.migrate() make them in an empty database, and copy the rows"
        )
    with refusals_explained("The guard's tables could not be adopted; nothing was changed"):
        enter(connection, schema)
        found = look(connection, schema)
        recorded = found.own | found.hosts
        if recorded:
            raise SchemaError(f"There is nothing to adopt: revision {', '.join(sorted(recorded))} is on record already")
        differences = _differences(wanted=_reference(connection), found=described(connection, schema))
        if differences:
            more = f"; and {len(differences) - _MOST_SHOWN} more" if len(differences) > _MOST_SHOWN else ""
            raise SchemaError(
                f"The tables differ from what {revisions().newest} makes and were not adopted: "
                f"{'; '.join(differences[:_MOST_SHOWN])}{more}"
            )
        record_newest(connection, schema)


def _differences(*, wanted: frozenset[str], found: frozenset[str]) -> list[str]:
    missing = [f"missing: {fact}" for fact in sorted(wanted - found)]
    return missing + [f"not ours: {fact}" for fact in sorted(found - wanted)]


def _reference(connection: Connection) -> frozenset[str]:
    """Return the description of what our revisions make, by making it where nobody sees it."""
    if connection.dialect.name == "sqlite":
        engine = create_engine("sqlite://")
        with engine.begin() as elsewhere:
            upgrade(elsewhere, None)
            made = described(elsewhere, None)
        engine.dispose()
        return made
    savepoint = connection.begin_nested()
    connection.exec_driver_sql(f"CREATE SCHEMA {_SCRATCH}")
    connection.exec_driver_sql(f"SET LOCAL search_path TO {_SCRATCH}")
    upgrade(connection, _SCRATCH)
    made = described(connection, _SCRATCH)
    savepoint.rollback()
    return made


def described(connection: Connection, schema: str | None) -> frozenset[str]:
    """Describe our tables as they are, one line a fact; the same facts, the same lines."""
    inspector = inspect(connection)
    names = sorted(table_names)
    facts: set[str] = set()
    for (_, table), columns in inspector.get_multi_columns(schema=schema, filter_names=names).items():
        facts |= {_column(connection, table, each) for each in columns}
    for (_, table), key in inspector.get_multi_pk_constraint(schema=schema, filter_names=names).items():
        facts.add(f"{table}: primary key ({', '.join(key['constrained_columns'])})")
    for (_, table), indexes in inspector.get_multi_indexes(schema=schema, filter_names=names).items():
        facts |= {_index(table, each) for each in indexes}
    for (_, table), foreign in inspector.get_multi_foreign_keys(schema=schema, filter_names=names).items():
        facts |= {f"{table}: foreign key on {', '.join(each['constrained_columns'])}" for each in foreign}
    for (_, table), checks in inspector.get_multi_check_constraints(schema=schema, filter_names=names).items():
        facts |= {f"{table}: check {each['sqltext']}" for each in checks}
    return frozenset(facts | _triggers(connection, schema))


def _column(connection: Connection, table: str, each: ReflectedColumn) -> str:
    kind = each["type"].compile(connection.dialect)
    default = each["default"]
    if default is not None:
        # the default of a counted key names its sequence, which is another one in every schema
        default = "counted up" if default.startswith("nextval(") else f"default {default}"
    words = (kind, "" if each["nullable"] else "not null", default, "identity" if "identity" in each else "")
    return f"{table}.{each['name']} {' '.join(word for word in words if word)}"


def _index(table: str, each: ReflectedIndex) -> str:
    where = next((value for key, value in each.get("dialect_options", {}).items() if key.endswith("_where")), None)
    columns = ", ".join(name or "(expression)" for name in each["column_names"])
    kind = "unique index" if each["unique"] else "index"
    return f"{table}: {kind} {each['name']} ({columns}){'' if where is None else f' where {where}'}"


def _triggers(connection: Connection, schema: str | None) -> set[str]:
    if connection.dialect.name == "sqlite":
        rows = connection.execute(_TRIGGERS_SQLITE)
    else:
        rows = connection.execute(_TRIGGERS_POSTGRESQL, {"tables": sorted(table_names), "schema": schema})
    return {f"{row.tbl}: trigger {row.name}" for row in rows if row.tbl in table_names}
