"""`adopt` records tables that were made by other means, and only if nothing differs; `upgrade_sql` is such a means."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, inspect, make_url, text

from projection_guard import ConfigurationError, ProjectionGuard, SchemaError, _schema
from projection_guard._tables import metadata, table_names
from projection_guard.migrations import VERSION_TABLE, adopt, upgrade_sql
from projection_guard.migrations._adopting import described
from projection_guard.migrations._revisions import revisions
from tests.migrations.conftest import ours_in


@pytest.fixture
def unrecorded(engine: Engine) -> Engine:
    """All our tables, and no version table."""
    with engine.begin() as connection:
        _schema.migrate(connection)
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
    return engine


def test_what_differs_in_nothing_is_adopted(unrecorded: Engine) -> None:
    """Afterwards the guard works, and `migrate` finds nothing to do."""
    with unrecorded.begin() as connection:
        adopt(connection)
    with unrecorded.begin() as connection:
        assert connection.scalars(text(f"SELECT version_num FROM {VERSION_TABLE}")).all() == [revisions().newest]
        if connection.dialect.name == "postgresql":
            scratch = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'projection%'"
            assert connection.scalar(text(scratch)) == 0
    with ProjectionGuard(unrecorded, worker="external") as guard:
        guard.migrate()
        guard.health()


DIFFERENCES = {
    "a column more": (
        "ALTER TABLE projection_states ADD COLUMN team INTEGER",
        "not ours: projection_states.team INTEGER",
    ),
    "a column less": ("ALTER TABLE projection_states DROP COLUMN reason", "missing: projection_states.reason TEXT"),
    "an index less": (
        "DROP INDEX ix_projection_failures_open",
        "missing: projection_failures: index ix_projection_f",
    ),
    "an index more": (
        "CREATE INDEX mine ON projection_states (mode)",
        "not ours: projection_states: index mine (mode)",
    ),
    "no trigger": (
        "DROP TRIGGER projection_audit_log_no_update{on}",
        "missing: projection_audit_log: trigger projection_audit_log_no_update",
    ),
    "no table": ("DROP TABLE projection_attempts", "missing: projection_attempts"),
}


@pytest.mark.parametrize(("statement", "listed"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_a_difference_is_listed_and_nothing_is_recorded(unrecorded: Engine, statement: str, listed: str) -> None:
    """What is missing and what is not ours is said in words."""
    on = " ON projection_audit_log" if unrecorded.dialect.name == "postgresql" else ""
    with unrecorded.begin() as connection:
        connection.execute(text(statement.format(on=on)))
    with pytest.raises(SchemaError, match="were not adopted") as it, unrecorded.begin() as connection:
        adopt(connection)
    assert listed in str(it.value)
    assert not inspect(unrecorded).has_table(VERSION_TABLE)


def test_a_predicate_that_differs_is_a_difference(unrecorded: Engine) -> None:
    """Alembic's own comparison sees no predicates; without this one a failure could be kept only once for ever."""
    with unrecorded.begin() as connection:
        connection.execute(text("DROP INDEX uq_projection_failures_open"))
        connection.execute(
            text("CREATE UNIQUE INDEX uq_projection_failures_open ON projection_failures (projection_name, event_id)")
        )
    with pytest.raises(SchemaError, match=r"missing: .* where .*resolved_at IS NULL"), unrecorded.begin() as connection:
        adopt(connection)


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE projection_states ALTER COLUMN actor TYPE varchar(100)",
        "ALTER TABLE projection_states ALTER COLUMN actor SET NOT NULL",
        "ALTER TABLE projection_states ALTER COLUMN mode DROP DEFAULT",
        "ALTER TABLE projection_states DROP CONSTRAINT projection_states_pkey",
        "ALTER TABLE projection_states ADD CHECK (failed_probes < 5)",
        "ALTER TABLE projection_audit_log DISABLE TRIGGER USER",
    ],
)
def test_finer_differences_are_seen_on_postgresql(empty_postgres_url: str, statement: str) -> None:
    """Types' lengths, nullability, defaults, keys, checks, and triggers that are switched off."""
    engine = create_engine(empty_postgres_url)
    with engine.begin() as connection:
        _schema.migrate(connection)
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))
        connection.execute(text(statement))
    with pytest.raises(SchemaError, match="were not adopted"), engine.begin() as connection:
        adopt(connection)
    engine.dispose()


def test_models_alone_lack_the_triggers(engine: Engine) -> None:
    """Tables from `metadata.create_all` are not adopted: their audit log could be changed."""
    with engine.begin() as connection:
        metadata.create_all(connection)
    with pytest.raises(SchemaError, match="missing: projection_audit_log: trigger"), engine.begin() as connection:
        adopt(connection)


def test_an_empty_database_is_not_adopted(engine: Engine) -> None:
    """And the list of what is missing does not fill the screen."""
    with pytest.raises(SchemaError, match=r"missing: .*; and \d+ more$"), engine.begin() as connection:
        adopt(connection)
    assert ours_in(engine) == set()


def test_what_is_recorded_is_not_adopted_again(engine: Engine) -> None:
    """There is nothing to adopt."""
    with engine.begin() as connection:
        _schema.migrate(connection)
    with pytest.raises(SchemaError, match="nothing to adopt"), engine.begin() as connection:
        adopt(connection)


def test_a_schema_of_its_own_is_adopted(empty_postgres_url: str) -> None:
    """`schema=` is looked at, and nothing else."""
    engine = create_engine(empty_postgres_url)
    with engine.begin() as connection:
        _schema.migrate(connection, "MyGuard")
    with engine.begin() as connection:
        connection.execute(text(f'DROP TABLE "MyGuard".{VERSION_TABLE}'))
    with engine.begin() as connection:
        adopt(connection, "MyGuard")
        _schema.check(connection, "MyGuard")
    assert ours_in(engine) == set()
    engine.dispose()


@pytest.mark.parametrize("schema", [None, "MyGuard"])
def test_the_sql_for_postgresql_does_what_migrate_does(empty_postgres_url: str, schema: str | None) -> None:
    """Run by hand it gives the same tables, recorded, in one transaction."""
    sql = upgrade_sql("postgresql", schema)
    assert sql.startswith("BEGIN;")
    assert sql.rstrip().endswith("COMMIT;")
    url = make_url(empty_postgres_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as by_hand:
        by_hand.execute(sql.encode())
    compare_with_migrate(create_engine(empty_postgres_url), schema)


def test_the_sql_for_sqlite_does_what_migrate_does(tmp_path: object) -> None:
    """The same on SQLite."""
    path = f"{tmp_path}/by_hand.db"
    sql = upgrade_sql("sqlite")
    assert sql.startswith("BEGIN;")
    with sqlite3.connect(path) as connection:
        connection.executescript(sql)
    connection.close()
    compare_with_migrate(create_engine(f"sqlite:///{path}"), None)


def compare_with_migrate(engine: Engine, schema: str | None) -> None:
    """Fail if the database differs from one that `migrate` made."""
    with engine.begin() as connection:
        _schema.check(connection, schema)
        prefix = f'"{schema}".' if schema else ""
        connection.execute(text(f"DROP TABLE {prefix}{VERSION_TABLE}"))
    with engine.begin() as connection:
        assert len(described(connection, schema)) > len(table_names)
        adopt(connection, schema)
    engine.dispose()


def test_sql_for_another_database_is_refused() -> None:
    """One sentence for what there is no SQL for."""
    with pytest.raises(ConfigurationError, match="not for 'oracle'"):
        upgrade_sql("oracle")
    with pytest.raises(ConfigurationError, match="a SQLite database has none"):
        upgrade_sql("sqlite", "guard")
