"""A server, the guard of "another process", and projections whose failures are planned, on one database."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import wait_fixed

from projection_guard import AsyncSqlEventSource, Failure, RetryPolicy, SqlEventSource
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import Planned
from tests.following.logs import FollowedLog, rebuilt
from tests.http.serving import Served, Way

__all__ = ["Stage"]


class Stage:
    """What a test of the routes plays on. Serve once everything is planned."""

    def __init__(self, bed: Bed, way: Way) -> None:
        self.bed = bed
        self.way = way
        self._open = ExitStack()
        self.planned = [Planned("P")]
        self.log: FollowedLog | None = None
        self.tables: list[str] = []
        self.order = "stream"
        self._guard: GuardOnBed | None = None

    @property
    def guard(self) -> GuardOnBed:
        """The guard of another process."""
        if self._guard is None:
            options = self._options(False)
            if "source" in options:
                self.bed.on_close(options["source"].close)
            self._guard = self.bed.guard(**options)
            self.register(self._guard.real, False)
        return self._guard

    @property
    def handler(self) -> Planned:
        """What "P" does."""
        return self.planned[0]

    def also(self, name: str) -> Planned:
        """Plan another projection."""
        self.planned.append(Planned(name))
        return self.planned[-1]

    def follow(self) -> FollowedLog:
        """Let the projections follow a log."""
        self.log = FollowedLog(self.bed)
        return self.log

    def _options(self, is_async: bool) -> dict[str, Any]:
        options: dict[str, Any] = {"retry": RetryPolicy(wait=wait_fixed(3600))}
        if self.log is not None:
            kind = AsyncSqlEventSource if is_async else SqlEventSource
            options["source"] = kind(self.bed.url, "log", decode=rebuilt)
        return options

    def register(self, guard: Any, is_async: bool) -> None:
        """Register what is planned with a guard."""
        for planned in self.planned:
            handler: Any = planned.joined
            if is_async:
                handler = _awaited(planned)
            clear = _clear_async if is_async else _clear
            guard.projection(planned.name, handles=[Happened], on_reset=clear, tables=self.tables, order=self.order)(
                handler
            )

    def serve(self, **options: Any) -> Served:
        """Start a server."""
        return self._open.enter_context(
            self.way.serve(self.bed.url, self.register, self._options(self.way.is_async), **options)
        )

    def failed(self, stream: str = "A", *, parked: int = 0) -> Failure:
        """Let the first event of a stream fail, with others parked behind it."""
        self.handler.failing.add(f"{stream}#1")
        for n in range(1, parked + 2):
            self.guard.publish(happened(stream, n))
        (found,) = [failure for failure in self.guard.failures("P").items if failure.stream_id == stream]
        assert isinstance(found, Failure)
        return found

    def close(self) -> None:
        """Stop the servers."""
        self._open.close()


def _awaited(planned: Planned) -> Any:
    async def handler(event: Happened, connection: AsyncConnection) -> None:
        await connection.run_sync(lambda sync: planned.joined(event, sync))

    return handler


def _clear(connection: Any) -> None:
    connection.exec_driver_sql("DELETE FROM effects")


async def _clear_async(connection: Any) -> None:
    await connection.exec_driver_sql("DELETE FROM effects")
