"""`db adopt` moves over a tracker that an application has made by hand: nothing is lost, and nothing half done."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from projection_guard import ProjectionGuard, _desk
from projection_guard.cli._main import main
from tests.migrations import tracked
from tests.migrations.conftest import ours_in
from tests.migrations.tracked import add, make_log, make_tracker

AT = "2026-01-02 03:04:05.678"
TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/projections/documents.py", line 31, in handle
    title = event.data["title"]
KeyError: 'title'
"""


def number(n: int) -> str:
    """Make an id that is a UUID."""
    return str(UUID(int=n))


def failure(n: int, **more: object) -> dict[str, object]:
    """Make a failure of the tracker's, of event n."""
    told: dict[str, object] = {
        "id": number(1000 + n),
        "event_id": number(n),
        "event_type": "Uploaded",
        "projection_name": "Documents",
        "error_message": "'title'",
        "error_traceback": TRACEBACK,
        "retry_count": 3,
        "failed_at": AT,
        "next_retry_at": AT,
        "resolved_at": None,
        "resolution_method": None,
    }
    return told | more


class Place:
    """A database with a tracker in it, and the command beside it."""

    def __init__(self, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
        self.engine = engine
        self._capsys = capsys

    @property
    def url(self) -> str:
        return self.engine.url.render_as_string(hide_password=False)

    def adopt(self, *words: str, code: int = 0, app: bool = False) -> Any:
        """Run the command; return its answer, or what was refused."""
        where = ("--app", "tests.migrations.tracked:guard") if app else ("--database", self.url)
        self._capsys.readouterr()
        assert main(["db", "adopt", *where, "--actor", "alice", "--json", *words]) == code
        wrote = self._capsys.readouterr()
        return json.loads(wrote.out or wrote.err)

    def rows(self, sql: str, **parameters: object) -> list[Any]:
        """Look."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), parameters))

    def write(self, sql: str, **parameters: object) -> None:
        """Write."""
        with self.engine.begin() as connection:
            connection.execute(text(sql), parameters)

    def everything(self) -> dict[str, list[str]]:
        """Return all tables with all rows, to say later that nothing has changed."""
        names = inspect(self.engine).get_table_names()
        return {name: sorted(map(repr, self.rows(f"SELECT * FROM {name}"))) for name in names}


@pytest.fixture
def place(engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    """An empty database, once SQLite and once PostgreSQL."""
    made = Place(engine, capsys)
    monkeypatch.setenv("TRACKED_DATABASE", made.url)
    monkeypatch.delenv("TRACKED_LOG", raising=False)
    return made


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    """An empty database of SQLite's: for what no database takes part in."""
    engine = create_engine(f"sqlite:///{tmp_path / 'tracked.db'}")
    made = Place(engine, capsys)
    monkeypatch.setenv("TRACKED_DATABASE", made.url)
    yield made
    engine.dispose()


@pytest.fixture
def postgres(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    """An empty database of PostgreSQL's."""
    with ExitStack() as stack:
        engine = create_engine(empty_postgres_url)
        stack.callback(engine.dispose)
        monkeypatch.setenv("TRACKED_DATABASE", empty_postgres_url)
        yield Place(engine, capsys)


@contextmanager
def application() -> Iterator[ProjectionGuard]:
    """The application's guard, in this process."""
    made = tracked.guard()
    with made:
        yield made
    _desk.engine_of(made).dispose()


def fill(connection: Connection) -> None:
    """Let the tracker have written what trackers write, odd rows included."""
    make_tracker(connection, team="text")
    add(
        connection,
        "projection_failures",
        failure(1, team="red"),
        failure(2, team="red", retry_count=5, next_retry_at=None),
        failure(3, team=None, resolved_at=AT, resolution_method="manual_skip"),
        failure(4, team=None, resolved_at=AT, resolution_method="patched"),
        failure(5, team=None, projection_name=None),
        failure(1, team="blue", id=number(2001), failed_at="2026-01-01 00:00:00", error_message="older"),
        failure(6, team=None, projection_name="Search"),
    )
    add(
        connection,
        "projection_checkpoints",
        {"projection_name": "Documents", "last_event_id": number(7), "last_event_sequence": 7, "events_processed": 40},
    )
    add(
        connection,
        "projection_health_metrics",
        {"projection_name": "Documents", "total_events_processed": 40, "total_failures": 9, "active_failures": 9},
    )


def test_every_row_is_moved_or_kept_aside_and_counted(place: Place) -> None:
    """Ids, times, counts and resolutions are what they were; the newest of two rows of one event stays unresolved."""
    with place.engine.begin() as connection:
        fill(connection)
    before = place.everything()
    told = place.adopt("--yes")
    failures = told["tables"][0]
    assert (failures["rows"], failures["moved"], failures["parked"], failures["aside_only"]) == (7, 6, 0, 1)
    assert failures["extra_columns"] == ["team"]
    assert [(each["name"], each["resolved"], each["waits"]) for each in told["projections"]] == [
        ("Documents", 3, 2),
        ("Search", 0, 1),
    ]
    notes = "\n".join(told["notes"])
    assert "1 rows of projection_failures without the name of a projection" in notes
    assert "resolved as 'patched'" in notes
    for table in before:
        assert place.everything()[f"{table}_before_adopt"] == before[table]
    with ProjectionGuard(place.engine, worker="external") as guard:
        guard.projection("Documents", handles=["Uploaded"])(lambda event, connection: None)
        first = guard.failure(number(1001))
        assert (first.event_id, first.error_type, first.retry_count) == (number(1), "KeyError", 3)
        assert first.failed_at == datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
        assert guard.failure(number(2001)).resolved_by == f"projection-guard db adopt: {number(1001)} is newer"
        assert guard.failure(number(1003)).resolution_method == "manual_skip"
        health = guard.health("Documents")
        assert (health.active_failures, health.total_failures, health.total_events_processed) == (2, 9, 40)
        assert guard.checkpoint("Documents").last_event_sequence == 7
        (entry, *_) = guard.audit("Documents").items
        assert (entry.actor, entry.action) == ("alice", "adopt")
        assert '"active_failures_by_the_tracker": 9' in json.dumps(entry.details)
    again = place.adopt("--yes")
    assert again["is_newest"]


def test_looking_changes_nothing_and_tells_the_same(sqlite: Place) -> None:
    """Without `--yes`."""
    with sqlite.engine.begin() as connection:
        fill(connection)
    before = sqlite.everything()
    looked = sqlite.adopt()
    assert sqlite.everything() == before
    done = sqlite.adopt("--yes")
    assert (looked["is_done"], done["is_done"]) == (False, True)
    assert {**looked, "is_done": True} == done


def test_what_cannot_be_moved_leaves_everything_as_it_was(place: Place) -> None:
    """Two failures of one id, in a tracker without a key: the database refuses the second, and all is undone."""
    with place.engine.begin() as connection:
        connection.execute(text("CREATE TABLE projection_failures (id text, event_id text, projection_name text)"))
        same = {"id": number(1), "event_id": "e-1", "projection_name": "Documents"}
        add(connection, "projection_failures", same, same)
    before = place.everything()
    assert "could not be adopted; nothing was changed" in place.adopt("--yes", code=4)["detail"]
    assert place.everything() == before
    place.write("ALTER TABLE projection_failures RENAME COLUMN event_id TO event")
    assert "no column for event_id" in place.adopt(code=4)["detail"]


def test_times_without_a_zone_are_of_the_zone_that_is_named(sqlite: Place) -> None:
    """Summer time and winter time; without a name it is UTC, and a name that is none is refused."""
    with sqlite.engine.begin() as connection:
        make_tracker(connection)
        add(connection, "projection_failures", failure(1), failure(2, failed_at="2026-07-02 03:04:05"))
    assert "no time zone 'Mars'" in sqlite.adopt("--timezone", "Mars", code=2)["detail"]
    sqlite.adopt("--timezone", "Europe/Berlin", "--yes")
    with ProjectionGuard(sqlite.engine, worker="external") as guard:
        hours = [guard.failure(number(1000 + n)).failed_at.hour for n in (1, 2)]
    assert hours == [2, 1]


def test_a_pushed_projections_failures_are_retried_if_their_payload_is_an_event(sqlite: Place) -> None:
    """The others wait for a person, and say why."""
    with sqlite.engine.begin() as connection:
        make_tracker(connection, event_data="json" if sqlite.engine.dialect.name == "postgresql" else "text")
        event = {"event_id": number(1), "event_type": "Uploaded", "stream_id": "a"}
        add(
            connection,
            "projection_failures",
            failure(1, event_data=json.dumps(event)),
            failure(2, event_data=json.dumps({"title": "no event"})),
            failure(3, event_data=None),
        )
    make_log(sqlite.engine)
    told = sqlite.adopt("--yes", app=True)
    assert [(each["retried"], each["waits"]) for each in told["projections"]] == [(1, 2)]
    with application() as guard:
        guard.worker().run_once()
        assert guard.failure(number(1001)).resolution_method == "auto_retry"
        assert "does not become one that this projection takes" in guard.failure(number(1002)).error_message
        assert "no source to read it from" in guard.failure(number(1003)).error_message
        assert guard.health("Documents").active_failures == 2
    assert sqlite.rows("SELECT stream FROM noted") == [("a",)]


def test_a_followed_projection_goes_on_where_it_was_and_heals_in_order(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log tells streams and sequences, which the tracker does not know; nothing is applied again."""
    monkeypatch.setenv("TRACKED_LOG", "1")
    make_log(place.engine)
    with place.engine.begin() as connection:
        make_tracker(connection)
        add(
            connection,
            "events",
            *({"event_id": number(n), "event_type": "Uploaded", "stream_id": "ab"[n % 2]} for n in range(1, 9)),
        )
        add(connection, "projection_failures", failure(5), failure(3, failed_at="2026-02-02 00:00:00"), failure(99))
        checkpoint = {"projection_name": "Documents", "last_event_id": number(6), "last_event_sequence": 60}
        add(connection, "projection_checkpoints", checkpoint)
    told = place.adopt("--yes", app=True)
    (moved,) = told["projections"]
    assert (moved["begins_after"], moved["retried"], moved["parked"], moved["waits"]) == (6, 1, 1, 1)
    assert "the event log has no event of this id" in "\n".join(told["notes"])
    with application() as guard:
        assert guard.checkpoint("Documents").last_event_sequence == 6
        guard.catch_up("Documents")
        for _ in range(3):
            guard.worker().run_once()
        assert guard.checkpoint("Documents").last_event_sequence == 8
        assert guard.health("Documents").active_failures == 1
    noted = [UUID(row.event_id).int for row in place.rows("SELECT event_id FROM noted ORDER BY n")]
    assert sorted(noted) == [3, 5, 7, 8]
    assert [each for each in noted if each % 2] == [3, 5, 7]


# -- PostgreSQL: schemas, views, who may read, and an application that goes on writing


def test_their_tables_may_be_in_another_schema_and_their_dashboards_see_the_old_shape(postgres: Place) -> None:
    """Views take the place of the tables that were set aside: with their types, and with their own columns."""
    with postgres.engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA app"))
        make_tracker(connection, "app", team="text")
        add(connection, "projection_failures", failure(1, team="red"), schema="app")
    told = postgres.adopt("--schema", "guard", "--from-schema", "app", "--views", "app", "--yes")
    assert told["views"][0] == "app.projection_failures"
    assert ours_in(postgres.engine, "guard")
    (row,) = postgres.rows(
        "SELECT event_id, failed_at, team FROM app.projection_failures WHERE event_id = :e", e=UUID(int=1)
    )
    assert (row.event_id, row.failed_at, row.team) == (UUID(int=1), datetime.fromisoformat(AT), "red")


def test_who_could_read_the_trackers_tables_can_read_the_guards(postgres: Place) -> None:
    """A dashboard's role; and one role that could do everything still can."""
    with postgres.engine.begin() as connection:
        make_tracker(connection)
        connection.execute(text("DROP ROLE IF EXISTS adopt_dashboard"))
        connection.execute(text("CREATE ROLE adopt_dashboard"))
        connection.execute(text("GRANT SELECT ON projection_failures TO adopt_dashboard"))
        add(connection, "projection_failures", failure(1))
    postgres.adopt("--yes", "--views", "old")
    with postgres.engine.begin() as connection:
        connection.execute(text("SET LOCAL ROLE adopt_dashboard"))
        for table in ("projection_failures", "old.projection_failures"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 1
    postgres.write("DROP OWNED BY adopt_dashboard")
    postgres.write("DROP ROLE adopt_dashboard")


def test_who_could_read_some_columns_only_can_read_those_and_no_others(postgres: Place) -> None:
    """Under the guard's names for them in its table, under their own in the view; one the guard lacks is there only."""
    with postgres.engine.begin() as connection:
        make_tracker(connection, team="text", aggregate_id="text")
        connection.execute(text("DROP ROLE IF EXISTS adopt_columns"))
        connection.execute(text("CREATE ROLE adopt_columns"))
        connection.execute(
            text("GRANT SELECT (event_id, aggregate_id, team), REFERENCES (id) ON projection_failures TO adopt_columns")
        )
        add(connection, "projection_failures", failure(1, team="red", aggregate_id="A"))
    postgres.adopt("--yes", "--views", "old")
    with postgres.engine.begin() as connection:
        connection.execute(text("SET LOCAL ROLE adopt_columns"))
        assert connection.scalar(text("SELECT event_id FROM projection_failures")) == number(1)
        assert connection.scalar(text("SELECT stream_id FROM projection_failures")) == "A"
        assert connection.execute(text("SELECT aggregate_id, team FROM old.projection_failures")).one() == ("A", "red")
    for what in ("error_message FROM projection_failures", "error_message FROM old.projection_failures"):
        with postgres.engine.begin() as connection:
            connection.execute(text("SET LOCAL ROLE adopt_columns"))
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text(f"SELECT {what}"))
    postgres.write("DROP OWNED BY adopt_columns")
    postgres.write("DROP ROLE adopt_columns")


def test_a_view_and_a_foreign_key_are_in_the_way_and_named(postgres: Place) -> None:
    """They would silently go on with the table that is set aside."""
    with postgres.engine.begin() as connection:
        make_tracker(connection)
        connection.execute(text("CREATE VIEW open_failures AS SELECT * FROM projection_failures"))
        connection.execute(text("CREATE TABLE tickets (failure uuid REFERENCES projection_failures)"))
    (key, view) = postgres.adopt(code=1)["in_the_way"]
    assert ("of tickets" in key, view) == (True, "the view open_failures (of projection_failures)")
    assert "the view open_failures" in postgres.adopt("--yes", code=4)["detail"]
    assert ours_in(postgres.engine) == set(tracked.TABLES)


def test_what_the_application_commits_while_it_is_waited_for_is_moved_too(postgres: Place) -> None:
    """The tables are locked before they are read."""
    with postgres.engine.begin() as connection:
        make_tracker(connection)
    answers: list[Any] = []
    with postgres.engine.begin() as connection:
        add(connection, "projection_failures", failure(1))
        adopting = threading.Thread(target=lambda: answers.append(postgres.adopt("--yes")))
        adopting.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while adopting.is_alive() and not postgres.rows(waits)[0][0]:
            time.sleep(0.02)
    adopting.join(60)
    assert answers[0]["tables"][0]["moved"] == 1
    with pytest.raises(Exception, match="null value in column"):  # it is told at once that its tables are not its own
        postgres.write("INSERT INTO projection_checkpoints (projection_name, last_event_sequence) VALUES ('Other', 1)")
