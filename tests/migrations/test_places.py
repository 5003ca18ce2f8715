"""Where the tables go (`schema=`), and what a role needs for it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, inspect, make_url, text

from projection_guard import ConfigurationError, ProjectionGuard, SchemaError
from projection_guard._tables import table_names
from projection_guard.migrations import VERSION_TABLE
from tests.migrations.conftest import ours_in
from tests.migrations.test_migrate import Kind, migrate


@pytest.mark.parametrize("kind", ["blocking", "async"])
@pytest.mark.parametrize("schema", ["guard", "MyGuard", "user"])
def test_everything_lives_in_the_schema_that_was_asked_for(empty_postgres_url: str, kind: Kind, schema: str) -> None:
    """Tables, version table and trigger function; the schema is made if it is missing."""
    migrate(empty_postgres_url, kind, schema)
    migrate(empty_postgres_url, kind, schema)
    engine = create_engine(empty_postgres_url)
    inspector = inspect(engine)
    assert set(inspector.get_table_names(schema=schema)) == table_names | {VERSION_TABLE}
    assert inspector.get_table_names(schema="public") == []
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_schema()")) == "public"
        where = (
            "SELECT nspname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE proname LIKE 'projection%'"
        )
        assert connection.scalars(text(where)).all() == [schema]
    engine.dispose()


def test_two_guards_share_a_database_by_their_schemas(empty_postgres_url: str) -> None:
    """Each is installed for itself."""
    migrate(empty_postgres_url, schema="one")
    migrate(empty_postgres_url)
    migrate(empty_postgres_url, schema="two")
    engine = create_engine(empty_postgres_url)
    assert [ours_in(engine, schema) for schema in ("one", "two", "public")] == [table_names] * 3
    engine.dispose()


@pytest.mark.parametrize("schema", ["", "a-b", 'a"; DROP TABLE x', "pg_mine", "PG_mine", "1st", "x" * 64, "ümlaut"])
def test_a_bad_schema_is_refused(schema: str) -> None:
    """It is refused before any connection is made, and what is allowed is said."""
    with pytest.raises(ConfigurationError, match="letters, digits and underscores"):
        ProjectionGuard("postgresql+psycopg://nowhere.invalid/x", schema=schema)


def test_sqlite_has_no_schemas(tmp_path: Any) -> None:
    """`schema=` on SQLite is refused with a sentence."""
    with pytest.raises(ConfigurationError, match="schema= is for PostgreSQL"):
        ProjectionGuard(f"sqlite:///{tmp_path / 'a.db'}", schema="guard")


@pytest.fixture
def powerless_url(empty_postgres_url: str) -> Any:
    """The same database, for a role that may create nothing; its password must not be shown."""
    role = f"powerless_{uuid4().hex[:8]}"
    engine = create_engine(empty_postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        yield make_url(empty_postgres_url).set(username=role, password="hunter2").render_as_string(hide_password=False)
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
    engine.dispose()


@pytest.mark.parametrize("schema", [None, "guard"])
def test_a_role_that_may_not_create_gets_one_sentence(powerless_url: str, schema: str | None) -> None:
    """The database's words and no password; the cause is kept."""
    with ProjectionGuard(powerless_url, worker="external", schema=schema) as guard:
        with pytest.raises(
            SchemaError, match="could not be created or upgraded; nothing was changed: permission"
        ) as it:
            guard.migrate()
        assert it.value.__cause__ is not None
        assert "hunter2" not in str(it.value)
        assert "\n" not in str(it.value)


@pytest.mark.parametrize("schema", [None, "guard"])
def test_a_role_that_may_not_create_migrates_what_is_there(
    powerless_url: str, empty_postgres_url: str, schema: str | None
) -> None:
    """Where all is done it needs no right but to read: an application's own role may call `migrate` at every start."""
    migrate(empty_postgres_url, schema=schema)
    engine = create_engine(empty_postgres_url)
    role = make_url(powerless_url).username
    place = schema or "public"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {place} TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {place} TO {role}")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)")
    engine.dispose()
    migrate(powerless_url, schema=schema)
