"""What every flow of one guard shares, and how a piece of bookkeeping gets a transaction of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Protocol, TypeVar
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from .._dialect import Bound, Trouble, trouble
from .._encryption import EncryptedCodec, EventCodec, Place, decode_at, encode_at
from .._health import HealthPolicy
from .._instruments import Instrument
from .._io.protocol import IO
from .._model import EventRecord, Json
from .._notices import Notice
from .._store.claims import HotStatements, Ticket
from .._store.steps import FollowStatements
from ..errors import CodecError, ProjectionGuardError, StoreUnavailable

__all__ = [
    "NOTIFY_EVERY_SECONDS",
    "Context",
    "Timings",
    "Tries",
    "decoded",
    "encoded",
    "is_store_error",
    "look",
    "new_token",
    "or_give_back",
    "recall",
    "redone",
    "transact",
    "unavailable",
]

T = TypeVar("T")
_MOST_TRIES: Final = 25
_LONGEST_TRIES_SECONDS: Final = 20.0
BOOKKEEPING_SECONDS: Final = 30.0
NOTIFY_EVERY_SECONDS: Final = 0.02


class EventReader(Protocol):
    """Reads an event of the log again."""

    async def event(self, ticket: Ticket) -> object:
        """Return it. Raises `CodecError` where that cannot be done."""
        ...

    async def said_of(self, event_id: str) -> EventRecord | None:
        """Return what the log says of an event, by its id; None where it does not find it."""
        ...


@dataclass(slots=True)
class Timings:
    """How long handlers took in this process since it was last written down, by projection."""

    _sums: dict[str, tuple[int, float]] = field(default_factory=dict[str, tuple[int, float]])

    def add(self, projection: str, milliseconds: float, calls: int = 1) -> None:
        """Count calls. Two threads may lose some between them; an average does not mind."""
        before, total = self._sums.get(projection, (0, 0.0))
        self._sums[projection] = (before + calls, total + milliseconds)

    def take(self) -> dict[str, tuple[int, float]]:
        """Return what was counted, and start anew."""
        taken, self._sums = self._sums, {}
        return taken


@dataclass(slots=True)
class Notified:
    """When others were last notified of events in the log, by projection."""

    _at: dict[str, float] = field(default_factory=dict[str, float])

    def may_again(self, projection: str) -> bool:
        """Return whether it is time to do it again, and take it for done."""
        now = monotonic()
        if now - self._at.get(projection, -1.0) < NOTIFY_EVERY_SECONDS:
            return False
        self._at[projection] = now
        return True


@dataclass(slots=True)
class LastSamples:
    """The minute of the newest sample of each projection, as far as this process knows."""

    _minutes: dict[str, int] = field(default_factory=dict[str, int])

    def lack(self, projection: str, minute: int) -> bool:
        """Return whether no sample of this minute is known of."""
        return self._minutes.get(projection) != minute

    def note(self, projection: str, minute: int) -> None:
        """Note that there is one."""
        self._minutes[projection] = minute

    def forget(self) -> None:
        """Know of none."""
        self._minutes.clear()


@dataclass(slots=True, kw_only=True)
class Context:
    """One guard's I/O, statements, codec and settings. `process` names this process in the leases it is born with."""

    io: IO
    hot: HotStatements
    follow: FollowStatements
    codec: EventCodec | EncryptedCodec
    health: HealthPolicy
    tell: Callable[[Sequence[Notice]], None]
    wake: Callable[[float], None]
    works_here: Callable[[], bool]
    schema: str | None
    lease_seconds: float
    dedupe_seconds: float
    log: EventReader | None = None
    process: str = ""
    instruments: Sequence[Instrument] = ()
    timings: Timings = field(default_factory=Timings)
    notified: Notified = field(default_factory=Notified)
    last_samples: LastSamples = field(default_factory=LastSamples)


def encoded(context: Context, ticket: Ticket, event: object) -> Json:
    """Return what is stored of an event. Raises `CodecError`, and `StoreUnavailable` where keys cannot be reached."""
    return encode_at(context.codec, event, _place_of(ticket))


def decoded(context: Context, ticket: Ticket, payload: Json) -> object:
    """Return the event that is stored. Raises `CodecError`, and `StoreUnavailable` where keys cannot be reached."""
    return decode_at(context.codec, payload, _place_of(ticket))


def _place_of(ticket: Ticket) -> Place:
    event = ticket.event
    return Place(
        projection=ticket.projection,
        event_id=event.event_id,
        event_type=event.event_type,
        stream_id=event.stream_id,
    )


async def recall(context: Context, ticket: Ticket, payload: Json, *, amended: Json = None) -> object:
    """Return an event that is on record: as amended, as the log has it, else rebuilt from its payload.

    The log comes before the payload, so that an event heals once its source is mended. Raises `CodecError`;
    `SourceError` where the log cannot be read, `StoreUnavailable` where the keys of its encryption cannot be reached.
    """
    if amended is not None:
        return decoded(context, ticket, amended)
    if context.log is not None:
        try:
            return await context.log.event(ticket)
        except CodecError:
            if payload is None:
                raise
    if payload is None:  # no event: the handler is not called with nothing
        raise CodecError(f"nothing of it was kept, and {ticket.projection} has no source to read it from")
    return decoded(context, ticket, payload)


def new_token() -> str:
    """Return a name for one claim."""
    return uuid4().hex


def is_store_error(error: BaseException) -> bool:
    """Return whether an error comes from the database's driver or SQLAlchemy."""
    return isinstance(error, SQLAlchemyError) or hasattr(error, "sqlstate") or hasattr(error, "sqlite_errorcode")


def unavailable(what: str, error: BaseException) -> StoreUnavailable:
    """Say that the store did not take something; the cause is kept in `__cause__` by the caller."""
    return StoreUnavailable(
        f"{what}: the guard's database answered with {type(error).__name__} ({trouble(error).value}); "
        "deliver the event again once it is well"
    )


class Tries:
    """How often a transaction of which nothing is committed is begun again: 25 times, for at most 20 s.

    That is more than a pool has connections: after a restart of the server each of them is found dead once.
    """

    __slots__ = ("_end", "_io", "_tried")

    def __init__(self, io: IO) -> None:
        self._io = io
        self._tried = 1
        self._end = monotonic() + _LONGEST_TRIES_SECONDS

    def may_redo(self, error: BaseException | None = None) -> bool:
        """Return whether to begin again, after a deadlock, a lost connection or a changed gate (no error)."""
        if error is not None and trouble(error) not in (Trouble.REDO, Trouble.LOST):
            return False
        return self._tried < _MOST_TRIES and monotonic() < self._end

    async def pause(self) -> None:
        """Wait a little (the first time not), at random, so that two who met do not meet again."""
        if self._tried > 1:
            await self._io.sleep(random.uniform(0.0, min(0.002 * 2.0 ** min(self._tried, 7), 0.2)))
        self._tried += 1


async def transact(
    context: Context, work: Callable[[Connection], T], *, what: str, seconds: float = BOOKKEEPING_SECONDS
) -> T:
    """Run bookkeeping in a transaction of its own and commit it; raises `StoreUnavailable` where that cannot be done.

    It is done again after a deadlock, and after a lost connection, whose commit may have succeeded: `work` takes its
    lock first and then looks what is on record.
    """
    preamble = context.hot.preamble(limit_seconds=seconds)
    return await redone(context.io, lambda: _transact_once(context, work, preamble), what=what)


async def look(context: Context, work: Callable[[Connection], T], *, what: str) -> T:
    """Look something up in a transaction of its own, with no right to write; raises `StoreUnavailable`."""
    preamble = context.hot.looking(limit_seconds=BOOKKEEPING_SECONDS)
    return await redone(context.io, lambda: _transact_once(context, work, preamble), what=what)


async def redone(io: IO, once: Callable[[], Coroutine[object, None, T]], *, what: str) -> T:
    """Do something once, and again after a deadlock or a lost connection; raises `StoreUnavailable` in the end."""
    tries = Tries(io)
    while True:
        try:
            return await once()
        except ProjectionGuardError:
            raise
        except Exception as error:
            if not is_store_error(error):
                raise
            if not tries.may_redo(error):
                raise unavailable(what, error) from error
        await tries.pause()


async def or_give_back(
    context: Context,
    work: Coroutine[object, None, T],
    give_back: Callable[[Connection], object],
    *,
    what: str,
    but: tuple[type[BaseException], ...] = (Exception,),
) -> T:
    """Await work that takes a lease; interrupted, give back what it has taken by then, and let the interruption on.

    Where that cannot be done within 5 s the lease ends by itself, as it does after what is in `but`.
    """
    try:
        return await work
    except but:
        raise
    except BaseException:
        with suppress(Exception):
            await context.io.shielded(transact(context, give_back, what=what, seconds=5.0))
        raise


async def _transact_once(context: Context, work: Callable[[Connection], T], preamble: Sequence[Bound]) -> T:
    transaction = await context.io.begin()
    try:
        await transaction.together(preamble)
        result = await transaction.run(work)
        await transaction.commit()
    finally:
        await transaction.close()
    return result
