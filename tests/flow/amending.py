"""What the tests of amendments are told with: a handler that cannot take a number, and how the number is amended.

told = Choosy("P")
guard, failure = broken(bed, told)                       # A#1 holds 666, A#2 and A#3 wait behind it
guard.amend(failure.id, with_n(guard, failure, 1), actor="alice")
"""

from __future__ import annotations

import json
from typing import Any

from tenacity import wait_fixed

from projection_guard import Failure, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import Planned, listed, one_failure

__all__ = ["LATER", "WRONG", "Choosy", "broken", "edited", "with_n"]

WRONG = 666
LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


class Choosy(Planned):
    """A handler that fails on each event whose number is too high; what it noted has to be undone then."""

    def __init__(self, name: str) -> None:
        super().__init__(name, note=listed(name))

    def fails_on(self, event: Happened) -> bool:
        """Return whether this event is to fail now."""
        return event.n >= WRONG or super().fails_on(event)

    def heal(self) -> None:
        """Fail on what is planned no more; on what is too high, still."""
        self.failing.clear()


def broken(bed: Bed, told: Choosy, *, kind: str = "joined", **options: Any) -> tuple[GuardOnBed, Failure]:
    """Let A#1 fail for what it holds, with A#2 and A#3 behind it."""
    guard = bed.guard(retry=LATER, **options)
    told.register(bed, guard, kind)
    guard.publish(happened("A", WRONG, 1, event_id="A#1"))
    for n in (2, 3):
        guard.publish(happened("A", n, n))
    return guard, one_failure(guard, told.name)


def edited(guard: GuardOnBed, failure: Failure) -> Any:
    """Return a failure's event as an operator gets it to edit."""
    return json.loads(guard.editable_payload(failure.id))


def with_n(guard: GuardOnBed, failure: Failure, n: int) -> Any:
    """Return a failure's event with another number in it."""
    payload = edited(guard, failure)
    payload["data"]["n"] = n
    return payload
