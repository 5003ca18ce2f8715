"""One round of a worker: retries that are due, streams that can be drained, a probe of what is held, the counters.

Each projection is worked on by itself, so that a slow or failing one delays no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from sqlalchemy import Connection

from .._health import Lag
from .._model import OutcomeStatus
from .._notices import Notice, NoticeKind
from .._policy import Breaker, probe_pause
from .._store import attempts, counters, failures, gates, history, outages, reading, states, workers
from .._store.reading import Judged
from ..errors import KeysUnavailable
from .context import Context, new_token, transact
from .draining import drain
from .healing import Claimed, claim, claimed, heal
from .projection import Projection

__all__ = ["Round", "keep_books", "prune", "roll_up", "store_judgements", "work_on"]

_DRAINED_AT_ONCE = 100
_LONGEST_DRAIN_SECONDS = 5.0
"""How long a round drains one stream after the other: what is due to be retried meanwhile has waited that long."""
_ROLLED_UP_AT_ONCE = 5_000
_PRUNED_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round did. `has_more` says that its bounds were reached before the work was.

    `followed` counts events of the log that were applied, failed or parked, `resolved` failures that bulk actions took
    in hand, `told` messages that receivers of alerts took.
    """

    followed: int = 0
    retried: int = 0
    healed: int = 0
    drained: int = 0
    rolled_up: int = 0
    pruned: int = 0
    resolved: int = 0
    told: int = 0
    has_more: bool = False

    def plus(self, other: Round) -> Round:
        """Add up two rounds."""
        return Round(
            followed=self.followed + other.followed,
            retried=self.retried + other.retried,
            healed=self.healed + other.healed,
            drained=self.drained + other.drained,
            rolled_up=self.rolled_up + other.rolled_up,
            pruned=self.pruned + other.pruned,
            resolved=self.resolved + other.resolved,
            told=self.told + other.told,
            has_more=self.has_more or other.has_more,
        )


async def work_on(context: Context, projection: Projection, *, batch: int, stops: Callable[[], bool]) -> Round:
    """Retry, drain and probe one projection, up to `batch` of each; stops between two events when asked to.

    Raises `KeysUnavailable` in the end where an event could not be read for want of its key: others have theirs.
    """
    retried = healed = drained = 0
    away: KeysUnavailable | None = None
    while retried < batch and not stops():
        token = new_token()
        take = partial(_claim, context=context, projection=projection, token=token)
        due = await claim(context, projection.name, take, token=token, what=f"{projection.name}: retries")
        if due is None:
            break
        retried += 1
        try:
            outcome = await heal(context, projection, due, token=token)
        except KeysUnavailable as error:
            away = error
            continue
        healed += outcome.status is OutcomeStatus.APPLIED
    streams = await transact(
        context,
        lambda connection: gates.drainable(connection, projection.name, batch),
        what=f"{projection.name}: drain",
    )
    began = monotonic()
    for gate in streams:
        if stops():
            break
        if drained and monotonic() - began > _LONGEST_DRAIN_SECONDS:
            break
        try:
            drained += await drain(context, projection, gate, limit=_DRAINED_AT_ONCE)
        except KeysUnavailable as error:
            away = error
    if projection.retry.breaker is not None and not stops():
        await _probe(context, projection, projection.retry.breaker)
    if away is not None:
        raise away
    has_more = retried >= batch or (drained > 0 and bool(streams))
    return Round(retried=retried, healed=healed, drained=drained, has_more=has_more)


def _claim(connection: Connection, *, context: Context, projection: Projection, token: str) -> Claimed | None:
    due = failures.claim_due(
        connection,
        projection.name,
        process=context.process,
        token=token,
        lease_seconds=context.lease_seconds,
    )
    return claimed(connection, due)


async def _probe(context: Context, projection: Projection, breaker: Breaker) -> None:
    """Try one event of a held projection when a probe is due; a success ends the hold and gives retries back."""
    token = new_token()
    longest = projection.timeout_seconds + context.lease_seconds

    def take(connection: Connection) -> tuple[int, bool, Claimed | None] | None:
        number = outages.take_probe(connection, projection.name, longest_call_seconds=longest)
        if number is None:
            return None
        candidate = outages.probe_candidate(connection, projection.name, projection.order)
        if candidate is None:
            return number, False, None
        taken = failures.claim(connection, candidate, token=token, lease_seconds=context.lease_seconds)
        return number, True, claimed(connection, taken)

    what = f"{projection.name}: a probe"
    taken = await claim(context, projection.name, take, token=token, what=what)
    if taken is None:
        return
    number, is_anything_open, failure = taken
    outcome = None if failure is None else await heal(context, projection, failure, token=token, is_probe=True)
    has_succeeded = outcome is not None and outcome.status in (OutcomeStatus.APPLIED, OutcomeStatus.DUPLICATE)
    if is_anything_open and not has_succeeded:
        pause = probe_pause(breaker, number)
        await transact(
            context,
            lambda connection: outages.postpone_probe(connection, projection.name, number=number, pause_seconds=pause),
            what=what,
        )
        return
    await transact(context, lambda connection: _release(connection, projection), what=what)
    context.tell([Notice(kind=NoticeKind.RELEASED, projection=projection.name)])
    context.wake(0.0)


def _release(connection: Connection, projection: Projection) -> None:
    state = states.read(connection, projection.name)
    if state is not None and state.outage_began_at is not None:
        attempts.give_back(connection, projection.name, state.outage_began_at)
    outages.let_go(connection, projection.name)


async def keep_books(context: Context) -> Round:
    """Count successes into checkpoints and metrics, and write handler times down."""
    what = "the counters"
    total = 0
    for name in await transact(context, counters.names_to_roll_up, what=what):
        total += await roll_up(context, name, _ROLLED_UP_AT_ONCE)
    timings = context.timings.take()

    def write(connection: Connection) -> None:
        for name, (calls, milliseconds) in sorted(timings.items()):
            counters.record_timing(connection, name, calls=calls, total_ms=milliseconds)

    if timings:
        await transact(context, write, what=what)
    return Round(rolled_up=total, has_more=total >= _ROLLED_UP_AT_ONCE)


async def store_judgements(
    context: Context, names: Sequence[str], lags: Mapping[str, Lag], *, sampled: Collection[str]
) -> None:
    """Let the judge look at the facts as they are now, and store what he says and the lag.

    Of those in `sampled`, the first one who does it in a minute also keeps a sample.
    """

    def judge(connection: Connection) -> list[Judged]:
        judged = reading.judged(connection, context.health, lags, list(names))
        due = [each for each in judged if each.health.projection_name in sampled and _lacks_sample(context, each)]
        if due:
            history.keep(connection, due[0].minute, [each.health for each in due])
        reading.store_judgements(connection, [each.health for each in judged])  # last: others wait for these rows
        return due

    for each in await transact(context, judge, what="the judgements"):
        context.last_samples.note(each.health.projection_name, each.minute)


def _lacks_sample(context: Context, judged: Judged) -> bool:
    return context.last_samples.lack(judged.health.projection_name, judged.minute)


async def roll_up(context: Context, name: str, limit: int) -> int:
    """Count up to `limit` successes of one projection; return how many."""
    return await transact(
        context, lambda connection: counters.roll_up(connection, name, limit), what=f"{name}: the counters"
    )


async def prune(context: Context) -> Round:
    """Forget applied events older than the window in which redelivery is recognised, old samples, workers long gone."""

    def forget(connection: Connection) -> tuple[int, int]:
        workers.forget(connection)
        samples = history.prune(connection, _PRUNED_AT_ONCE)
        return counters.prune(connection, older_than_seconds=context.dedupe_seconds, limit=_PRUNED_AT_ONCE), samples

    pruned = await transact(context, forget, what="pruning")
    return Round(pruned=sum(pruned), has_more=max(pruned) >= _PRUNED_AT_ONCE)
