"""A service with a log, to look at in the dashboard: its projections, what fails in them, and what people do about it.

scene = Scene(url, "Documents", "Search index")
scene.broken["Search index", "doc-7"] = "no text in this file"      # what that handler says of that stream's events
scene.append("DocumentUploaded", "doc-7", title="Minutes")
scene.work()
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, create_engine, text
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import Failure, ProjectionGuard, RetryPolicy, SqlEventSource
from tests.http.serving import Served, Way

__all__ = ["Recorded", "Scene"]

_LOG = """CREATE TABLE log (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id varchar(255) UNIQUE,
event_type varchar(255), stream_id varchar(255), title text)"""
_APPEND = "INSERT INTO log (event_id, event_type, stream_id, title) VALUES (:id, :type, :stream, :title)"


@dataclass(frozen=True)
class Recorded:
    """An event of the service."""

    event_id: str
    event_type: str
    stream_id: str
    sequence: int
    title: str


def _recorded(row: Mapping[str, Any]) -> Recorded:
    return Recorded(**row)


class Scene:
    """The service. Its own guard is that of another process than the one that serves the dashboard."""

    def __init__(self, url: str, *names: str, retry: RetryPolicy | None = None) -> None:
        self.url = url
        self.names = names
        self.broken: dict[tuple[str, str], str] = {}
        self.slow = threading.Event()
        self.slow.set()
        self._retry = retry or RetryPolicy(wait=wait_fixed(3600), stop=stop_after_attempt(2), breaker=None)
        self.engine = create_engine(url)
        with self.engine.begin() as connection:
            connection.execute(text(_LOG))
            connection.execute(text("CREATE TABLE kept (id INTEGER PRIMARY KEY)"))
        self._source = self._read()
        self.guard = ProjectionGuard(url, worker="external", source=self._source, retry=self._retry)
        self.register(self.guard, False)

    def _read(self) -> SqlEventSource:
        return SqlEventSource(self.url, "log", decode=_recorded)

    def register(self, guard: Any, is_async: bool) -> None:
        """Register the projections with a guard."""
        for name in self.names:
            tables = ("kept",) if name == self.names[-1] else ()  # one of them can be verified, and rebuilt beside
            guard.projection(name, handles=[Recorded], on_reset=_clear, tables=tables)(self._handler(name))

    def _handler(self, name: str) -> Any:
        def handle(event: Recorded, connection: Connection) -> None:
            self.slow.wait(30)
            said = self.broken.get((name, event.stream_id))
            if said is not None:
                raise ValueError(said)

        return handle

    def append(self, kind: str, stream: str, *, title: str, event_id: str | None = None) -> None:
        """Append an event to the log."""
        row = {"id": event_id or str(uuid4()), "type": kind, "stream": stream, "title": title}
        with self.engine.begin() as connection:
            connection.execute(text(_APPEND), row)

    def work(self) -> None:
        """Let a worker go round until the log is read to its end."""
        for name in self.names:
            self.guard.catch_up(name)
        self.guard.worker().run_once()

    def failure(self, name: str, stream: str) -> Failure:
        """Return the open failure of a stream."""
        (found,) = [each for each in self.guard.failures(name).items if each.stream_id == stream]
        return found

    @contextmanager
    def served(self, **options: Any) -> Generator[Served]:
        """Serve the dashboard, in FastAPI."""
        options = {"payloads_for": "operator", **options}
        told = {"source": self._read(), "retry": self._retry}
        with Way("fastapi", "blocking").serve(self.url, self.register, told, **options) as served:
            yield served

    def close(self) -> None:
        """End it."""
        self.guard.close()
        self._source.close()
        self.engine.dispose()


def _clear(connection: Connection) -> None:
    """There is nothing to clear: the handlers keep nothing."""
