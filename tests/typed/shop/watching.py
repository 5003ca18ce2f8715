"""Who is told: an observer, an instrument, receivers of alerts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import assert_type

from sqlalchemy import Engine

from projection_guard import Alert, AlertPolicy, Delivery, Notice, NoticeKind, ProjectionGuard, Settled


def on_call(notice: Notice) -> None:
    """Wake somebody."""
    if notice.kind is NoticeKind.EXHAUSTED and notice.error is not None:
        print(notice.projection, notice.event_id, type(notice.error).__name__)


class Timing:
    """Times every call."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @contextmanager
    def calling(self, deliveries: Sequence[Delivery]) -> Generator[str | None]:
        """Surround a call."""
        yield None
        self.seen += [f"{each.projection} {each.record.event_id} {each.attempt}" for each in deliveries]

    def settled(self, delivery: Delivery, settled: Settled) -> None:
        """Note what became of it."""
        self.seen.append(f"{delivery.origin}: {settled.outcome.status}")

    def noticed(self, notice: Notice) -> None:
        """Note what happened."""


def tell(alert: Alert) -> None:
    """Write it on the wall."""
    assert_type(alert.title, str)


async def tell_later(alert: Alert) -> None:
    """Send it."""


def watched(engine: Engine) -> tuple[ProjectionGuard, Timing]:
    """Make a guard that is watched."""
    timing = Timing()
    alerts = AlertPolicy(to=[tell], active_failures=5)
    guard = ProjectionGuard(engine, observers=[on_call, print], instruments=[timing], alerts=alerts, worker="external")
    return guard, timing
