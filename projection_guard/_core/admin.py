"""What people do to projections: resolve a failure, pause, resume, reset. Each leaves a row in the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from .._model import Failure, FailureState, Json, Order, Outcome, OutcomeStatus, ResolutionMethod
from .._notices import Notice, NoticeKind
from .._store import audits, failures, gates, replays, settled, states
from ..errors import (
    ConfigurationError,
    FailureBusy,
    FailureResolved,
    InvalidArgument,
    StoreUnavailable,
    UnknownFailure,
)
from .answering import answer
from .clearing import clear, forget
from .context import Context, new_token, transact
from .healing import Claimed, claim, claimed, heal, record_of, resolved
from .projection import Projection

__all__ = [
    "STRATEGIES",
    "Deed",
    "check_actor",
    "check_strategy",
    "pass_barrier",
    "pause",
    "refuse_leased",
    "refuse_resolved",
    "reset",
    "resolve",
    "resume",
    "retry",
    "why_busy",
]

STRATEGIES: Final = ("retry", "skip", "manual_fix")
_LONGEST_BARRIER_MARGIN_SECONDS: Final = 30.0


def check_actor(actor: object) -> str:
    """Return the actor's name. Raises `InvalidArgument`: an admin action without a name is refused."""
    if not isinstance(actor, str) or not actor.strip() or len(actor) > 255 or "\0" in actor:
        raise InvalidArgument("actor= takes the name of the person or system that acts, 1 to 255 characters")
    return actor


def check_strategy(strategy: str) -> None:
    """Raise `InvalidArgument` for a strategy that there is not."""
    if strategy not in STRATEGIES:
        raise InvalidArgument(f"{strategy!r} is no strategy; choose one of {', '.join(STRATEGIES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Who ends a failure, why, and under which id that is audited. `bulk` is the bulk action that it is a part of."""

    actor: str
    note: str | None
    bulk: UUID | None = None
    action_id: str = field(default_factory=new_token)

    def write(self, connection: Connection, failure: Failure, strategy: str, after: str) -> None:
        """Write it down, with what the failure was and is then."""
        details: dict[str, Json] = {"event_id": failure.event_id, "before": _state_of(failure), "after": after}
        if self.bulk is not None:
            details["bulk"] = str(self.bulk)
        audits.write(
            connection,
            action_id=self.action_id,
            actor=self.actor,
            action=strategy,
            projection=failure.projection_name,
            failure_id=failure.id,
            note=self.note,
            details=details,
        )


def _state_of(failure: Failure) -> FailureState:
    return "exhausted" if failure.is_exhausted else "scheduled"


async def resolve(context: Context, projection: Projection, failure: Failure, strategy: str, deed: Deed) -> Outcome:
    """End a failure: try it again now, skip its event, or say that it was mended by hand."""
    check_strategy(strategy)
    refuse_resolved(failure)
    if strategy == "retry":
        return await retry(context, projection, failure, deed)
    return await _end(context, projection, failure, strategy, deed)


def refuse_resolved(failure: Failure) -> None:
    """Raise `FailureResolved` for a failure that has ended, with who ended it and when."""
    if failure.resolved_at is not None:
        method = str(failure.resolution_method)
        by = "" if failure.resolved_by is None else f" by {failure.resolved_by}"
        raise FailureResolved(
            f"Failure {failure.id} was resolved{by} at {failure.resolved_at:%Y-%m-%d %H:%M:%S} UTC ({method})",
            resolved_by=failure.resolved_by,
            resolved_at=failure.resolved_at,
            resolution_method=method,
        )


def refuse_leased(connection: Connection, failure: Failure) -> None:
    """Refuse what would otherwise wait for a handler: a retry holds its gate and its row as long as that runs."""
    if states.is_leased_now(connection, failure.id):
        raise FailureBusy(f"Failure {failure.id} is being retried right now; look again shortly")


def _nothing_else(_: Connection) -> None:
    pass


async def retry(
    context: Context,
    projection: Projection,
    failure: Failure,
    deed: Deed,
    *,
    action: str = "retry",
    first: Callable[[Connection], None] = _nothing_else,
) -> Outcome:
    """Try a failure once, now. What is written `first` is committed with the claim, under the `action` that it is."""
    token = new_token()

    def take(connection: Connection) -> Claimed:
        if audits.details_of(connection, projection.name, deed.action_id) is not None:
            return _found(claimed(connection, failures.one(connection, failure.id)))
        first(connection)
        state = states.read(connection, projection.name)
        if state is None or state.state != "active":
            raise FailureBusy(
                f"Projection {projection.name!r} is {state.state if state else 'unknown'}; resume it, then retry"
            )
        if state.mode == "followed" and not projection.is_followed:
            raise ConfigurationError(
                f"Projection {projection.name!r} is followed, and this guard has no source= to read its events from; "
                "retry it where there is one"
            )
        refuse_leased(connection, failure)
        taken = failures.claim(connection, failure.id, token=token, lease_seconds=context.lease_seconds)
        if taken is None:
            refuse_resolved(_found(claimed(connection, failures.one(connection, failure.id))).failure)
            raise FailureBusy(f"Failure {failure.id} is being worked on right now; look again shortly")
        deed.write(connection, failure, action, "retrying")
        return _found(claimed(connection, taken))

    def _found(row: Claimed | None) -> Claimed:
        if row is None:
            raise UnknownFailure(f"There is no failure {failure.id}")
        return row

    what = f"{projection.name}: failure {failure.id} was not retried"
    taken = await claim(context, projection.name, take, token=token, what=what)
    return await heal(context, projection, taken, token=token, by=deed.actor)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    outcome: Outcome
    notices: tuple[Notice, ...]
    can_drain: bool


async def _end(context: Context, projection: Projection, failure: Failure, strategy: str, deed: Deed) -> Outcome:
    """Leave an applied row that says how the event came to its end; a skip taints the stream."""
    ticket = projection.lone_ticket(record_of(failure))
    is_skip = strategy == "skip"

    def write(connection: Connection) -> _Ended:
        refuse_leased(connection, failure)
        gates.lock(connection, ticket)
        if audits.details_of(connection, projection.name, deed.action_id) is not None:
            return _Ended(outcome=answer(ticket, OutcomeStatus.DUPLICATE), notices=(), can_drain=True)
        row = failures.locked(connection, failure.id)
        if row is None:
            raise UnknownFailure(f"There is no failure {failure.id}")
        refuse_resolved(row)
        refuse_leased(connection, failure)
        settled.record(connection, ticket, "skipped" if is_skip else "fixed")
        if is_skip and projection.order is not Order.NONE:  # where nothing has an order, nothing has lost it
            gates.taint(connection, ticket.projection, ticket.gate, f"an event was skipped by {deed.actor}")
        method = ResolutionMethod.MANUAL_SKIP if is_skip else ResolutionMethod.MANUAL_FIX
        notices, can_drain = resolved(connection, context, projection, ticket, failure.id, method, deed.actor)
        deed.write(connection, row, strategy, "resolved")
        return _Ended(outcome=answer(ticket, OutcomeStatus.DUPLICATE), notices=notices, can_drain=can_drain)

    ended = await transact(context, write, what=f"{projection.name}: failure {failure.id} was not resolved")
    context.tell(ended.notices)
    if ended.can_drain:
        context.wake(0.0)
    return ended.outcome


async def pause(context: Context, projection: Projection, *, actor: str, reason: str | None) -> None:
    """Stop a projection: events wait parked. When this returns, nothing of it is in flight any more."""
    await _set_state(context, projection, "paused", "pause", actor, reason)
    await pass_barrier(context, projection)
    context.tell([Notice(kind=NoticeKind.PAUSED, projection=projection.name, actor=actor)])


async def resume(context: Context, projection: Projection, *, actor: str) -> None:
    """Let a projection go on; what was parked meanwhile is drained in order."""
    await _set_state(context, projection, "active", "resume", actor, None)
    context.tell([Notice(kind=NoticeKind.RESUMED, projection=projection.name, actor=actor)])
    context.wake(0.0)


async def _set_state(
    context: Context, projection: Projection, state: str, action: str, actor: str, reason: str | None
) -> None:
    def change(connection: Connection) -> str:
        before = states.set_state(connection, projection.name, state, actor=actor, reason=reason)
        if before == "resetting":
            raise FailureBusy(
                f"Projection {projection.name!r} is being reset; wait until that has ended "
                "(if the process that reset it died, reset it again)"
            )
        _refuse_during_replay(projection, before)
        return before

    await _change(context, projection, change, after=state, action=action, actor=actor, note=reason)


def _refuse_during_replay(projection: Projection, state: str) -> None:
    if state in ("replaying", "rebuilding"):
        raise FailureBusy(f"Projection {projection.name!r} is {state}; wait until that has ended, or cancel it")


def why_busy(connection: Connection, projection: Projection, state: str) -> str:
    """Say what is under way, who began it and when."""
    job = replays.unfinished(connection, projection.name)
    if job is None:
        return f"Projection {projection.name!r} is {state}; wait until that has ended"
    words = {"beside": "being rebuilt", "rebuild": "being rebuilt", "verify": "being verified"}
    doing = words.get(job.kind, "replaying")
    return (
        f"Projection {projection.name!r} is {doing} already: {job.kind} {job.id}, begun by {job.actor} at "
        f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC; wait for it, or cancel it"
    )


async def _change(
    context: Context,
    projection: Projection,
    change: Callable[[Connection], str],
    *,
    after: str,
    action: str,
    actor: str,
    note: str | None,
) -> None:
    """Change a projection's state and write down who did it, and what it was; once, also if it is redone."""
    action_id = new_token()

    def write(connection: Connection) -> None:
        if audits.details_of(connection, projection.name, action_id) is None:
            before = change(connection)
            audits.write(
                connection,
                action_id=action_id,
                actor=actor,
                action=action,
                projection=projection.name,
                note=note,
                details={"before": before, "after": after},
            )

    await transact(context, write, what=f"{projection.name}: the state was not changed")


async def pass_barrier(context: Context, projection: Projection) -> None:
    """Wait until nothing that read the state before its last commit is in flight any more.

    Raises `StoreUnavailable` after the handler's timeout and half a minute; the new state stands by then.
    """
    what = f"{projection.name}: waiting for what is in flight"
    before = await transact(context, lambda connection: states.in_flight(connection, context.schema), what=what)
    end = monotonic() + projection.timeout_seconds + context.lease_seconds + _LONGEST_BARRIER_MARGIN_SECONDS
    pause_seconds = 0.005
    while True:
        running, leased = await transact(
            context,
            lambda connection: (
                states.in_flight(connection, context.schema) & before,
                states.leased(connection, projection.name),
            ),
            what=what,
        )
        if not running and not leased:
            return
        if monotonic() > end:
            raise StoreUnavailable(
                f"{what}: {len(running)} transactions and {leased} calls have not ended; the new state stands, "
                "ask again once they have"
            )
        await context.io.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reset:
    """A reset under way."""

    token: str
    actor: str

    @property
    def reason(self) -> str:
        """Stands in the projection's state while it lasts, and tells it from another one."""
        return f"reset {self.token}"


async def reset(context: Context, projection: Projection, *, actor: str) -> None:
    """Set a projection back to the beginning: `on_reset` clears the read model in the transaction that clears the rest.

    Events that arrive meanwhile are parked and applied afterwards. A paused projection stays paused. What `on_reset`
    raises is raised, and everything is as it was, also when it is cancelled. Of two resets at once the later one wins;
    the other is refused. So is one while a job of the projection has not ended: it is to be cancelled first.
    """
    mine = _Reset(token=new_token(), actor=actor)

    def begin(connection: Connection) -> str:
        before = states.begin_reset(connection, projection.name, actor=actor, reason=mine.reason)
        _refuse_during_replay(projection, before)
        if replays.unfinished(connection, projection.name) is not None:  # one beside leaves the state as it is
            raise FailureBusy(why_busy(connection, projection, before))
        return before

    try:
        await _change(context, projection, begin, after="resetting", action="reset", actor=actor, note=None)
        await pass_barrier(context, projection)
        await clear(
            context,
            projection,
            is_due=lambda connection: _goes_on(connection, projection, mine),
            then=lambda connection: _end_reset(connection, context, projection, mine),
        )
    except BaseException:
        await context.io.shielded(_restore(context, projection, mine))
        raise
    context.tell([Notice(kind=NoticeKind.RESET, projection=projection.name, actor=actor)])
    context.wake(0.0)


def _goes_on(connection: Connection, projection: Projection, mine: _Reset) -> bool:
    """Return False for a reset that is done already: only the reply of its COMMIT was lost."""
    if states.is_reset_of(connection, projection.name, mine.reason):
        return True
    if audits.details_of(connection, projection.name, mine.token) is None:
        raise FailureBusy(f"Projection {projection.name!r} was reset or changed by somebody else meanwhile")
    return False


def _end_reset(connection: Connection, context: Context, projection: Projection, mine: _Reset) -> None:
    forgotten = forget(connection, context, projection, actor=mine.actor)
    after = states.end_job(connection, projection.name, actor=mine.actor, reason=None)
    audits.write(
        connection,
        action_id=mine.token,
        actor=mine.actor,
        action="reset_done",
        projection=projection.name,
        details={**forgotten, "before": "resetting", "after": after},
    )


async def _restore(context: Context, projection: Projection, mine: _Reset) -> None:
    """Take back a reset that did not come about, if the projection is still in it, and say so in the audit log."""
    action_id = new_token()

    def write(connection: Connection) -> None:
        if not states.is_reset_of(connection, projection.name, mine.reason):
            return
        reason = "a reset did not come about"
        after = states.end_job(connection, projection.name, actor=mine.actor, reason=reason)
        audits.write(
            connection,
            action_id=action_id,
            actor=mine.actor,
            action="reset_undone",
            projection=projection.name,
            note=reason,
            details={"before": "resetting", "after": after},
        )

    await transact(context, write, what=f"{projection.name}: a reset that did not come about could not be taken back")
