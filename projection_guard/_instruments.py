"""What watches every call of a handler and hears of what became of its event: metrics, traces.

Each flow asks `watching` before it calls a handler. Without instruments `NOBODY` answers, which does nothing; else a
watch that puts them around the call, on the thread or in the task of the handler. What became of an event is told once,
after it was committed. An instrument that raises is logged, once in a minute, and disturbs nobody.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import cycle
from types import TracebackType
from typing import Final, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from ._model import EventRecord, Origin, Outcome, OutcomeStatus
from ._notices import Notice
from ._seldom import Seldom
from ._wording import type_name, without_values

__all__ = ["NOBODY", "Delivery", "Instrument", "Settled", "Watching", "watching"]

log = logging.getLogger("projection_guard")
_LONGEST_TRACE: Final = 55
_said_of: Final[WeakKeyDictionary[type, Seldom]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery:
    """One event on its way into one projection. `event` is the application's own, for an instrument to look into.

    `attempt` counts calls of the handler for it, this one included. `failure_id` and `first_trace` (what an instrument
    gave for its first call that failed) are those of a retry. `is_undone_together`: the call is one of many in one
    transaction; where one fails all are undone, and what fails is delivered once more by itself.
    """

    projection: str
    origin: Origin
    record: EventRecord
    event: object = field(repr=False)
    attempt: int = 1
    failure_id: UUID | None = None
    first_trace: str | None = None
    is_undone_together: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a delivery, and is committed. An event that was failed or parked before is a duplicate here.

    `error` is why it failed. `has_raised`: an error came through the handler's call; else its time was up, or the
    transaction's end refused what it had done. `trace` is what was given for the call.
    """

    outcome: Outcome
    error: Exception | None = field(default=None, repr=False)
    has_raised: bool = False
    trace: str | None = None


class Instrument(Protocol):
    """Watches a guard's handlers. Its methods are called on any thread, those of one delivery perhaps on several."""

    def calling(self, deliveries: Sequence[Delivery], /) -> AbstractContextManager[str | None]:
        """Surround one call of a handler: for one event, or for several where the handler takes lists.

        It is entered and left on the handler's thread or in its task; the handler's error comes through it. What it
        gives, a W3C `traceparent`, is kept with the attempt if that fails: retries are told of the first one's.
        """
        ...

    def settled(self, delivery: Delivery, settled: Settled, /) -> object:
        """Hear what became of an event, once that is committed."""
        ...

    def noticed(self, notice: Notice, /) -> object:
        """Hear of a change of state, as an observer does."""
        ...


class Watching(Protocol):
    """What a flow needs of a watch."""

    def around(self, handler: Callable[..., object], *, is_async: bool) -> Callable[..., object]:
        """Put the instruments around a handler that is going to be called for the deliveries in turn."""
        ...

    def failed(self, error: Exception) -> str | None:
        """Note why the delivery under way fails; return what is to be kept of its call."""
        ...

    def parked(self) -> None:
        """Note that the delivery is parked now, and was not before."""
        ...

    def settled(self, outcome: Outcome, *, at: int = 0) -> None:
        """Tell what became of one delivery."""
        ...

    def settled_each(self, status: OutcomeStatus, number: int) -> None:
        """Tell that the first so many deliveries have come to the same."""
        ...


class _Nobody:
    """Nobody watches."""

    def around(self, handler: Callable[..., object], *, is_async: bool) -> Callable[..., object]:
        del is_async
        return handler

    def failed(self, error: Exception) -> str | None:
        del error
        return None

    def parked(self) -> None:
        """Nobody wants to know."""

    def settled(self, outcome: Outcome, *, at: int = 0) -> None:
        """Nobody wants to know."""

    def settled_each(self, status: OutcomeStatus, number: int) -> None:
        """Nobody wants to know."""


NOBODY: Final[Watching] = _Nobody()


def watching(
    instruments: Sequence[Instrument], deliveries: Callable[[], Sequence[Delivery]], *, in_lists: bool = False
) -> Watching:
    """Return what watches these deliveries; they are made only where somebody does. `in_lists`: in one call, all."""
    return _Watch(instruments, deliveries(), in_lists=in_lists) if instruments else NOBODY


class _Watch:
    """Instruments at a row of deliveries."""

    def __init__(self, instruments: Sequence[Instrument], deliveries: Sequence[Delivery], *, in_lists: bool) -> None:
        self._instruments = instruments
        self._deliveries = deliveries
        self._in_lists = in_lists
        self._error: Exception | None = None
        self._is_parked = False
        self._has_raised = False
        self._trace: str | None = None

    def around(self, handler: Callable[..., object], *, is_async: bool) -> Callable[..., object]:
        # In a circle: after a deadlock the same call is made again.
        rows = cycle([self._deliveries] if self._in_lists else [(each,) for each in self._deliveries])

        async def watched_async(*arguments: object) -> object:
            with self._calling(next(rows)):
                result = handler(*arguments)
                return await result if inspect.isawaitable(result) else result

        def watched(*arguments: object) -> object:
            with self._calling(next(rows)):
                return handler(*arguments)

        return watched_async if is_async else watched

    def _calling(self, deliveries: Sequence[Delivery]) -> _Calling:
        self._has_raised, self._trace = False, None
        return _Calling(self._instruments, deliveries, self._entered, self._raised)

    def _entered(self, trace: str | None) -> None:
        self._trace = trace

    def _raised(self) -> None:
        self._has_raised = True

    def failed(self, error: Exception) -> str | None:
        self._error = error
        return self._trace

    def parked(self) -> None:
        self._is_parked = True

    def settled(self, outcome: Outcome, *, at: int = 0) -> None:
        is_failed, is_parked = outcome.status is OutcomeStatus.FAILED, outcome.status is OutcomeStatus.PARKED
        if (is_failed and self._error is None) or (is_parked and not self._is_parked):
            outcome = replace(outcome, status=OutcomeStatus.DUPLICATE)
        told = Settled(
            outcome=outcome,
            error=self._error if is_failed else None,
            has_raised=self._has_raised,
            trace=self._trace,
        )
        self._tell(self._deliveries[at], told)

    def settled_each(self, status: OutcomeStatus, number: int) -> None:
        calls = int(status is OutcomeStatus.APPLIED)
        for each in self._deliveries[:number]:
            name, event_id = each.projection, each.record.event_id
            outcome = Outcome(status=status, projection=name, event_id=event_id, attempts=calls)
            self._tell(each, Settled(outcome=outcome))

    def _tell(self, delivery: Delivery, settled: Settled) -> None:
        for instrument in self._instruments:
            try:
                instrument.settled(delivery, settled)
            except Exception as raised:
                _disturbs_nobody(instrument, "settled", raised)


class _Calling:
    """All instruments around one call. What the handler raises goes on, whatever they do with it."""

    __slots__ = ("_deliveries", "_entered", "_instruments", "_tell_entered", "_tell_raised")

    def __init__(
        self,
        instruments: Sequence[Instrument],
        deliveries: Sequence[Delivery],
        tell_entered: Callable[[str | None], None],
        tell_raised: Callable[[], None],
    ) -> None:
        self._instruments = instruments
        self._deliveries = deliveries
        self._tell_entered = tell_entered
        self._tell_raised = tell_raised
        self._entered: list[tuple[Instrument, AbstractContextManager[str | None]]] = []

    def __enter__(self) -> None:
        kept: str | None = None
        for instrument in self._instruments:
            try:
                surrounding = instrument.calling(self._deliveries)
                given = surrounding.__enter__()
            except Exception as raised:
                _disturbs_nobody(instrument, "calling", raised)
            else:
                self._entered.append((instrument, surrounding))
                kept = kept or _fit_to_be_kept(given)
        self._tell_entered(kept)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._tell_raised()
        for instrument, surrounding in reversed(self._entered):
            try:
                surrounding.__exit__(kind, error, trace)
            except Exception as raised:
                if raised is not error:
                    _disturbs_nobody(instrument, "calling", raised)
        if error is not None:
            error.__traceback__ = trace  # without the frames of whoever raised it again: like failures are alike in it


def _fit_to_be_kept(given: object) -> str | None:
    return given if isinstance(given, str) and 0 < len(given) <= _LONGEST_TRACE and given.isascii() else None


def _disturbs_nobody(instrument: Instrument, method: str, error: Exception) -> None:
    kind = type(instrument)
    if _said_of.setdefault(kind, Seldom()).is_time_for(method):
        where = f"{kind.__qualname__}.{method}"
        log.warning("an instrument raised %s: %s", type_name(error), where, exc_info=without_values(error))
