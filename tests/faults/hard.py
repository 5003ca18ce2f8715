"""Handlers that do what no handler should, and every way in which an event reaches them.

hard = Hard(bed, "joined", "retry")        # a guard, a log where the way needs one, the handler
hard.meet(*CASES)                          # the first event of each case's stream does it; a second one waits behind it
hard.errors()                              # what was kept, by case
hard.heal()                                # the handler is well, and workers work: all is applied, in order
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import Failure, PermanentFailure, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import active_equals_open_rows, listed, make_due, states_of
from tests.following.logs import FollowedLog

__all__ = [
    "CASES",
    "FOLLOWED",
    "HANGS",
    "INTERRUPTED",
    "JOINED",
    "NAME",
    "POSTGRESQL",
    "PUSHED",
    "RETURNED",
    "WAYS",
    "Deed",
    "Hard",
    "Kind",
    "on_a_thread_of_its_own",
    "share_of",
]

Kind = Literal["joined", "apart", "thread"]
NAME = "P"
PUSHED = ("deliver", "retry", "drain")
FOLLOWED = ("follow", "batch", "replay", "rebuild", "beside")
WAYS = (*PUSHED, *FOLLOWED)
HANGS = object()
"""What a deed returns to hang for ever, as far as `Hard.go_on` lets it."""
POLICY = RetryPolicy(wait=wait_fixed(3600), stop=stop_after_attempt(9), breaker=None)


async def _work() -> None:
    """What was to be done, and is not."""


def _yielding() -> Iterator[int]:
    yield 1


async def _yielding_async() -> AsyncIterator[int]:
    yield 1


class _Lazy:
    """Something to await that is no coroutine."""

    def __await__(self) -> Any:
        yield from ()


def _deep(depth: int = 0) -> int:
    return _deep(depth + 1) + 1


def _raising(make: Callable[[], BaseException], _: object) -> None:
    raise make()


def _returning(make: Callable[[], object], _: object) -> object:
    return make()


def _end(deed: str, connection: Connection | None) -> None:
    assert connection is not None
    getattr(connection, deed)()


def _swallow(connection: Connection | None) -> None:
    assert connection is not None
    try:
        connection.execute(text("SELECT 1 / 0"))
    except SQLAlchemyError:
        return


def _lost() -> Exception:
    return ExceptionGroup("both away", [ConnectionError("one"), ConnectionError("two")])


_GROUP = [ValueError("one"), ExceptionGroup("inner", [PermanentFailure("two")])]
_CANCELLED: list[BaseException] = [ValueError("one"), asyncio.CancelledError()]

RAISED: dict[str, Callable[[], BaseException]] = {
    "group": lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    "permanent in a group": lambda: ExceptionGroup("several", _GROUP),
    "group of lost connections": _lost,
    "cancelled in a group": lambda: BaseExceptionGroup("several", _CANCELLED),
    "StopIteration": StopIteration,
    "GeneratorExit": GeneratorExit,
    "MemoryError": MemoryError,
}
RETURNED: dict[str, Callable[[], object]] = {
    "coroutine": _work,
    "awaitable": _Lazy,
    "generator": _yielding,
    "async generator": _yielding_async,
}

Deed = Callable[[Connection | None], object]
CASES: dict[str, Deed] = {
    **{name: partial(_raising, make) for name, make in RAISED.items()},
    **{name: partial(_returning, make) for name, make in RETURNED.items()},
    "recursion": lambda _: _deep(),
}
INTERRUPTED: dict[str, Deed] = {"KeyboardInterrupt": partial(_raising, KeyboardInterrupt)}
JOINED: dict[str, Deed] = {deed: partial(_end, deed) for deed in ("commit", "rollback", "close")}
POSTGRESQL: dict[str, Deed] = {"swallows": _swallow}


def on_a_thread_of_its_own(bed: Bed, kind: Kind, way: str) -> bool:
    """Return whether the handler is called on a thread that nobody else uses."""
    return kind == "thread" if bed.is_async else way != "deliver"


def share_of(bed: Bed, way: str, kind: str, *, of: int) -> int | None:
    """Return which of so many shares is this bed's in CI, so that the four beds have all of them; None for all of it.

    With PROJECTION_GUARD_FAULTS=every in the environment each bed does everything.
    """
    if os.environ.get("PROJECTION_GUARD_FAULTS") == "every":
        return None
    number = 2 * bed.is_async + (bed.database == "postgresql")
    return (number + WAYS.index(way) + len(kind)) % of


class Hard:
    """One bed, one kind of handler, one way."""

    def __init__(self, bed: Bed, kind: Kind, way: str, deeds: Mapping[str, Deed], **options: Any) -> None:
        self.bed = bed
        self.kind = kind
        self.way = way
        self.deeds = deeds
        self.is_bad = False
        self.is_failing = False
        self.done: list[tuple[str, int]] = []
        self.calls: list[str] = []
        self.go_on = threading.Event()
        self.late: list[object] = []
        self.log = FollowedLog(bed) if way in FOLLOWED else None
        self._note = listed(NAME)
        if way == "batch":
            options["batch"] = 50
        if way == "beside":
            options["tables"] = ["effects"]
        self._options = options
        self.guard = self.anew()

    def anew(self) -> GuardOnBed:
        """Make the guard, as the next process does: with a source of its own."""
        made: dict[str, Any] = {"retry": POLICY, "lease": timedelta(seconds=30)}
        self.guard = self.bed.guard(**made) if self.log is None else self.log.guard(**made)
        self.guard.real.projection(NAME, handles=[Happened], on_reset=self._on_reset(), **self._options)(
            self._handler()
        )
        return self.guard

    def _on_reset(self) -> Any:
        def clear(connection: Connection) -> None:
            self.done.clear()
            connection.execute(text("DELETE FROM effects"))

        async def clear_async(connection: Any) -> None:
            await connection.run_sync(clear)

        return clear_async if self.bed.is_async else clear

    # -- the handler

    def _handler(self) -> Any:
        """Return the handler: its deed is its own, what it returns too."""
        if self.kind == "joined" and not self.bed.is_async:
            return lambda event, connection: self._or_hang(self._each(event, connection), event, connection)
        if self.kind == "joined":

            async def joined(event: Any, connection: Any) -> object:
                return await self._or_hang_async(await connection.run_sync(lambda sync: self._each(event, sync)))

            return joined
        if self.kind == "thread" or not self.bed.is_async:
            return lambda event: self._or_hang(self._each(event, None))

        async def apart(event: Any) -> object:
            return await self._or_hang_async(self._each(event, None))

        return apart

    def _or_hang(self, result: object, event: Any = None, connection: Connection | None = None) -> object:
        if result is not HANGS:
            return result
        assert self.go_on.wait(120)
        try:
            if connection is not None:
                self._note(event, connection)
            self.late.append("done")
        except Exception as error:
            self.late.append(error)
        return None

    async def _or_hang_async(self, result: object) -> object:
        return result if result is not HANGS else await asyncio.Event().wait()

    def _each(self, given: Any, connection: Connection | None) -> object:
        for event in given if isinstance(given, list) else [given]:
            result = self._one(event, connection)
            if result is not None:
                return result
        return None

    def _one(self, event: Happened, connection: Connection | None) -> object:
        self.calls.append(event.event_id)
        if connection is not None:
            self._note(event, connection)
        if self.is_failing and event.n == 1 and event.stream_id in self.deeds:
            raise LookupError("planned")
        if self.is_bad and event.n == 1 and event.stream_id in self.deeds:
            return self.deeds[event.stream_id](connection)
        if connection is None:
            self.done.append((event.stream_id, event.n))
        return None

    # -- the way

    def meet(self) -> None:
        """Let the first event of each stream meet its deed, with a second one behind it, and a stream that is well."""
        streams = [*self.deeds, "well"]
        match self.way:
            case "deliver":
                self.is_bad = True
                self._publish(streams)
            case "retry":
                self.is_failing = True
                self._publish(streams)
                self.is_failing, self.is_bad = False, True
                make_due(self.bed)
                self.guard.work()
            case "drain":
                self.guard.pause(NAME, actor="the test")
                self._publish(streams)
                self.guard.resume(NAME, actor="the test")
                self.is_bad = True
                self.guard.work()
            case _:
                self._follow(streams)

    def _publish(self, streams: list[str]) -> None:
        for n in (1, 2):
            for stream in streams:
                self.guard.publish(happened(stream, n))

    def _follow(self, streams: list[str]) -> None:
        assert self.log is not None
        self.log.append(*streams, *streams)
        self.is_bad = self.way in ("follow", "batch")
        self.guard.catch_up(NAME)
        self.is_bad = True
        if self.way == "replay":
            self.done.clear()
            self.bed.change("DELETE FROM effects")
            self.guard.replay(NAME, from_sequence=1, actor="the test")
        elif self.way == "rebuild":
            self.guard.rebuild(NAME, actor="the test")
        elif self.way == "beside":
            job = self.guard.rebuild(NAME, into="next", max_failures=100, actor="the test")
            assert job.status == "completed", job.error

    # -- what became of it

    def failures(self) -> dict[str, Failure]:
        """Return the open failures by their streams."""
        return {str(failure.stream_id): failure for failure in self.guard.failures(NAME).items}

    def errors(self) -> dict[str, str]:
        """Return what each event's last call has met: the class's own name."""
        return {
            stream: self.guard.attempts(failure.id)[-1].error_type.rpartition(".")[2]
            for stream, failure in self.failures().items()
        }

    def states(self) -> dict[str, str]:
        """Return the states of what is on record, without the stream that is well."""
        found = states_of(self.bed, NAME)
        return {event: state for event, state in found.items() if not event.startswith("well#")}

    def heal(self, *, tainted: tuple[str, ...] = ()) -> None:
        """Let the handler be well and workers work: every stream is applied once, in order."""
        self.is_bad = False
        for failure in self.failures().values():
            if failure.next_retry_at is None:
                self.guard.resolve(failure.id, "retry", actor="the test")

        def is_quiet() -> bool:
            make_due(self.bed)
            self.guard.work()
            health = self.guard.health(NAME)
            return bool(health.active_failures == health.parked_events == 0)

        self.bed.wait_until(is_quiet)
        for stream in (*self.deeds, "well"):
            done = self.bed.effects(NAME, stream) if self.kind == "joined" else self._done_of(stream)
            assert done == [(stream, 1), (stream, 2)], (stream, done)
        assert active_equals_open_rows(self.bed)
        assert tuple(stream.stream_id for stream in self.guard.streams(NAME, state="tainted").items) == tainted
        assert self.guard.real._sync_engine.pool.checkedout() == 0

    def _done_of(self, stream: str) -> list[tuple[str, int]]:
        done = [item for item in self.done if item[0] == stream]
        return list(dict.fromkeys(done)) if self.way == "batch" else done
