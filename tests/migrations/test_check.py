"""What the guard says at its first contact with a database that is not as it should be, and what it accepts."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from projection_guard import ProjectionGuard, SchemaError, _schema
from projection_guard._schema import complaint_about, is_ours_to_upgrade
from projection_guard._tables import metadata, table_names
from projection_guard.migrations import VERSION_TABLE
from projection_guard.migrations._found import Found
from projection_guard.migrations._revisions import Revisions, revisions
from tests.migrations.conftest import ours_in

NEWEST = revisions().newest


@pytest.fixture
def migrated(engine: Engine) -> Engine:
    """A database with our tables."""
    with engine.begin() as connection:
        _schema.migrate(connection)
    return engine


def change(engine: Engine, *statements: str) -> None:
    """Change the database behind the library's back."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def said(engine: Engine) -> str:
    """Return what the guard says at first contact, blocking."""
    with ProjectionGuard(engine, worker="external") as guard, pytest.raises(SchemaError) as it:
        guard.health()
    return str(it.value)


def said_by_migrate(engine: Engine) -> str:
    """Return what `migrate` says."""
    with ProjectionGuard(engine, worker="external") as guard, pytest.raises(SchemaError) as it:
        guard.migrate()
    return str(it.value)


def test_no_tables(engine: Engine) -> None:
    """Nothing is there: run the migration."""
    assert said(engine).startswith("The guard's tables are not in the database; run guard.migrate()")


def test_a_table_that_was_dropped_is_named(migrated: Engine) -> None:
    """On record but gone: what is missing is named, by `migrate` too."""
    change(migrated, "DROP TABLE projection_streams")
    assert said(migrated) == said_by_migrate(migrated)
    assert f"{NEWEST} is on record, but of the guard's tables projection_streams is missing" in said(migrated)


def test_half_an_installation_is_named(migrated: Engine) -> None:
    """Some tables and no record: what is there, what is missing, what to do; after that it works."""
    change(migrated, f"DROP TABLE {VERSION_TABLE}", "DROP TABLE projection_streams", "DROP TABLE projection_states")
    assert said(migrated) == said_by_migrate(migrated)
    assert "Of the guard's tables projection_states, projection_streams are missing" in said(migrated)
    left = ours_in(migrated)
    assert f"Drop what it left ({', '.join(sorted(left))}), then run guard.migrate()" in said(migrated)
    change(migrated, *(f"DROP TABLE {name}" for name in left))
    with ProjectionGuard(migrated, worker="external") as guard:
        guard.migrate()
        guard.health()


def test_tables_without_a_record(migrated: Engine) -> None:
    """All tables and no record: adopt them."""
    change(migrated, f"DELETE FROM {VERSION_TABLE}")
    assert said(migrated) == said_by_migrate(migrated)
    assert "no revision is on record" in said(migrated)
    assert "projection_guard.migrations.adopt(connection)" in said(migrated)


def test_a_column_that_was_dropped_is_named(migrated: Engine) -> None:
    """A table of ours that somebody altered."""
    change(migrated, "ALTER TABLE projection_states DROP COLUMN reason")
    assert said(migrated) == said_by_migrate(migrated)
    assert "the table projection_states has no column reason: somebody has changed the database" in said(migrated)


@pytest.mark.parametrize("kind", ["TABLE projection_states (id INTEGER)", "VIEW projection_states AS SELECT 1 AS id"])
def test_a_foreign_table_is_never_installed_beside(engine: Engine, kind: str) -> None:
    """Somebody else's table or view under a name of ours: named with its column, and nothing is created."""
    change(engine, f"CREATE {kind}")
    assert said(engine) == said_by_migrate(engine)
    assert "the table projection_states has no column projection_name; nothing was created" in said(engine)
    assert ours_in(engine) <= {"projection_states"}


def test_an_added_column_is_the_owners_business(migrated: Engine) -> None:
    """As long as the guard can leave it out."""
    change(migrated, "ALTER TABLE projection_states ADD COLUMN team VARCHAR(20)")
    with ProjectionGuard(migrated, worker="external") as guard:
        guard.migrate()
        guard.health()


def test_a_newer_revision_is_accepted_while_it_has_only_expanded(migrated: Engine) -> None:
    """A worker of the version before goes on, and may even call `migrate` at its start."""
    change(
        migrated,
        f"UPDATE {VERSION_TABLE} SET version_num = 'projection_guard_9999'",
        "ALTER TABLE projection_states ADD COLUMN future INTEGER NOT NULL DEFAULT 0",
    )
    with ProjectionGuard(migrated, worker="external") as guard:
        guard.migrate()
        guard.health()


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("ALTER TABLE projection_states DROP COLUMN reason", "the table projection_states has no column reason"),
        ("DROP TABLE projection_attempts", "the table projection_attempts is gone"),
    ],
)
def test_a_newer_revision_that_has_contracted_is_too_new(migrated: Engine, statement: str, why: str) -> None:
    """What is gone is named, and the way out is to upgrade the package."""
    change(migrated, f"UPDATE {VERSION_TABLE} SET version_num = 'projection_guard_9999'", statement)
    assert said(migrated) == said_by_migrate(migrated)
    assert f"at projection_guard_9999, which is too new ({why}); upgrade the package" in said(migrated)


@pytest.mark.parametrize("name", ["alembic_version", "schema_history"])
def test_the_hosts_record_counts(migrated: Engine, name: str) -> None:
    """The host's Alembic runs our revisions: in its own version table, which it may call as it likes."""
    change(
        migrated,
        f"DROP TABLE {VERSION_TABLE}",
        f"CREATE TABLE {name} (version_num VARCHAR(32) NOT NULL)",
        f"INSERT INTO {name} VALUES ('1a2b3c'), ('{NEWEST}')",
    )
    with ProjectionGuard(migrated, worker="external") as guard:
        guard.migrate()
        guard.health()


def test_the_trap_of_the_path_separator_is_told(engine: Engine) -> None:
    """A host with Alembic, but without our tables, hears why that may be."""
    change(engine, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    assert "write path_separator = newline" in said(engine)


def test_a_check_is_cheap(migrated: Engine) -> None:
    """At most four queries on PostgreSQL; a SQLite file is asked about each table."""
    asked: list[str] = []
    event.listen(migrated, "before_cursor_execute", lambda *words: asked.append(words[2]))
    with migrated.begin() as connection:
        _schema.check(connection)
    assert 2 <= len(asked) <= (4 if migrated.dialect.name == "postgresql" else 4 + len(table_names))


def test_a_check_that_may_not_read_says_so(empty_postgres_url: str) -> None:
    """A refusal of the database becomes one sentence."""
    engine = create_engine(empty_postgres_url)
    with engine.begin() as connection:
        _schema.migrate(connection)
        connection.exec_driver_sql("SET LOCAL ROLE pg_monitor")
        with pytest.raises(SchemaError, match="could not be looked at: permission denied for table"):
            _schema.check(connection)
    engine.dispose()


# -- what only a release with a second revision would show

FIRST, SECOND, THIRD = "projection_guard_0001", "projection_guard_0002", "projection_guard_0003"
TWO = Revisions(newest=SECOND, known=frozenset({FIRST, SECOND}))


def found(*, own: str = "", hosts: str = "", tables: bool = True) -> Found:
    """Return what `look` finds in a database with all our columns and this on record."""
    complete = {name: dict.fromkeys(table.columns.keys(), True) for name, table in metadata.tables.items()}
    return Found(
        tables=complete if tables else {},
        own=frozenset(own.split()),
        hosts=frozenset(hosts.split()),
        host_uses_alembic=bool(hosts),
    )


@pytest.mark.parametrize(
    ("state", "upgrades", "complains"),
    [
        (found(tables=False), True, "are not in the database"),
        (
            found(own=FIRST),
            True,
            f"older than {SECOND}, which this version needs; run guard",
        ),
        (found(own=SECOND), False, None),
        (
            found(hosts=FIRST),
            False,
            f"older than {SECOND}.*; run alembic upgrade heads in",
        ),
        (found(hosts=SECOND), False, None),
        (found(own=FIRST, hosts=SECOND), False, None),
        (
            found(own=FIRST, hosts=FIRST),
            False,
            "run alembic upgrade heads in your own",
        ),
        (found(own=THIRD), False, None),
    ],
)
def test_who_is_to_upgrade(state: Found, upgrades: bool, complains: str | None) -> None:
    """What the host's Alembic made is the host's to upgrade; all else is `migrate`'s; what is newer is left alone."""
    assert is_ours_to_upgrade(state, TWO) is upgrades
    complaint = complaint_about(state, TWO)
    if complains is None:
        assert complaint is None
    else:
        with pytest.raises(SchemaError, match=complains):
            raise SchemaError(complaint)


def test_check_accepts_a_connection_of_any_state(migrated: Engine) -> None:
    """It reads only, so that it runs within whatever transaction there is."""

    def checked(connection: Connection) -> None:
        _schema.check(connection)
        assert connection.scalar(text("SELECT 1")) == 1

    with migrated.connect() as connection:
        checked(connection)
        connection.rollback()
        with connection.begin():
            checked(connection)
