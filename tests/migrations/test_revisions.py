"""The revisions themselves: what they make is what the models say, and the database guards the audit log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

import projection_guard.migrations
from projection_guard import _schema
from projection_guard._tables import metadata, table_names
from projection_guard.migrations._revisions import revisions
from tests.migrations.conftest import ROOT, ours_in
from tests.migrations.test_checkout import alembic

VERSIONS = Path(projection_guard.migrations.__file__).parent / "versions"
POSTGRESQL = (
    """
    SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, is_identity
    FROM information_schema.columns WHERE table_schema = current_schema()
    """,
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = current_schema()",
    """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = current_schema()::regnamespace
    """,
)
SQLITE = "SELECT tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"


def written_down(connection: Connection) -> set[tuple[Any, ...]]:
    """Return what the database itself says of our tables, without the help of our code."""
    if connection.dialect.name == "postgresql":
        rows = {tuple(row) for query in POSTGRESQL for row in connection.execute(text(query))}
    else:
        rows = {tuple(" ".join(word.split()) for word in row) for row in connection.execute(text(SQLITE))}
        for table in sorted(table_names):
            # the number of a column (the first item) is of no consequence
            rows |= {(table, *row[1:]) for row in connection.execute(text(f"PRAGMA table_xinfo({table})"))}
            made = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table})
            rows.add((table, "AUTOINCREMENT" in str(made)))
    return {row for row in rows if row[0] in table_names}


def test_the_revisions_make_what_the_models_say(engine: Engine, tmp_path: Path) -> None:
    """Columns, types, nullability, defaults, keys and indexes with their predicates are the same."""
    with engine.begin() as connection:
        _schema.migrate(connection)
        migrated = written_down(connection)
    with engine.begin() as connection:
        for table in table_names:
            connection.execute(text(f"DROP TABLE {table}"))
        metadata.create_all(connection)
        modelled = written_down(connection)
    assert {row[0] for row in migrated} == table_names
    assert sorted(map(str, migrated - modelled)) == []
    assert sorted(map(str, modelled - migrated)) == []


def test_indexes_that_were_made_before_are_left_as_they_are(empty_postgres_url: str) -> None:
    """By the statements of docs/migrations.md, so that nobody waits for them; what comes of it is the same."""
    page = (ROOT / "docs/migrations.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sql\n(CREATE INDEX CONCURRENTLY .*?)```", page, flags=re.DOTALL)
    engine = create_engine(empty_postgres_url)
    with engine.begin() as connection:
        _schema.migrate(connection)
        made = written_down(connection)
    assert alembic(empty_postgres_url, "downgrade", "projection_guard_0012").returncode == 0
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in block.split(";")[:-1]:
            connection.execute(text(statement))
    done = alembic(empty_postgres_url, "upgrade", "heads")
    assert done.returncode == 0, done.stderr
    with engine.connect() as connection:
        assert sorted(map(str, made ^ written_down(connection))) == []
    engine.dispose()


def test_the_gates_have_room_for_updates_in_place(empty_postgres_url: str) -> None:
    """Each delivery updates its gate's row: without free room on the page every update would touch the indexes."""
    engine = create_engine(empty_postgres_url)
    with engine.begin() as connection:
        _schema.migrate(connection)
        options = "SELECT reloptions FROM pg_class WHERE oid = to_regclass('projection_streams')"
        assert connection.scalar(text(options)) == ["fillfactor=70"]
    engine.dispose()


def test_every_revision_is_readable_and_frozen() -> None:
    """Ids are prefixed and numbered, the first carries the label, and none imports code that may change.

    `_mysql` is part of them, and is held to the same.
    """
    files = sorted(VERSIONS.glob("*.py"))
    ids = []
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {
            name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."])
        }
        others = imported - {"projection_guard.migrations._mysql"}
        assert {name.split(".")[0] for name in others} <= {"__future__", "alembic", "sqlalchemy", "uuid", "datetime"}
        (stated,) = re.findall(r'^revision = "(.*)"$', file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert file.name.startswith(f"{stated}_")
        ids.append(stated)
    assert ids == [f"projection_guard_{number:04d}" for number in range(1, len(ids) + 1)]
    assert 'branch_labels = ("projection_guard",)' in files[0].read_text(encoding="utf-8")
    assert revisions().newest == ids[-1]
    assert revisions().known == set(ids)


@pytest.fixture
def audited(engine: Engine) -> Iterator[Engine]:
    """A migrated database with an entry in the audit log."""
    with engine.begin() as connection:
        _schema.migrate(connection)
        connection.execute(text(ENTRY))
    yield engine
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT actor, action FROM projection_audit_log")).all()
    assert [tuple(row) for row in rows] == [("alice", "pause")]


ENTRY = (
    "INSERT INTO projection_audit_log (at, actor, action, projection_name) "
    "VALUES ('2026-01-02 03:04:05.000000', 'alice', 'pause', 'P')"
)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE projection_audit_log SET actor = 'mallory'", "DELETE FROM projection_audit_log WHERE actor = 'alice'"],
)
def test_the_audit_log_refuses_change(audited: Engine, statement: str) -> None:
    """An UPDATE or DELETE of a row of the audit log is refused by the database, with a sentence that says why."""
    with pytest.raises(DBAPIError, match="projection_audit_log is append-only"), audited.begin() as connection:
        connection.execute(text(statement))


def test_the_audit_log_refuses_the_ways_around(audited: Engine) -> None:
    """TRUNCATE and upserts on PostgreSQL, REPLACE on SQLite: none of them changes a row."""
    first = ENTRY.replace("(at,", "(id, at,").replace("VALUES (", "VALUES (1, ")
    around = {
        "postgresql": [
            "TRUNCATE projection_audit_log",
            f"{first} ON CONFLICT (id) DO UPDATE SET actor = 'mallory'",
        ],
        "sqlite": [
            first.replace("INSERT", "INSERT OR REPLACE"),
            "UPDATE OR REPLACE projection_audit_log SET actor = 'mallory'",
        ],
    }
    for statement in around[audited.dialect.name]:
        with pytest.raises(DBAPIError, match="projection_audit_log is append-only"), audited.begin() as connection:
            connection.execute(text(statement))


def test_what_stands_after_a_migration_and_nothing_before(engine: Engine) -> None:
    """On an empty database there are our tables and our version table afterwards, and no others."""
    with engine.begin() as connection:
        assert ours_in(connection) == set()
        _schema.migrate(connection)
        there = set(inspect(connection).get_table_names())
    assert there == table_names | {projection_guard.migrations.VERSION_TABLE}


def test_a_downgrade_leaves_nothing_of_ours(empty_url: str) -> None:
    """After `downgrade base` no table, function or trigger of ours is left, so that it can be made again."""
    alembic(empty_url, "upgrade", "head")
    alembic(empty_url, "downgrade", "base")
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        assert ours_in(connection) == set()
        if connection.dialect.name == "postgresql":
            assert connection.scalar(text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'projection%'")) == 0
        else:
            assert connection.scalar(text("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'")) == 0
        _schema.migrate(connection)
        _schema.check(connection)
    engine.dispose()
