"""An application of `eventsourcing` as a source: the shipped conformance suite, and what its recorders do to a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.libraries.eventsourcing_shop import Cart, Noted, Shop, environment

psycopg = pytest.importorskip("psycopg")

from eventsourcing.application import Application
from eventsourcing.dcb.application import DCBApplication
from eventsourcing.persistence import IntegrityError, Notification
from eventsourcing.utils import clear_topic_cache

from projection_guard import EventMapping
from projection_guard._source import EventSource, Share
from projection_guard.errors import ConfigurationError
from projection_guard.eventsourcing import ApplicationSource
from projection_guard.testing import PostgresServer
from projection_guard.testing.source_conformance import SourceConformance


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
        with self.lock_for_all():  # versions of a stream are given in the order in which they are saved
            made = self.noted(stream_ids)
            self.application.save(*made)
        return [f"{each.originator_id}:{each.originator_version}" for each in made]

    @contextmanager
    def lock_for_all(self) -> Iterator[None]:
        """Nobody else is kept out."""
        yield


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


class TestOnPostgresql(ApplicationConformance):
    """As the library writes by default: under an EXCLUSIVE lock, so that no two transactions write side by side."""

    settings: dict[str, str] = {}

    @pytest.fixture(autouse=True)
    def log(self, one_postgres_url: str) -> Iterator[None]:
        self.url = one_postgres_url
        self.begin(**environment("postgresql", one_postgres_url), **self.settings)
        yield
        self.application.close()
        self.change("DROP TABLE application_events CASCADE")

    def change(self, statement: str) -> None:
        """Change something past the library."""
        with psycopg.connect(self.url.replace("postgresql+psycopg", "postgresql")) as connection:
            connection.execute(statement)

    def remove(self, sequence: int) -> None:
        self.change(f"DELETE FROM application_events WHERE notification_id = {sequence}")


class TestOnPostgresqlWithFunctions(TestOnPostgresql):
    """`POSTGRES_ENABLE_DB_FUNCTIONS`: the library inserts by a function, which takes no EXCLUSIVE lock."""

    settings = {"POSTGRES_ENABLE_DB_FUNCTIONS": "y"}

    @contextmanager
    def append_in_open_transaction(self, *stream_ids: str) -> Iterator[list[str]]:
        made = self.noted(stream_ids)
        mapper, recorder = self.application.mapper, self.application.recorder
        stored = [mapper.to_stored_event(each) for each in made]  # type: ignore[arg-type]
        rows = [recorder.construct_pg_stored_event(*(vars(each).values())) for each in stored]
        with recorder.datastore.transaction(commit=True) as cursor:
            cursor.execute(recorder.sql_invoke_pg_function_insert_events, (rows,))
            yield [f"{each.originator_id}:{each.originator_version}" for each in made]
