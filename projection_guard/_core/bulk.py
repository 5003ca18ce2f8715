"""Bulk actions: one strategy for many failures. Proposed, which changes nothing; confirmed; then a durable job.

Whoever runs one holds its lease and ends one failure after the other, the oldest first, by the same `admin.resolve` as
for a single one. Which failure is in hand is committed before it is touched, and the id under which its resolution is
audited follows from both ids: so that another one who goes on knows whether it was begun, and counts it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID, uuid4, uuid5

from sqlalchemy import Connection

from .._acting import request_id, within
from .._model import Failure, FailureFilter, OutcomeStatus, check_text
from .._records import BulkAction
from .._store import audits, bulk, failures, matching, reading, states
from .._store.bulk import InHand
from ..errors import (
    FailureBusy,
    FailureResolved,
    InvalidArgument,
    ProjectionGuardError,
    StoreUnavailable,
    UnknownBulkAction,
    UnknownFailure,
)
from . import admin
from .context import Context, new_token, transact
from .projection import Projection

__all__ = ["cancel", "confirm", "due", "propose", "run", "shown"]

_OVER_SEVERAL: Final = "*"


async def propose(context: Context, strategy: str, where: FailureFilter, *, actor: str, note: str | None) -> BulkAction:
    """Count what would be touched and write a proposal down. Raises `InvalidArgument`."""
    admin.check_strategy(strategy)
    check_text(note, "note")
    if where == FailureFilter():
        raise InvalidArgument("where= says nothing: a bulk action needs at least one criterion, such as a projection")
    if where.state == "resolved":
        raise InvalidArgument("state='resolved' names failures that have ended; a bulk action is for unresolved ones")
    job = uuid4()

    def write(connection: Connection) -> BulkAction:
        known = bulk.one(connection, job)
        if known is not None:  # only the reply was lost
            return known
        at = reading.now(connection)
        numbers = matching.number_of_each(connection, where, failed_by=at)
        bulk.propose(
            connection,
            job=job,
            strategy=strategy,
            where=where,
            at=at,
            projections=sorted(numbers),
            matched=sum(numbers.values()),
            actor=actor,
            note=note,
        )
        return _there(bulk.one(connection, job), job)

    return await transact(context, write, what="the bulk action was not proposed")


async def confirm(context: Context, job: UUID, *, actor: str) -> BulkAction:
    """Let workers run what was proposed. Raises `InvalidArgument` where it has expired, `FailureBusy`."""
    action_id = new_token()

    def write(connection: Connection) -> BulkAction:
        seen = _there(bulk.locked(connection, job), job)
        if _is_on_record(connection, seen, action_id):
            return seen
        if seen.status == "expired":
            raise InvalidArgument(
                f"Bulk action {job} was proposed at {_moment(seen.created_at)} and not confirmed in time: what it "
                "would touch may have changed; propose it again, and confirm that"
            )
        if seen.status != "proposed":
            raise FailureBusy(_why_not(seen))
        bulk.confirm(connection, job, actor=actor, request_id=request_id())
        _audit(connection, seen, action_id, actor, "confirm_bulk", "pending")
        return _there(bulk.one(connection, job), job)

    confirmed = await transact(context, write, what=f"bulk action {job} was not confirmed")
    context.wake(0.0)
    return confirmed


async def cancel(context: Context, job: UUID, *, actor: str) -> BulkAction:
    """End it where it is: at once where nobody runs it, else after the failure in hand. Raises `FailureBusy`."""
    action_id = new_token()

    def write(connection: Connection) -> BulkAction:
        seen = _there(bulk.locked(connection, job), job)
        if _is_on_record(connection, seen, action_id):
            return seen
        if seen.is_finished:
            raise FailureBusy(f"Bulk action {job} is {seen.status} already")
        bulk.want_cancelled(connection, job)
        _audit(connection, seen, action_id, actor, "cancel_bulk", "cancelled")
        return _there(bulk.one(connection, job), job)

    return await transact(context, write, what=f"bulk action {job} was not cancelled")


def _there(found: BulkAction | None, job: UUID) -> BulkAction:
    if found is None:
        raise UnknownBulkAction(f"There is no bulk action {job}")
    return found


def _why_not(seen: BulkAction) -> str:
    if seen.confirmed_at is None:
        return f"Bulk action {seen.id} was {seen.status} before anybody confirmed it; propose it again"
    return (
        f"Bulk action {seen.id} was confirmed already, by {seen.confirmed_by} at {_moment(seen.confirmed_at)}; it is "
        f"{seen.status}"
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _scope(action: BulkAction) -> str:
    return action.projections[0] if len(action.projections) == 1 else action.where.projection_name or _OVER_SEVERAL


def _is_on_record(connection: Connection, action: BulkAction, action_id: str) -> bool:
    return audits.details_of(connection, _scope(action), action_id) is not None


def _audit(connection: Connection, seen: BulkAction, action_id: str, actor: str, action: str, after: str) -> None:
    audits.write(
        connection,
        action_id=action_id,
        actor=actor,
        action=action,
        projection=_scope(seen),
        note=seen.note,
        details={
            "bulk": str(seen.id),
            "strategy": seen.strategy,
            "count": seen.count,
            "before": seen.status,
            "after": after,
        },
    )


async def run(
    context: Context,
    projections: Mapping[str, Projection],
    job: UUID,
    *,
    stops: Callable[[], bool],
    most: int | None = None,
) -> int:
    """Run a confirmed action that nobody runs to its end, until it `stops`, or for `most` failures; return how many.

    `projections` has all of those that it is over. Raises `StoreUnavailable`; it then goes on with whoever takes it up.
    """
    token, what, lease = new_token(), f"bulk action {job}", context.lease_seconds
    if not await transact(context, lambda c: bulk.claim(c, job, token=token, lease_seconds=lease), what=what):
        return 0
    running = _Run(context=context, projections=projections, job=job, token=token)

    def renew(connection: Connection) -> bool:
        return bulk.renew(connection, job, token=token, lease_seconds=lease)

    try:
        async with context.io.renewing(lambda: transact(context, renew, what=what, seconds=5.0), lease / 3):
            return await running.to_the_end(lambda done: stops() or done == most)
    finally:
        await context.io.shielded(transact(context, lambda c: bulk.let_go(c, job, token=token), what=what))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How the failure in hand was ended. `error`: nothing can come of the others either."""

    failure_id: UUID
    succeeded: bool
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One who runs an action."""

    context: Context
    projections: Mapping[str, Projection]
    job: UUID
    token: str

    async def to_the_end(self, is_enough: Callable[[int], bool]) -> int:
        """End one failure after the other; return how many."""
        what = f"bulk action {self.job}"
        action = await transact(self.context, lambda c: _there(bulk.one(c, self.job), self.job), what=what)
        ended: _Ended | None = None
        done = 0
        while True:
            take = partial(self._next, action=action, ended=ended, stays=is_enough(done))
            failure = await transact(self.context, take, what=what)
            if failure is None:
                return done
            ended = await self._end(action, failure)
            done += 1

    def _next(self, connection: Connection, *, action: BulkAction, ended: _Ended | None, stays: bool) -> Failure | None:
        """Count what was in hand, and take the next failure in hand; None where there is nothing to do (any more)."""
        at = bulk.go_on(connection, self.job, token=self.token, lease_seconds=self.context.lease_seconds)
        if at is None:
            return None
        if at.failure_id is not None:
            left = self._left_in_hand(connection, action, at.failure_id, ended)
            if isinstance(left, Failure):
                return None if stays else self._unless_cancelled(connection, at, left)
            at = bulk.count(connection, self.job, succeeded=left)
        if ended is not None and ended.error is not None:
            bulk.end(connection, self.job, "failed", ended.error)
            return None
        if at.is_cancelled:
            bulk.end(connection, self.job, "cancelled")
            return None
        failure = bulk.next_failure(connection, action, at)
        if failure is None:
            bulk.end(connection, self.job, "completed")
            return None
        if stays or (action.strategy == "retry" and _why_still(connection, failure.projection_name) is not None):
            return None
        bulk.take(connection, self.job, failure)
        return failure

    def _unless_cancelled(self, connection: Connection, at: InHand, failure: Failure) -> Failure | None:
        if not at.is_cancelled:
            return failure
        bulk.end(connection, self.job, "cancelled")
        return None

    def _left_in_hand(
        self, connection: Connection, action: BulkAction, failure_id: UUID, ended: _Ended | None
    ) -> Failure | bool:
        """Say whether what is in hand succeeded; return the failure itself where it was not begun.

        What one began who was killed is not begun again: it may be what killed him.
        """
        if ended is not None and ended.failure_id == failure_id:
            return ended.succeeded
        failure = failures.one(connection, failure_id)
        if failure is None:
            return False
        deed = _deed(action, failure)
        is_begun = audits.details_of(connection, failure.projection_name, deed.action_id) is not None
        if failure.resolved_at is None and not is_begun:
            return failure
        return is_begun and failure.resolved_at is not None

    async def _end(self, action: BulkAction, failure: Failure) -> _Ended:
        projection = self.projections[failure.projection_name]
        try:
            with within(action.request_id):
                outcome = await admin.resolve(
                    self.context, projection, failure, action.strategy, _deed(action, failure)
                )
        except StoreUnavailable:
            raise
        except (FailureBusy, FailureResolved, UnknownFailure):
            return _Ended(failure_id=failure.id, succeeded=False)
        except Exception as error:
            return _Ended(failure_id=failure.id, succeeded=False, error=_said(error))
        has_ended = outcome.status in (OutcomeStatus.APPLIED, OutcomeStatus.DUPLICATE)
        return _Ended(failure_id=failure.id, succeeded=has_ended)


def _said(error: Exception) -> str:
    """Tell an error of ours; of another one only its kind: what it says may be an event's."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, ProjectionGuardError) else kind


def _deed(action: BulkAction, failure: Failure) -> admin.Deed:
    return admin.Deed(
        actor=action.actor, note=action.note, bulk=action.id, action_id=uuid5(action.id, failure.id.hex).hex
    )


def due(connection: Connection) -> list[BulkAction]:
    """Read the confirmed actions that nobody runs at the moment and that can go on."""
    return [action for action in bulk.due(connection) if _why_it_waits(connection, action) is None]


def shown(connection: Connection, action: BulkAction) -> BulkAction:
    """Return an action as people see it: with what it waits for."""
    is_under_way = action.confirmed_at is not None and not action.is_finished
    return replace(action, waits=_why_it_waits(connection, action)) if is_under_way else action


def shown_each(connection: Connection, actions: Sequence[BulkAction]) -> tuple[BulkAction, ...]:
    """Return actions as people see them; those whose projections are all active wait for nothing."""
    active = states.active(connection)
    return tuple(action if active >= set(action.projections) else shown(connection, action) for action in actions)


def _why_it_waits(connection: Connection, action: BulkAction) -> str | None:
    """Say for which projection it stands still, the oldest failure's that is left; its next one waits for that."""
    at = bulk.in_hand(connection, action.id)
    if action.strategy != "retry" or at.is_cancelled or at.failure_id is not None:
        return None
    failure = bulk.next_failure(connection, action, at)
    return None if failure is None else _why_still(connection, failure.projection_name)


def _why_still(connection: Connection, projection: str) -> str | None:
    """Say why no retries can be made; where a person has paused it, or a replay runs, they wait."""
    state = states.read(connection, projection)
    if state is not None and state.state == "active":
        return None
    return f"projection {projection!r} is {'unknown' if state is None else state.state}"
