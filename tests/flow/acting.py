"""What the tests of the flow are told with: handlers whose failures are planned, two things at once, looks at the rows.

planned = Planned("P", "A#1")              # fails on A#1 as long as `planned.failing` says so
bed.joined(guard, "P", planned.joined)
calls_of(bed, [lambda: publish(event)] * 20)     # threads, or tasks of the bed's loop
states_of(bed, "P")["A#1"]                 # "failed"; fails where an event is in two states or in none
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Connection, insert, literal, text, update
from tenacity import wait_fixed

from projection_guard import Failure, RetryPolicy, acting_for
from projection_guard._dialect import moved
from projection_guard._tables import metadata
from projection_guard.testing import failing
from tests.bed import Bed, GuardOnBed, Happened, effects, happened

__all__ = [
    "Going",
    "Planned",
    "Valve",
    "active_equals_open_rows",
    "audit",
    "calls_of",
    "clears",
    "going",
    "listed",
    "make_due",
    "one_failure",
    "shift",
    "snapshot",
    "states_of",
    "statuses",
    "with_failure",
    "within",
    "work_until_done",
]


def listed(name: str) -> Callable[[Happened, Connection], None]:
    """Return a joined handler that notes each event in `effects`; several projections may do so side by side."""

    def body(event: Happened, connection: Connection) -> None:
        connection.execute(insert(effects).values(projection=name, stream=event.stream_id, n=event.n))

    return body


class Planned:
    """A handler that notes each event and then fails on those in `failing`: what it noted has to be undone then."""

    def __init__(
        self,
        name: str,
        *failing_on: str,
        error: Callable[[], BaseException] | None = None,
        note: Callable[[Happened, Connection], None] | None = None,
    ) -> None:
        self.name = name
        self.failing = set(failing_on)
        self.calls: list[str] = []
        self.done: list[tuple[str, int]] = []
        self._note = note or listed(name)
        self._error = error or (lambda: ValueError("planned"))
        options: dict[str, Any] = {"on": self.fails_on, "error": lambda: self._error()}  # noqa: PLW0108 - tests set another one
        self.joined = failing(self._joined, **options)
        self._apart = failing(self._do, when="before", **options)

    def register(self, bed: Bed, guard: GuardOnBed, kind: str, **options: Any) -> Any:
        """Register this handler, "joined" or "apart", under its name."""
        if kind == "joined":
            return bed.joined(guard, self.name, self.joined, **options)
        return bed.apart(guard, self.name, self.apart, **options)

    def _joined(self, event: Happened, connection: Connection) -> None:
        """Write through the guard's transaction."""
        self.calls.append(event.event_id)
        self._note(event, connection)

    def apart(self, event: Happened) -> None:
        """Write elsewhere: into `done`."""
        self.calls.append(event.event_id)
        self._apart(event)

    def _do(self, event: Happened) -> None:
        self.done.append((event.stream_id, event.n))

    def fails_on(self, event: Happened) -> bool:
        """Return whether this event is to fail now."""
        return event.event_id in self.failing

    def heal(self) -> None:
        """Fail no more."""
        self.failing.clear()


def statuses(outcomes: Sequence[Any]) -> list[str]:
    """Return what became of an event in each projection."""
    return [outcome.status.value for outcome in outcomes]


def one_failure(guard: GuardOnBed, name: str | None = None) -> Failure:
    """Return the only unresolved failure."""
    (failure,) = guard.failures(name).items
    assert isinstance(failure, Failure)
    return failure


def states_of(bed: Bed, projection: str) -> dict[str, str]:
    """Return the state of every event of a projection; no event may be in two at once (P1)."""
    found = bed.rows(
        """
        SELECT event_id, how AS state FROM projection_applied_events WHERE projection_name = :p
        UNION ALL SELECT event_id, 'failed' FROM projection_failures
            WHERE projection_name = :p AND resolved_at IS NULL
        UNION ALL SELECT event_id, 'parked' FROM projection_parked_events WHERE projection_name = :p
        """,
        p=projection,
    )
    twice = [event_id for event_id, times in Counter(row.event_id for row in found).items() if times > 1]
    assert not twice, f"in two states at once: {twice}"
    return {row.event_id: row.state for row in found}


def active_equals_open_rows(bed: Bed) -> bool:
    """Return whether `active_failures` equals the number of unresolved rows, for each projection (P6)."""
    wrong = bed.rows(
        """
        SELECT m.projection_name, m.active_failures FROM projection_health_metrics m
        WHERE m.active_failures <> (SELECT count(*) FROM projection_failures f
            WHERE f.projection_name = m.projection_name AND f.resolved_at IS NULL)
        """
    )
    return not wrong


def make_due(bed: Bed) -> None:
    """Make due what is planned or lent, in the order in which it was, and nothing else older: not as `advance` does."""
    for table, column in (
        ("projection_failures", "next_retry_at"),
        ("projection_failures", "lease_expires_at"),
        ("projection_states", "probe_at"),
    ):
        shift(bed, table, column, -30 * 86_400)


def shift(bed: Bed, table: str, column: str, seconds: float) -> None:
    """Move a time in every row of a table."""
    times = metadata.tables[table].c[column]
    older = update(times.table).where(times.is_not(None)).values({column: moved(times, literal(seconds))})
    bed.past_the_library(lambda connection: connection.execute(older))


_TABLES = (
    "effects",
    "counted",
    "projection_failures",
    "projection_parked_events",
    "projection_applied_events",
    "projection_streams",
    "projection_checkpoints",
    "projection_health_metrics",
    "projection_states",
    "projection_attempts",
    "projection_audit_log",
    "projection_amendments",
)


def snapshot(bed: Bed) -> dict[str, list[str]]:
    """Return every row of every table, to say later that nothing has changed."""
    return {table: sorted(repr(row) for row in bed.rows(f"SELECT * FROM {table}")) for table in _TABLES}


def work_until_done(bed: Bed, guard: GuardOnBed, *names: str) -> None:
    """Do rounds of a worker until nothing is failed or parked any more."""

    def is_done() -> bool:
        guard.work()
        healths = [guard.health(name) for name in names or ("P",)]
        return all(health.active_failures == health.parked_events == 0 for health in healths)

    bed.wait_until(is_done)


def calls_of(bed: Bed, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make calls at once, in threads or as tasks of the bed's loop; return results and errors in their order."""
    if bed.is_async:

        async def all_of_them() -> list[Any]:
            return list(await asyncio.gather(*(call() for call in calls), return_exceptions=True))

        tasks_results: list[Any] = bed.run(all_of_them())
        return tasks_results
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def make(place: int) -> None:
        start.wait()
        try:
            results[place] = calls[place]()
        except BaseException as error:
            results[place] = error

    threads = [threading.Thread(target=make, args=(place,), daemon=True) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


class Going:
    """A call that is under way beside the test."""

    def __init__(self) -> None:
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        assert self.is_done
        if self.error is not None:
            raise self.error
        return self.result


def going(bed: Bed, call: Callable[[], Any]) -> Going:
    """Begin a call in a thread, or as a task of the bed's loop (which goes on while the test waits on a condition)."""
    under_way = Going()

    async def awaited() -> None:
        try:
            result = call()
            under_way.result = await result if inspect.isawaitable(result) else result
        except BaseException as error:
            under_way.error = error
        under_way.is_done = True

    def in_thread() -> None:
        try:
            under_way.result = call()
        except BaseException as error:
            under_way.error = error
        under_way.is_done = True

    if bed.is_async:

        async def begin() -> None:
            _kept.add(task := asyncio.get_running_loop().create_task(awaited()))
            task.add_done_callback(_kept.discard)

        bed.run(begin())
    else:
        threading.Thread(target=in_thread, daemon=True).start()
    return under_way


_kept: set[asyncio.Task[None]] = set()


class Valve:
    """Stops a handler in the middle, until the test opens it. Wait with `bed.wait_until(lambda: valve.reached)`."""

    def __init__(self, bed: Bed) -> None:
        self.reached = 0
        self._is_async = bed.is_async
        self._opened = threading.Event()

    def open(self) -> None:
        """Let everybody through."""
        self._opened.set()

    def close(self) -> None:
        """Stop whoever comes next."""
        self._opened.clear()

    def joined(self, body: Callable[[Any, Connection], object]) -> Callable[..., Any]:
        """Return a joined handler that does `body`, and then waits."""
        if not self._is_async:

            def handler(event: Any, connection: Connection) -> None:
                body(event, connection)
                self._wait()

            return handler

        async def async_handler(event: Any, connection: Any) -> None:
            await connection.run_sync(lambda sync: body(event, sync))
            await self._awaited()

        return async_handler

    def apart(self, body: Callable[[Any], object], only: str | None = None) -> Callable[..., Any]:
        """Return an apart handler that waits (with `only` this event), and then does `body`."""
        if not self._is_async:

            def handler(event: Any) -> None:
                if only in (None, event.event_id):
                    self._wait()
                body(event)

            return handler

        async def async_handler(event: Any) -> None:
            if only in (None, event.event_id):
                await self._awaited()
            body(event)

        return async_handler

    def _wait(self) -> None:
        self.reached += 1
        assert self._opened.wait(30), "the test never opened the valve"

    def _awaited(self) -> Awaitable[None]:
        async def wait() -> None:
            self.reached += 1
            end = time.monotonic() + 30
            while not self._opened.is_set():
                assert time.monotonic() < end, "the test never opened the valve"
                await asyncio.sleep(0.005)

        return wait()


def with_failure(bed: Bed, *events: Happened, kind: str = "joined") -> tuple[GuardOnBed, Planned]:
    """Return a guard on which A#1 has failed and the other events have been published."""
    guard, planned = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=None)), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    for event in (happened("A", 1, 1), *events):
        guard.publish(event)
    return guard, planned


def within(bed: Bed, request: str, call: Callable[[], Any]) -> Any:
    """Make a call for a request; on the async bed in the task of that request."""

    async def awaited() -> Any:
        with acting_for(request):
            return await call()

    if bed.is_async:
        return bed.run(awaited())
    with acting_for(request):
        return call()


def audit(bed: Bed) -> list[tuple[Any, ...]]:
    """Return what the audit log says: action, actor, projection, note."""
    rows = bed.rows("SELECT action, actor, projection_name, note FROM projection_audit_log ORDER BY id")
    return [tuple(row) for row in rows]


def clears(bed: Bed, *, fails: list[bool] | None = None) -> Any:
    """Return an `on_reset` that empties `effects` and then fails while `fails` says so."""

    def clear(connection: Connection) -> None:
        connection.execute(text("DELETE FROM effects"))
        if fails and fails[0]:
            raise ValueError("the read model does not want to be cleared")

    if not bed.is_async:
        return clear

    async def async_clear(connection: Any) -> None:
        await connection.run_sync(clear)

    return async_clear
