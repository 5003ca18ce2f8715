"""What people are told when something goes wrong, and from when on: `Alert`, `AlertPolicy`.

A policy is only read here: `_alert_rules` decides by it, `_alert_words` says it, `_core.watching` and `_core.telling`
act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID

from tenacity.wait import wait_base, wait_exponential

from ._policy import call_state
from .errors import AlertNotDelivered, ConfigurationError

__all__ = [
    "Alert",
    "AlertKind",
    "AlertPolicy",
    "AlertSeverity",
    "AlertState",
    "OpenAlert",
    "Receiver",
    "TestedReceiver",
]

AlertState = Literal["firing", "reminder", "recovered"]
AlertSeverity = Literal["info", "warning", "critical"]
_LONGEST_SECONDS: Final = 366 * 24 * 3600.0
_LONGEST_CALL_SECONDS: Final = 300.0
_AT_ONCE_TOO: Final = ("fires_after_seconds", "clears_after_seconds")
_SECONDS: Final = (
    *_AT_ONCE_TOO,
    "lag_seconds",
    "stuck_seconds",
    "worker_gone_seconds",
    "reminder_seconds",
    "timeout_seconds",
    "gives_up_after_seconds",
)


class AlertKind(StrEnum):
    """The kinds of alerts."""

    STATUS = "status"
    """A projection's health has become worse (or better: told too, once that has lasted)."""
    ACTIVE_FAILURES = "active_failures"
    """More failures are unresolved than the policy allows."""
    LAG = "lag"
    """The oldest event that waits is older than the policy allows."""
    EXHAUSTED = "exhausted"
    """Failures wait for a person: no retry is planned."""
    SKIPPED = "skipped"
    """Positions of the log were passed over."""
    STUCK = "stuck"
    """Something waits and nothing moves."""
    WORKER_GONE = "worker_gone"
    """A service worker was not heard of for a minute."""
    TEST = "test"
    """Sent by `test_alert()`: nothing is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One message to people. It never carries an event, an error's text or a secret.

    `id` stays the same where the message is sent again, so that a receiver can drop what it has seen; `incident` is
    shared by all messages from the first "firing" to "recovered". "firing" comes again where it has become worse.
    `projection` is None for a `worker`, and the other way round. `since` is when it began, `at` when this was decided.
    """

    id: UUID
    incident: UUID
    kind: AlertKind
    state: AlertState
    severity: AlertSeverity
    title: str
    text: str
    projection: str | None
    worker: str | None
    facts: Mapping[str, Any] = field(hash=False)
    since: datetime
    at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it: ids and times as text."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return told | {
            "id": str(self.id),
            "incident": str(self.incident),
            "kind": self.kind.value,
            "facts": dict(self.facts),
            "since": self.since.isoformat(),
            "at": self.at.isoformat(),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Alert:
        """Make it of what `as_json` has returned."""
        read: dict[str, Any] = {
            **told,
            "id": UUID(told["id"]),
            "incident": UUID(told["incident"]),
            "kind": AlertKind(told["kind"]),
            "since": datetime.fromisoformat(told["since"]),
            "at": datetime.fromisoformat(told["at"]),
        }
        return cls(**read)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlert:
    """Something that people were told of, and that is not over yet.

    `next_reminder_at` is None where none is planned. `undelivered`: for these receivers a message about it still waits,
    because they failed, or because it is only just being sent.
    """

    incident: UUID
    kind: AlertKind
    severity: AlertSeverity
    projection: str | None
    worker: str | None
    title: str
    facts: Mapping[str, Any] = field(hash=False)
    since: datetime
    told_at: datetime
    next_reminder_at: datetime | None
    undelivered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedReceiver:
    """How a receiver has taken a test alert: `error` says why not, without what may be a secret; None if it did."""

    __test__ = False  # for pytest, which takes a class of this name for one of tests

    name: str
    error: str | None


Receiver = Callable[[Alert], object]
"""Is called with each alert; raising says that it was not delivered. Async ones are for the async guard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPolicy:
    """Who is told, of what, and when. None or False for a condition switches it off.

    `active_failures` and `lag_seconds` are told above that number, and are over once the number is below
    `clears_below` of it. Anything is over once it has been so for `clears_after_seconds`: what comes and goes within
    that time is told once. A status, what is stuck and a worker's silence have to last `fires_after_seconds` first.
    `stuck_seconds`: how long work may wait with nobody doing it, or a reset or job be left. `skipped` are positions of
    the log that were given up; `holes` those where nothing can come any more (each insert that was rolled back leaves
    one).

    What goes on is told again every `reminder_seconds` (None: never), but for what was skipped. A receiver has
    `timeout_seconds` for a call; where it fails it is called again after `wait` (one of tenacity's), for
    `gives_up_after_seconds`. `projections` gives single ones another policy, without receivers, or None for no alerts.
    """

    to: Sequence[Receiver] = ()
    status: bool = True
    active_failures: int | None = 10
    lag_seconds: float | None = 300.0
    exhausted: bool = True
    skipped: bool = True
    holes: bool = False
    stuck_seconds: float | None = 300.0
    worker_gone_seconds: float | None = 60.0
    fires_after_seconds: float = 30.0
    clears_below: float = 0.5
    clears_after_seconds: float = 60.0
    reminder_seconds: float | None = 4 * 3600.0
    timeout_seconds: float = 10.0
    wait: wait_base = field(default_factory=lambda: wait_exponential(multiplier=5, max=600))
    gives_up_after_seconds: float = 24 * 3600.0
    projections: Mapping[str, AlertPolicy | None] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.active_failures is not None and not self.active_failures >= 0:
            raise ConfigurationError("AlertPolicy(active_failures=...) takes a number from 0 on, or None")
        self._check_seconds()
        if not 0 < self.clears_below <= 1:
            raise ConfigurationError("AlertPolicy(clears_below=...) takes a share of the threshold, above 0, at most 1")
        for name, policy in self.projections.items():
            if policy is not None and (policy.to or policy.projections):
                raise ConfigurationError(
                    f"AlertPolicy(projections=...): the policy of {name!r} has to= or projections= of its own; "
                    "receivers are given once, to the policy that the guard gets"
                )
        if callable(self.to) or not all(callable(receiver) for receiver in self.to):
            raise ConfigurationError("AlertPolicy(to=...) takes a list of callables: receiver(alert)")

    def _check_seconds(self) -> None:
        for name in _SECONDS:
            value: float | None = getattr(self, name)
            most = _LONGEST_CALL_SECONDS if name == "timeout_seconds" else _LONGEST_SECONDS
            least = 0.0 if name in _AT_ONCE_TOO else 0.001
            if value is not None and not least <= value <= most:
                raise ConfigurationError(f"AlertPolicy({name}=...) takes seconds, at most {most:.0f}, not {value!r}")

    def of(self, projection: str) -> AlertPolicy | None:
        """Return the policy of a projection; None where it has no alerts."""
        return self.projections.get(projection, self)

    def next_attempt_seconds(self, attempts: int) -> float:
        """Return how long to wait after so many calls of a receiver in vain."""
        seconds = self.wait(call_state(attempts, AlertNotDelivered("the receiver failed"), 0.0))
        return min(max(float(seconds), 0.0), _LONGEST_SECONDS)
