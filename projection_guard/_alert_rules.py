"""When people are told: pure decisions, from what is seen, what is on record and the time.

`signs_of_projection` and `sign_of_worker` say what is seen of every condition, `step` what that comes to. Hysteresis is
in `step`: what is told goes on until it has been lower for `clears_after_seconds` without a break.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from ._alerts import AlertKind, AlertPolicy, AlertState
from ._health import Signs
from ._model import Health
from ._records import WorkerState

__all__ = [
    "LeftJob",
    "Seen",
    "Sign",
    "Standing",
    "Step",
    "sign_of_worker",
    "signs_of_projection",
    "step",
    "unwatched",
]

STATUSES: Final = ("healthy", "degraded", "critical", "offline")
_HAVE_TO_LAST: Final = (AlertKind.STATUS, AlertKind.STUCK, AlertKind.WORKER_GONE)
"""A worker too: after an outage of the database all but the one who looks first have been silent for its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftJob:
    """A replay or rebuild that nobody runs, though it is to run, for so long."""

    id: UUID
    kind: str
    for_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is seen of a projection. `state_seconds`: how long it has been in its state; `skipped` counts ranges."""

    health: Health
    signs: Signs
    state_seconds: float
    holes: int = 0
    given_up: int = 0
    left_job: LeftJob | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One condition as it is seen now: 0 where it does not hold, else how bad it is.

    `may_clear`: it is low enough for being over; between the two thresholds neither is so, nor where it cannot be seen.
    `is_watched`: somebody asks for it; nothing is seen of it otherwise.
    """

    kind: AlertKind
    level: int
    may_clear: bool
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_watched: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is on record of a condition. `told_at` is None while it waits whether it lasts; `facts`: those told last.

    `calm_since`: since when it has been lower than `level`; `calm_level` is the highest it has been at since.
    """

    incident: UUID
    level: int
    since: datetime
    told_at: datetime | None = None
    next_reminder_at: datetime | None = None
    calm_since: datetime | None = None
    calm_level: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is on record from now on (None: nothing), and what is told, if anything. `before`: the level told last."""

    standing: Standing | None
    told: AlertState | None = None
    before: int = 0


def step(standing: Standing | None, sign: Sign, policy: AlertPolicy, *, incident: UUID, now: datetime) -> Step:
    """Say what comes of a condition; `incident` is the name of a new one."""
    if standing is None:
        if sign.level == 0:
            return Step(standing=None)
        standing = Standing(incident=incident, level=sign.level, since=now)
    if standing.told_at is None:
        return _waiting(standing, sign, policy, now)
    if sign.level > standing.level:
        return _tell(standing, sign.level, sign.kind, policy, now)
    if sign.level == standing.level or (sign.level == 0 and not sign.may_clear):
        return _goes_on(replace(standing, calm_since=None, calm_level=0), sign.kind, policy, now)
    return _calmer(standing, sign, policy, now)


def _waiting(standing: Standing, sign: Sign, policy: AlertPolicy, now: datetime) -> Step:
    if sign.level == 0:
        return Step(standing=None)
    lasts = policy.fires_after_seconds if sign.kind in _HAVE_TO_LAST else 0.0
    if now - standing.since < timedelta(seconds=lasts):
        return Step(standing=replace(standing, level=sign.level))
    return _tell(replace(standing, level=0), sign.level, sign.kind, policy, now)


def _goes_on(standing: Standing, kind: AlertKind, policy: AlertPolicy, now: datetime) -> Step:
    if standing.next_reminder_at is None or now < standing.next_reminder_at:
        return Step(standing=standing, before=standing.level)
    reminded = replace(standing, next_reminder_at=_reminder(kind, policy, now))
    return Step(standing=reminded, told="reminder", before=standing.level)


def _calmer(standing: Standing, sign: Sign, policy: AlertPolicy, now: datetime) -> Step:
    since = standing.calm_since or now
    highest = max(standing.calm_level, sign.level)
    if now - since < timedelta(seconds=policy.clears_after_seconds):
        return Step(standing=replace(standing, calm_since=since, calm_level=highest), before=standing.level)
    if highest == 0:
        return Step(standing=None, told="recovered", before=standing.level)
    return _tell(standing, highest, sign.kind, policy, now)


def _tell(standing: Standing, level: int, kind: AlertKind, policy: AlertPolicy, now: datetime) -> Step:
    told = replace(
        standing,
        level=level,
        told_at=now,
        next_reminder_at=_reminder(kind, policy, now),
        calm_since=None,
        calm_level=0,
    )
    return Step(standing=told, told="firing", before=standing.level)


def _reminder(kind: AlertKind, policy: AlertPolicy, now: datetime) -> datetime | None:
    """What was skipped stays on record for good: it is told of once."""
    if policy.reminder_seconds is None or kind is AlertKind.SKIPPED:
        return None
    return now + timedelta(seconds=policy.reminder_seconds)


# -- what is seen


def unwatched(kind: AlertKind, **facts: Any) -> Sign:
    """Say of a condition that the policy does not ask for it.

    What is on record of it ends like what is over: not at once, for another process may have another policy.
    """
    return Sign(kind=kind, level=0, may_clear=True, facts={**facts, "watched": False}, is_watched=False)


def signs_of_projection(seen: Seen, policy: AlertPolicy) -> list[Sign]:
    """Say what is seen of each condition of a projection."""
    return [_status(seen, policy), *_numbers(seen, policy), _skipped(seen, policy), _stuck(seen, policy)]


def _status(seen: Seen, policy: AlertPolicy) -> Sign:
    if not policy.status:
        return unwatched(AlertKind.STATUS)
    level = STATUSES.index(seen.health.status.value)
    unread = seen.signs.lag.unread  # the words of an application's error
    reasons = ["its event log cannot be read" if each == unread else each for each in seen.health.reasons]
    facts: dict[str, Any] = {"status": seen.health.status.value, "reasons": reasons}
    return Sign(kind=AlertKind.STATUS, level=level, may_clear=level == 0, facts=facts)


def _numbers(seen: Seen, policy: AlertPolicy) -> list[Sign]:
    health = seen.health
    facts = {"active_failures": health.active_failures, "exhausted_failures": health.exhausted_failures}
    lag = {"lag_seconds": health.lag_seconds, "lag_events": health.lag_events, "state": health.state}
    behind = _number(AlertKind.LAG, health.lag_seconds, policy.lag_seconds, policy, lag)
    return [
        _number(AlertKind.ACTIVE_FAILURES, health.active_failures, policy.active_failures, policy, facts),
        _while_unread(behind) if seen.signs.lag.unread is not None else behind,
        _exhausted(health, policy, facts),
    ]


def _exhausted(health: Health, policy: AlertPolicy, facts: Mapping[str, Any]) -> Sign:
    if not policy.exhausted:
        return unwatched(AlertKind.EXHAUSTED)
    is_so = health.exhausted_failures > 0
    return Sign(kind=AlertKind.EXHAUSTED, level=int(is_so), may_clear=not is_so, facts=facts)


def _while_unread(sign: Sign) -> Sign:
    """What the log would say is not known while it cannot be read: least of all that it is over."""
    return replace(sign, may_clear=sign.may_clear and not sign.is_watched)


def _number(
    kind: AlertKind, value: float, threshold: float | None, policy: AlertPolicy, facts: Mapping[str, Any]
) -> Sign:
    if threshold is None:
        return unwatched(kind)
    is_low = value < threshold * policy.clears_below or value == 0
    return Sign(kind=kind, level=int(value > threshold), may_clear=is_low, facts={**facts, "threshold": threshold})


def _skipped(seen: Seen, policy: AlertPolicy) -> Sign:
    if not (policy.skipped or policy.holes):
        return unwatched(AlertKind.SKIPPED)
    counted = seen.given_up * policy.skipped + seen.holes * policy.holes
    facts = {"given_up": seen.given_up, "holes": seen.holes}
    return Sign(kind=AlertKind.SKIPPED, level=counted, may_clear=counted == 0, facts=facts)


Reason = Literal["no_worker", "not_followed", "held", "unreadable", "beyond", "resetting", "left_job"]


def _stuck(seen: Seen, policy: AlertPolicy) -> Sign:
    if policy.stuck_seconds is None:
        return unwatched(AlertKind.STUCK)
    reasons = _reasons(seen, policy.stuck_seconds)
    facts: dict[str, Any] = {"reasons": list(reasons), "state": seen.health.state}
    if seen.left_job is not None:
        facts["replay"] = str(seen.left_job.id)
    return Sign(kind=AlertKind.STUCK, level=int(bool(reasons)), may_clear=not reasons, facts=facts)


def _reasons(seen: Seen, stuck_seconds: float) -> Sequence[Reason]:
    signs, lag = seen.signs, seen.signs.lag
    told: dict[Reason, bool] = {
        "no_worker": signs.overdue_seconds >= stuck_seconds,
        "not_followed": lag.stuck_seconds >= stuck_seconds and signs.state == "active" and not signs.held,
        "held": signs.held,
        "unreadable": lag.unread is not None,
        "beyond": lag.is_beyond,
        "resetting": signs.state == "resetting" and seen.state_seconds >= stuck_seconds,
        "left_job": seen.left_job is not None and seen.left_job.for_seconds >= stuck_seconds,
    }
    return [reason for reason, holds in told.items() if holds]


def sign_of_worker(worker: WorkerState, policy: AlertPolicy, others: Sequence[WorkerState], *, is_told: bool) -> Sign:
    """Say whether a worker is gone. It is over, once people were told, where another one has taken its place.

    That is one that began after the last sign of the one that is gone, and has all of its projections.
    """
    facts: dict[str, Any] = {
        "host": worker.host,
        "process_id": worker.process_id,
        "projections": list(worker.projections),
        "silent_seconds": round(worker.silent_seconds, 1),
    }
    gone_after = policy.worker_gone_seconds
    if gone_after is None:
        return unwatched(AlertKind.WORKER_GONE, **facts)
    is_gone = worker.silent_seconds > gone_after
    follower = next((other for other in others if _replaces(other, worker, gone_after)), None)
    if is_gone and is_told and follower is not None:
        is_gone = False
        facts["replaced_by"] = follower.worker_id
    return Sign(kind=AlertKind.WORKER_GONE, level=int(is_gone), may_clear=not is_gone, facts=facts)


def _replaces(other: WorkerState, worker: WorkerState, gone_after: float) -> bool:
    return (
        other.kind == "service"
        and other.started_at > worker.seen_at
        and other.silent_seconds <= gone_after
        and set(other.projections) >= set(worker.projections)
    )
