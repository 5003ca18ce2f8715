"""A failure is tried again: claimed with its attempt counted, tried under its stream's gate, resolved or put off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from .._instruments import Delivery
from .._io.protocol import IO
from .._model import EventRecord, Failure, Json, Origin, Outcome, OutcomeStatus, ResolutionMethod
from .._notices import Notice, NoticeKind
from .._store import amendments, attempts, counters, failures, gates, outages, parked, settled, states
from .._store.claims import Ticket
from .._wording import words_of
from ..errors import HandlerDied, KeysUnavailable, PermanentFailure, SourceError, StoreUnavailable
from .answering import answer
from .attempting import Done, attempt, refuse
from .context import Context, look, or_give_back, recall, transact
from .keeping import FailedCall, described_call, write_attempt
from .projection import Projection

__all__ = ["Claimed", "Finished", "claim", "claimed", "heal", "record_of", "resolved"]

T = TypeVar("T")
_KEYS_PAUSE_SECONDS: Final = 5.0
_DRAIN_SECONDS: Final = 1.0
_OVERRAN: Final = "a retry ran past its lease, and somebody else took the event over: it may be out of order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What an attempt led to."""

    outcome: Outcome
    notices: tuple[Notice, ...] = ()
    wake_seconds: float | None = None
    is_news: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A failure that is to be tried, and what its event is amended to, if it is."""

    failure: Failure
    amended: Json


def claimed(connection: Connection, failure: Failure | None) -> Claimed | None:
    """Look, after a failure was claimed, whether its event is amended; None where none was claimed."""
    if failure is None:
        return None
    return Claimed(failure=failure, amended=amendments.payload(connection, failure.projection_name, failure.event_id))


def record_of(failure: Failure) -> EventRecord:
    """Read back what the guard knows of a failure's event."""
    return EventRecord(
        event_id=failure.event_id,
        event_type=failure.event_type,
        sequence=failure.event_sequence,
        stream_id=failure.stream_id,
    )


def resolved(
    connection: Connection,
    context: Context,
    projection: Projection,
    ticket: Ticket,
    failure_id: UUID,
    method: ResolutionMethod,
    by: str | None,
) -> tuple[tuple[Notice, ...], bool]:
    """End a failure, let its stream flow or be drained, count. Hold the gate and the failure's row.

    Returns what to tell, and whether parked events can be drained now.
    """
    failures.resolve(connection, failure_id, method, by)
    can_drain = gates.settle(connection, ticket.projection, ticket.gate, projection.order)
    before, after = counters.count_failures(connection, context.health, projection.name, change=-1)
    is_manual = method not in (ResolutionMethod.AUTO_RETRY, ResolutionMethod.MANUAL_RETRY)
    notices = [
        Notice(
            kind=NoticeKind.RESOLVED if is_manual else NoticeKind.HEALED,
            projection=projection.name,
            event_id=ticket.event.event_id,
            event_type=ticket.event.event_type,
            stream_id=ticket.event.stream_id,
            failure_id=failure_id,
            actor=by,
        )
    ]
    if before != after:
        notices.append(Notice(kind=NoticeKind.STATUS_CHANGED, projection=projection.name, before=before, after=after))
    return tuple(notices), can_drain


@dataclass(frozen=True, slots=True, kw_only=True)
class _Retry:
    """A claimed failure that is to be tried. `by` is the person who asked; `is_probe` goes past the breaker's hold."""

    context: Context
    projection: Projection
    failure: Failure
    token: str
    by: str | None
    is_probe: bool
    born: str | None
    first_trace: str | None

    @property
    def what(self) -> str:
        return f"{self.projection.name}: a retry of event {self.failure.event_id!r} is not on record"

    @property
    def ticket(self) -> Ticket:
        return self.projection.lone_ticket(record_of(self.failure))

    def delivery(self, event: object) -> Delivery:
        return Delivery(
            projection=self.projection.name,
            origin=Origin.RETRY,
            record=self.ticket.event,
            event=event,
            attempt=self.failure.retry_count + 1,
            failure_id=self.failure.id,
            first_trace=self.first_trace,
        )

    def prepare(self, connection: Connection) -> Done | None:
        ended = self._ended(connection) or self._known(connection) or self._put_off(connection)
        if ended is not None:
            return ended
        state = states.read(connection, self.projection.name)
        goes_past_hold = self.is_probe or self.by is not None
        is_free = state is not None and (state.held_since is None or goes_past_hold)
        walks = state is not None and state.state == "active"
        if state is not None and self.projection.is_others(is_followed=state.mode == "followed"):
            is_free = False
        if is_free and (walks or (self.is_probe and outages.may_be_probed(connection, self.projection.name))):
            return None
        failures.give_back(connection, self.projection.name, token=self.token)
        return Finished(outcome=self._answer(OutcomeStatus.PARKED), is_news=False)

    def _ended(self, connection: Connection) -> Finished | None:
        """Take the locks; say so where the failure is somebody else's by now, or resolved."""
        gates.lock(connection, self.ticket)
        row = failures.locked(connection, self.failure.id)
        if row is None or row.resolved_at is not None:
            return Finished(outcome=self._answer(OutcomeStatus.DUPLICATE), is_news=False)
        if row.lease_owner != self.token:
            return Finished(outcome=self._answer(OutcomeStatus.FAILED), is_news=False)
        return None

    def _known(self, connection: Connection) -> Done | None:
        is_done = gates.look(connection, self.ticket.projection, self.ticket.event.event_id).done is not None
        return self._resolve(connection) if is_done else None

    def _put_off(self, connection: Connection) -> Done | None:
        """Let what is open of earlier events of the stream come first, whoever has asked for this one."""
        seconds = gates.wait_for_earlier(connection, self.ticket, self.projection.order)
        drains = seconds is None and self._is_behind_parked(connection)
        if drains:
            gates.drain_now(connection, self.projection.name, self.ticket.gate)
            seconds = _DRAIN_SECONDS
        if seconds is None:
            return None
        failures.give_back(connection, self.projection.name, token=self.token, put_off_seconds=seconds)
        wake_seconds = 0.0 if drains else seconds
        return Finished(outcome=self._answer(OutcomeStatus.PARKED), wake_seconds=wake_seconds, is_news=False)

    def _is_behind_parked(self, connection: Connection) -> bool:
        """Return whether a replay of a range has parked an event before this one, of the log's order."""
        projection, ticket = self.projection, self.ticket
        if not projection.is_followed or self.is_probe or ticket.event.sequence is None:
            return False  # what is held is not drained: a probe would wait for ever
        line = parked.first(connection, projection.name, ticket.gate, by_sequence=True)
        first = gates.first_failure(connection, projection.name, ticket.gate, projection.order)
        return bool(line) and line[0].precedes(first, by_sequence=True)

    def still_mine(self, connection: Connection, *, was_mine: bool) -> Done | None:
        ended = self._ended(connection)
        if ended is None:
            return self._known(connection)
        if self.projection.joins or was_mine:
            return ended
        gates.taint(connection, self.ticket.projection, self.ticket.gate, _OVERRAN)
        return replace(ended, notices=(self._notice(NoticeKind.TAINTED),))

    def give_back(self, connection: Connection) -> None:
        if self._ended(connection) is None:
            failures.give_back(connection, self.projection.name, token=self.token)

    def succeeded(self, connection: Connection) -> Done:
        """Write that it was applied. Where a person went past the hold, the outage looks over: a probe tells."""
        settled.record(connection, self.ticket)
        done = self._resolve(connection)
        if self.by is not None and outages.hasten_probe(connection, self.projection.name):
            done = replace(done, wake_seconds=0.0)
        return done

    def _resolve(self, connection: Connection) -> Finished:
        method = ResolutionMethod.AUTO_RETRY if self.by is None else ResolutionMethod.MANUAL_RETRY
        notices, can_drain = resolved(
            connection, self.context, self.projection, self.ticket, self.failure.id, method, self.by
        )
        outcome = self._answer(OutcomeStatus.APPLIED)
        return Finished(outcome=outcome, notices=notices, wake_seconds=0.0 if can_drain else None)

    def failed(self, connection: Connection, call: FailedCall) -> Done:
        elapsed = (self.failure.updated_at - self.failure.failed_at).total_seconds()
        written = write_attempt(
            connection,
            self.context,
            self.projection,
            self.ticket,
            self.failure,
            call,
            elapsed_seconds=max(elapsed, 0.0),
            is_probe=self.is_probe,
            born=self.born,
        )
        return Finished(
            outcome=self._answer(OutcomeStatus.FAILED), notices=written.notices, wake_seconds=written.delay_seconds
        )

    def renewing(self) -> AbstractAsyncContextManager[None]:
        io: IO = self.context.io
        lease = self.context.lease_seconds

        def renew(connection: Connection) -> bool:
            return failures.renew(connection, self.failure.id, token=self.token, lease_seconds=lease)

        return io.renewing(lambda: transact(self.context, renew, what=self.what, seconds=5.0), lease / 3)

    def _notice(self, kind: NoticeKind) -> Notice:
        event = self.ticket.event
        return Notice(
            kind=kind,
            projection=self.projection.name,
            event_id=event.event_id,
            event_type=event.event_type,
            stream_id=event.stream_id,
            failure_id=self.failure.id,
        )

    def _answer(self, status: OutcomeStatus) -> Outcome:
        return answer(self.ticket, status, failure_id=self.failure.id, attempts=self.failure.retry_count + 1)


async def heal(
    context: Context,
    projection: Projection,
    taken: Claimed,
    *,
    token: str,
    by: str | None = None,
    is_probe: bool = False,
    born: str | None = None,
) -> Outcome:
    """Try a failure that was claimed with `token`; its stream is drained by the worker afterwards.

    `born` names who makes the next immediate retry; by default it is anybody's.

    An event that cannot be rebuilt from its row, or that has used all its retries without one of them ever coming to
    an end (it kills its process), is not tried: it waits for a person.
    """
    refusal: Exception | None = None
    event: object = None
    failure = taken.failure
    if failure.retry_count > failure.max_retries and by is None and not is_probe:
        failure = replace(failure, retry_count=failure.retry_count - 1)
        refusal = HandlerDied.after(failure.retry_count)
    else:
        try:
            ticket = projection.lone_ticket(record_of(failure))
            event = await recall(context, ticket, failure.event_payload, amended=taken.amended)
        except KeysUnavailable:
            await give_back(context, projection.name, token=token, put_off_seconds=_KEYS_PAUSE_SECONDS)
            raise
        except (SourceError, StoreUnavailable):
            await give_back(context, projection.name, token=token)
            raise
        except Exception as error:
            refusal = unreadable(error)
    job = _Retry(
        context=context,
        projection=projection,
        failure=failure,
        token=token,
        by=by,
        is_probe=is_probe,
        born=born,
        first_trace=await _first_trace(context, failure, token),
    )
    if refusal is None:
        return await attempt(context, projection, job, event)
    return await refuse(context, job, described_call(refusal, None))


async def _first_trace(context: Context, failure: Failure, token: str) -> str | None:
    """Look up what an instrument wanted to be kept of a failure's first call, where there is one that may want it."""
    if not context.instruments:
        return None
    what, name = f"{failure.projection_name}: a retry", failure.projection_name
    looking = look(context, lambda connection: attempts.first_trace(connection, failure.id), what=what)
    back = partial(failures.give_back, projection=name, token=token)
    try:
        return await or_give_back(context, looking, back, what=what)
    except StoreUnavailable:
        await give_back(context, name, token=token)
        raise


async def claim(context: Context, projection: str, take: Callable[[Connection], T], *, token: str, what: str) -> T:
    """Claim a failure with `token` in a transaction of its own; interrupted, it is given back."""
    taking = transact(context, take, what=what)
    return await or_give_back(
        context, taking, lambda connection: failures.give_back(connection, projection, token=token), what=what
    )


async def give_back(context: Context, projection: str, *, token: str, put_off_seconds: float | None = None) -> None:
    """Give a claimed failure back untried."""
    await transact(
        context,
        lambda connection: failures.give_back(connection, projection, token=token, put_off_seconds=put_off_seconds),
        what=f"{projection}: a retry was not given back",
    )


def unreadable(error: Exception) -> Exception:
    """Say that an event cannot be rebuilt from what is on record; trying again is useless until the code changes."""
    permanent = PermanentFailure(f"the event cannot be rebuilt from its record: {words_of(error)}")
    permanent.__cause__ = error
    return permanent
