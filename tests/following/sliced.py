"""Rebuilds in slices, for their tests: a read model that tells any other order, and guards for other processes.

`factory(bed, ...)` names a guard by what a task can import: all that it has to know stands in the attribute's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, make_url, text
from tenacity import wait_fixed

from projection_guard import AsyncProjectionGuard, AsyncSqlEventSource, ProjectionGuard, RetryPolicy, SqlEventSource
from tests.bed import Bed, GuardOnBed, Happened
from tests.faults import forked  # it says what a fork server imports once
from tests.following.logs import FollowedLog, rebuilt

Handler = Callable[[Happened, Connection], None]
__all__ = ["LATER", "PROGRAM", "Chains", "factory", "pool_of"]

PROGRAM = "tests.following.sliced"
LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def pool_of(processes: int) -> ProcessPoolExecutor:
    """Make a pool of processes that begin in milliseconds, and inherit nothing of ours."""
    return ProcessPoolExecutor(processes, mp_context=forked.context)


def chain(event: Happened, connection: Connection) -> None:
    """Add an event to its stream's chain of digests: another order, or an event more, and it ends otherwise."""
    found = connection.execute(text("SELECT digest FROM chains WHERE stream = :s"), {"s": event.stream_id})
    before = found.scalar_one_or_none()
    digest = hashlib.sha256(f"{before} {event.event_id}".encode()).hexdigest()
    values = {"s": event.stream_id, "d": digest}
    if before is None:
        connection.execute(text("INSERT INTO chains (stream, digest, length) VALUES (:s, :d, 1)"), values)
    else:
        connection.execute(text("UPDATE chains SET digest = :d, length = length + 1 WHERE stream = :s"), values)


def clear(connection: Connection) -> None:
    """Clear it."""
    connection.execute(text("DELETE FROM chains"))


def stand(mark: Path) -> None:
    """Say that an event is being handled, and go on with it when somebody has written into the mark."""
    mark.touch()
    while not mark.read_text():
        time.sleep(0.005)


def body(order: dict[str, Any], on_event: Callable[[Happened], object] | None = None) -> Handler:
    """Return the handler: some events fail, one kills its process the first time, one stands, each takes a while."""

    def handler(event: Happened, connection: Connection) -> None:
        if on_event is not None:
            on_event(event)
        if event.event_id in order.get("failing", ()):
            raise ValueError(event.event_id)
        if event.event_id == order.get("kills_at") and not Path(order["mark"]).exists():
            if not order.get("kills_always"):
                Path(order["mark"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if event.event_id == order.get("stands_at"):
            stand(Path(order["mark"]))
        if order.get("pause"):
            time.sleep(order["pause"])
        chain(event, connection)

    return handler


class Chains:
    """A log, a guard that follows it here, and its read model."""

    def __init__(self, bed: Bed, on_event: Callable[[Happened], object] | None = None, **order: Any) -> None:
        self.bed = bed
        self.order = order
        self.on_event = on_event
        self.log = FollowedLog(bed)
        bed.change("CREATE TABLE chains (stream varchar(50) PRIMARY KEY, digest varchar(64), length integer)")
        self.guard = self.made(**order)

    def made(self, **order: Any) -> GuardOnBed:
        """Return a guard in this process."""
        guard = self.log.guard(retry=LATER, lease=timedelta(seconds=order.get("lease", 1.0)))
        register(guard.real, body(order, self.on_event), order, is_async=self.bed.is_async)
        return guard

    def model(self) -> dict[str, tuple[str, int]]:
        """Read the read model."""
        return {row.stream: (row.digest, row.length) for row in self.bed.rows("SELECT * FROM chains")}

    def expected(self, *without: str) -> dict[str, tuple[str, int]]:
        """Return what it is to be; of a stream, what comes before an event that is `without` effect."""
        model: dict[str, tuple[str, int]] = {}
        stopped: set[str] = set()
        for event in self.log.appended:
            if event.event_id in without:
                stopped.add(event.stream_id)
            if event.stream_id in stopped:
                continue
            before, length = model.get(event.stream_id, (None, 0))
            digest = hashlib.sha256(f"{before} {event.event_id}".encode()).hexdigest()
            model[event.stream_id] = (digest, length + 1)
        return model

    def factory(self, **order: Any) -> str:
        """Name a guard for another process."""
        return factory(self.bed, **{**self.order, **order})


def register(guard: Any, handler: Handler, order: dict[str, Any], *, is_async: bool) -> None:
    """Register the projection "P"."""
    options = {name: order[name] for name in ("order", "tables", "partitions") if name in order}
    if not is_async:
        guard.projection(order.get("name", "P"), handles=[Happened], on_reset=clear, **options)(handler)
        return

    async def awaited(event: Happened, connection: Any) -> None:
        await connection.run_sync(lambda sync: handler(event, sync))

    async def on_reset(connection: Any) -> None:
        await connection.run_sync(clear)

    guard.projection(order.get("name", "P"), handles=[Happened], on_reset=on_reset, **options)(awaited)


def factory(bed: Bed, **order: Any) -> str:
    """Name a guard for another process."""
    said = json.dumps({"url": bed.url, "is_async": bed.is_async, **order}).encode().hex()
    return f"{PROGRAM}:make_{said}"


def __getattr__(name: str) -> Callable[[], object]:
    if not name.startswith("make_"):
        raise AttributeError(name)
    order = json.loads(bytes.fromhex(name.removeprefix("make_")))

    def make() -> object:
        lease, url = timedelta(seconds=order.get("lease", 1.0)), order["url"]
        in_order = make_url(url).get_backend_name() == "mysql"
        guard: Any
        if order["is_async"]:
            source: Any = AsyncSqlEventSource(url, "log", decode=rebuilt, in_order=in_order)
            guard = AsyncProjectionGuard(url, source=source, retry=LATER, lease=lease, worker="external")
        else:
            source = SqlEventSource(url, "log", decode=rebuilt, in_order=in_order)
            guard = ProjectionGuard(url, source=source, retry=LATER, lease=lease, worker="external")
        register(guard, body(order), order, is_async=order["is_async"])
        return guard

    return make


def coordinate(order: dict[str, Any]) -> None:
    """Begin a rebuild with processes of one's own, in the middle of which one is killed."""
    named = f"{PROGRAM}:make_{json.dumps(order).encode().hex()}"
    guard: Any = __getattr__(named.partition(":")[2])()
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        guard.rebuild("P", executor=pool, guard_factory=named, actor="a coordinator")


if __name__ == "__main__":
    coordinate(json.loads(sys.argv[1]))
