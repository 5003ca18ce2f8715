"""One function says how healthy a projection is; whatever is stored or shown is what it said last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import ConfigurationError

__all__ = ["HealthPolicy", "Lag", "Signs", "Status", "judge"]

Status = Literal["healthy", "degraded", "critical", "offline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """From how many unresolved failures on a projection is degraded, critical and offline.

    It is also offline when work has been due, or events have been in the log, for `stalled_after_seconds` and nobody
    does anything.
    """

    degraded_from: int = 1
    critical_from: int = 10
    offline_from: int = 50
    stalled_after_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.degraded_from <= self.critical_from <= self.offline_from:
            raise ConfigurationError("HealthPolicy needs 1 <= degraded_from <= critical_from <= offline_from")
        if not self.stalled_after_seconds > 0:
            raise ConfigurationError("HealthPolicy(stalled_after_seconds=...) takes a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a followed projection is behind its log.

    `events` is at most so many: a sequence has holes. `seconds` is the age of the next event, or how long the cursor
    has stood where events do not tell their time; `stuck_seconds` how long it has stood with events before it. Where
    very many projections are looked at, and stand at more than 16 places, some take the age of an earlier event.
    """

    events: int = 0
    seconds: float = 0.0
    stuck_seconds: float = 0.0
    is_held: bool = False
    is_beyond: bool = False
    given_up: int = 0
    unread: str | None = None
    cursor: int = 0
    head: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The facts a judgement rests on. `overdue_seconds`: how long the oldest work that is due has been waiting."""

    active_failures: int
    exhausted_failures: int = 0
    parked_events: int = 0
    overdue_seconds: float = 0.0
    tainted_streams: int = 0
    held: bool = False
    state: str = "active"
    lag: Lag = Lag()


def judge(policy: HealthPolicy, signs: Signs) -> tuple[Status, tuple[str, ...]]:
    """Return a projection's status and, where there is something to say, the reasons."""
    status = _by_failures(policy, signs.active_failures)
    reasons: list[str] = []
    if signs.active_failures:
        reasons.append(_count(signs.active_failures, "unresolved failure"))
    if signs.exhausted_failures:
        waiting = "waits" if signs.exhausted_failures == 1 else "wait"
        reasons.append(f"{_count(signs.exhausted_failures, 'failure')} {waiting} for a person")
    if signs.held:
        status = "offline"
        reasons.append("held: so many failures in a row look like an outage; it is probed and goes on by itself")
    if signs.overdue_seconds >= policy.stalled_after_seconds:
        status = "offline"
        reasons.append(f"work has been due for {signs.overdue_seconds:.0f} s and no worker does it")
    if signs.lag.stuck_seconds >= policy.stalled_after_seconds and signs.state == "active":
        status = "offline"
        reasons.append(f"events are in the log, and for {signs.lag.stuck_seconds:.0f} s nobody has followed it")
    if signs.lag.unread is not None or signs.lag.is_beyond:
        status = "offline"
    reasons += _of_the_log(signs.lag)
    if signs.state != "active":
        reasons.append(f"the projection is {signs.state}")
    if signs.parked_events:
        reasons.append(f"{_count(signs.parked_events, 'event')} parked")
    if signs.tainted_streams:
        reasons.append(
            f"{_count(signs.tainted_streams, 'stream')} tainted: an event was skipped or may be out of order"
        )
    return status, tuple(reasons)


def _of_the_log(lag: Lag) -> list[str]:
    reasons: list[str] = []
    if lag.unread is not None:
        reasons.append(lag.unread)
    if lag.is_beyond:
        reasons.append(
            f"it has come to sequence {lag.cursor}, and the log ends at {lag.head}: was it restored from a backup? "
            "Events that are appended now are missed; reset it, or pause it and call follow_from"
        )
    if lag.is_held:
        reasons.append(f"it waits behind sequence {lag.cursor} for a transaction that may still write into the log")
    if lag.given_up:
        reasons.append(
            f"{_count(lag.given_up, 'sequence')} given up while a transaction could still have written there"
        )
    return reasons


def _by_failures(policy: HealthPolicy, active: int) -> Status:
    if active >= policy.offline_from:
        return "offline"
    if active >= policy.critical_from:
        return "critical"
    return "degraded" if active >= policy.degraded_from else "healthy"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
