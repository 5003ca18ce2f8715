"""The immediate retries that `publish` makes itself and waits for, where the policy says `blocking=True`."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection

from .._model import Outcome, OutcomeStatus
from .._store import failures, reading
from ..errors import StoreUnavailable
from .context import Context, new_token, transact
from .healing import Claimed, claim, claimed, heal
from .projection import Projection

__all__ = ["retry_now"]


async def retry_now(context: Context, projection: Projection, outcome: Outcome, born: str) -> Outcome:
    """Retry a delivery's own failure as long as its retries are immediate ones; return what came of it.

    They are reserved to `born`, which names the delivery: an event that had failed before keeps the time that it has.
    Where the store is out of reach meanwhile, the failure is on record, and a worker makes the rest of them.
    """
    for _ in range(projection.retry.immediate):
        try:
            next_outcome = await _next(context, projection, outcome, born)
        except StoreUnavailable:
            break
        if next_outcome is None:
            break
        outcome = next_outcome
    return outcome


async def _next(context: Context, projection: Projection, outcome: Outcome, born: str) -> Outcome | None:
    """Make the next retry once it is due; None where it is not this delivery's to make."""
    if outcome.status is not OutcomeStatus.FAILED or outcome.failure_id is None:
        return None
    waits = await _seconds_until_due(context, outcome.failure_id, born)
    if waits is None:
        return None
    await context.io.sleep(waits)
    token = new_token()
    taken = await _claim(context, projection.name, outcome.failure_id, token)
    return None if taken is None else await heal(context, projection, taken, token=token, born=born)


async def _seconds_until_due(context: Context, failure_id: UUID, born: str) -> float | None:
    def look(connection: Connection) -> float | None:
        failure = failures.one(connection, failure_id)
        if failure is None or failure.lease_owner != born or failure.next_retry_at is None:
            return None
        return max((failure.next_retry_at - reading.now(connection)).total_seconds(), 0.0)

    return await transact(context, look, what="a retry")


async def _claim(context: Context, projection: str, failure_id: UUID, token: str) -> Claimed | None:
    def take(connection: Connection) -> Claimed | None:
        taken = failures.claim(connection, failure_id, token=token, lease_seconds=context.lease_seconds)
        return claimed(connection, taken)

    return await claim(context, projection, take, token=token, what=f"{projection}: a retry")
