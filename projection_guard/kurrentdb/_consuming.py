"""Persistent subscriptions: what is answered to KurrentDB for what became of an event here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, Literal

from kurrentdbclient import RecordedEvent
from kurrentdbclient.exceptions import ProgrammingError

from .._desk import begin_own_worker
from ..errors import CodecError, EventError, StoreUnavailable
from ._reading import Decode

if TYPE_CHECKING:
    from kurrentdbclient.common import AbstractAsyncPersistentSubscription, AbstractPersistentSubscription

    from .._async_guard import AsyncProjectionGuard
    from .._guard import ProjectionGuard

__all__ = ["consume", "consume_async"]

log = logging.getLogger("projection_guard")
Verdict = Literal["ack", "park", "retry"]
_SAYS: Final[dict[Verdict, str]] = {"park": "is parked there", "retry": "is sent back, to be tried again"}


def consume(
    guard: ProjectionGuard,
    subscription: AbstractPersistentSubscription,
    *,
    decode: Decode | None = None,
    patience_seconds: float = 20.0,
) -> None:
    """Give each event of a persistent subscription to the guard's projections, until the subscription is stopped.

    An event is acknowledged once it is applied, on record as failed, parked by the guard, or a duplicate. While the
    guard's database is away it is tried again for `patience_seconds` (choose less than the group's message timeout),
    and then sent back ("retry"). One that cannot be read or kept at all is parked in KurrentDB ("park"). Another error
    is raised, with the event unanswered, also that its class was not registered with the guard's codec: KurrentDB gives
    it to the next consumer. So it does with the one in hand when
    `subscription.stop()` is called.
    """
    publish = guard.publisher().publish
    begin_own_worker(guard)
    for recorded in subscription:
        course = _course(recorded, decode, patience_seconds, guard.codec)
        step = next(course)
        while not isinstance(step, str):
            try:
                publish(step.event)
            except Exception as error:
                step = course.send(error)
                if isinstance(step, _Try):
                    sleep(step.pause_seconds)
            else:
                step = course.send(None)
        try:
            subscription.ack(recorded) if step == "ack" else subscription.nack(recorded, step)
        except ProgrammingError:  # stopped meanwhile: it is delivered again, and is a duplicate then
            return


async def consume_async(
    guard: AsyncProjectionGuard,
    subscription: AbstractAsyncPersistentSubscription,
    *,
    decode: Decode | None = None,
    patience_seconds: float = 20.0,
) -> None:
    """Do what `consume` does, awaited."""
    publish = guard.publisher().publish
    begin_own_worker(guard)
    async for recorded in subscription:
        course = _course(recorded, decode, patience_seconds, guard.codec)
        step = next(course)
        while not isinstance(step, str):
            try:
                await publish(step.event)
            except Exception as error:
                step = course.send(error)
                if isinstance(step, _Try):
                    await asyncio.sleep(step.pause_seconds)
            else:
                step = course.send(None)
        try:
            await (subscription.ack(recorded) if step == "ack" else subscription.nack(recorded, step))
        except ProgrammingError:
            return


class _Try:
    """What is to be done next: publish this event, after a pause if it was tried already."""

    def __init__(self, event: object) -> None:
        self.event = event
        self.pause_seconds = 0.05


def _course(
    recorded: RecordedEvent, decode: Decode | None, patience_seconds: float, codec: object
) -> Generator[_Try | Verdict, Exception | None, None]:
    """Decide what becomes of one event: told how publishing went, it says to try again, or what to answer."""
    end = monotonic() + patience_seconds
    try:
        step = _Try(recorded if decode is None else decode(recorded))
    except Exception as error:
        yield _told("park", recorded, error)
        return
    while (failed := (yield step)) is not None:
        if isinstance(failed, EventError | CodecError) and _has_way_back(codec, step.event):
            yield _told("park", recorded, failed)
            return
        if not isinstance(failed, StoreUnavailable):
            raise failed
        if monotonic() + step.pause_seconds > end:
            yield _told("retry", recorded, failed)
            return
        step.pause_seconds = min(step.pause_seconds * 2, 2.0)
    yield "ack"


def _has_way_back(codec: object, event: object) -> bool:
    """Return whether its class is known. Where it is not, a line is missing here, and all events would be parked."""
    knows: Callable[[type], bool] | None = getattr(codec, "knows", None)
    return knows is None or knows(type(event))


def _told(verdict: Verdict, recorded: RecordedEvent, error: Exception) -> Verdict:
    log.warning("KurrentDB's event %s (%s) %s: %s", recorded.id, recorded.type, _SAYS[verdict], type(error).__name__)
    return verdict
