"""An application of `eventsourcing` as a source, through the shipped conformance suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import pytest

from tests.libraries.eventsourcing_shop import Noted, change, environment

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'projection-guard[postgresql]'")

from eventsourcing.application import Application

from projection_guard._source import EventSource
from projection_guard.eventsourcing import ApplicationSource
from projection_guard.testing import PostgresServer
from projection_guard.testing.source_conformance import SourceConformance
from tests.turns import IS_EVERY


class ApplicationConformance(SourceConformance):
    """A log that an application writes, of events whose originators' ids are text."""

    application: Application[str]

    def begin(self, **settings: str) -> None:
        """Make the application, and its log."""
        self.versions: dict[str, int] = {}
        self.lock = Lock()
        self.application = Application(env={"ORIGINATOR_ID_TYPE": "text", **settings})

    def noted(self, stream_ids: Sequence[str]) -> list[Noted]:
        """Make the next event of each stream."""
        with self.lock:
            made = []
            for stream_id in stream_ids:
                self.versions[stream_id] = version = self.versions.get(stream_id, 0) + 1
                made.append(Noted(stream_id, version))
            return made

    def source(self) -> EventSource:
        return ApplicationSource(self.application)

    def append(self, *stream_ids: str) -> list[str]:
        made = self.noted(stream_ids)
        self.application.save(*made)
        return [f"{each.originator_id}:{each.originator_version}" for each in made]


class TestInMemory(ApplicationConformance):
    @pytest.fixture(autouse=True)
    def log(self) -> Iterator[None]:
        self.begin()
        yield
        self.application.close()


class TestOnSqlite(ApplicationConformance):
    @pytest.fixture(autouse=True)
    def log(self, tmp_path: Path) -> Iterator[None]:
        self.begin(**environment("sqlite", str(tmp_path / "log.db")))
        yield
        self.application.close()

    def remove(self, sequence: int) -> None:
        recorder: Any = self.application.recorder
        with recorder.datastore.transaction(commit=True) as cursor:
            cursor.execute("DELETE FROM stored_events WHERE rowid = ?", [sequence])

    def test_a_removed_sequence_is_not_used_again(self) -> None:
        pytest.skip(
            "the library's table on SQLite uses the number of a removed last event again: docs/eventsourcing.md"
        )


@pytest.fixture(scope="module")
def one_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for all logs of this file, one after the other."""
    with postgres_server.database() as url:
        yield url


class OnPostgresql(ApplicationConformance):
    """With a database of the library's own kind."""

    settings: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def log(self, one_postgres_url: str) -> Iterator[None]:
        self.url = one_postgres_url
        self.begin(**environment("postgresql", one_postgres_url), **self.settings)
        yield
        self.application.close()
        change(self.url, "DROP TABLE application_events CASCADE")

    def remove(self, sequence: int) -> None:
        change(self.url, f"DELETE FROM application_events WHERE notification_id = {sequence}")


class TestOnPostgresql(OnPostgresql):
    """The library inserts by a function, which takes no EXCLUSIVE lock: its transactions are side by side."""

    settings: ClassVar[dict[str, str]] = {"POSTGRES_ENABLE_DB_FUNCTIONS": "y"}

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        made = self.noted(stream_ids)
        application: Any = self.application
        recorder = application.recorder
        rows = [
            recorder.construct_pg_stored_event(*vars(application.mapper.to_stored_event(each)).values())
            for each in made
        ]
        with recorder.datastore.transaction(commit=True) as cursor:
            cursor.execute(recorder.sql_invoke_pg_function_insert_events, (rows,))
            yield [f"{each.originator_id}:{each.originator_version}" for each in made]


class TestOnPostgresqlLocked(OnPostgresql):
    """As the library writes by default: under an EXCLUSIVE lock, so that no two transactions write side by side.

    The same reading as above: it is here for whoever has the time.
    """

    __test__ = IS_EVERY
