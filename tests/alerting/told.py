"""What the tests of alerts are told with: a receiver that notes what it is given, and time that passes between looks.

heard = Heard()
guard = watched(bed, heard, "P", body)     # a guard with a projection and alerts
pass_and_work(guard, 30)                   # half a minute later a worker does a round
assert heard.told == [("active_failures", "firing")]
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tenacity import wait_fixed

from projection_guard import Alert, AlertPolicy, RetryPolicy
from projection_guard.testing import advance
from tests.bed import Bed, GuardOnBed

__all__ = ["LATER", "Heard", "outage", "pass_and_work", "policy_of", "seconds_pass", "watched"]

LATER = RetryPolicy(wait=wait_fixed(24 * 3600), breaker=None)
"""Nothing is retried while a test lasts."""


class Heard:
    """A receiver that notes what it is given; it `fails` the next so many times."""

    def __init__(self, name: str = "heard", fails: int = 0) -> None:
        self.name = name
        self.alerts: list[Alert] = []
        self.fails = fails

    def __call__(self, alert: Alert) -> None:
        if self.fails > 0:
            self.fails -= 1
            raise ValueError("sesame")
        self.alerts.append(alert)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Return the kinds and states, in order."""
        return [(alert.kind.value, alert.state) for alert in self.alerts]

    def take(self) -> list[tuple[str, str]]:
        """Return them, and forget them."""
        told, self.alerts = self.told, []
        return told


OFF: dict[str, Any] = {
    "status": False,
    "active_failures": None,
    "lag_seconds": None,
    "exhausted": False,
    "skipped": False,
    "stuck_seconds": None,
    "worker_gone_seconds": None,
}


def policy_of(*receivers: Callable[[Alert], object], **conditions: Any) -> AlertPolicy:
    """Return a policy that tells these receivers of these conditions only."""
    return AlertPolicy(to=receivers, **{**OFF, **conditions})


def watched(bed: Bed, policy: AlertPolicy, body: Callable[..., object] | None = None, **options: Any) -> GuardOnBed:
    """Return a guard with a projection "P" and alerts."""
    options.setdefault("retry", LATER)
    guard = bed.guard(alerts=policy, **options)
    bed.joined(guard, "P", body or (lambda event, connection: None))
    return guard


def seconds_pass(guard: GuardOnBed, seconds: float) -> None:
    """Let time pass."""
    guard.bed.run(advance(guard.real, timedelta(seconds=seconds)))


def pass_and_work(guard: GuardOnBed, seconds: float = 6) -> None:
    """Let time pass, and then a worker do a round."""
    seconds_pass(guard, seconds)
    guard.work()


def outage(bed: Bed, guard: GuardOnBed, is_on: bool = True) -> None:
    """Let a failure wait for a person, or none."""
    guard.health()
    if is_on:
        bed.change(
            "INSERT INTO projection_failures (id, event_id, event_type, projection_name, error_type, error_message,"
            " fingerprint, retry_count, max_retries, failed_at, created_at, updated_at) VALUES "
            "('00000000000000000000000000000001', 'e', 't', 'P', 'ValueError', 'sesame', 'f', 0, 5,"
            " CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
        )
    else:
        bed.change("DELETE FROM projection_failures")
