"""Within a projection nothing that is due waits until a long drain is over. Found by the chaos run."""

from __future__ import annotations

import pytest
from tenacity import wait_fixed

from projection_guard import RetryPolicy
from projection_guard._core import rounds
from tests.bed import Bed, happened
from tests.flow.acting import Planned, make_due


def test_a_retry_that_is_due_does_not_wait_for_the_drain_of_all_streams(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round whose time is over ends after the stream in hand, says that there is more, and the next retries first."""
    monkeypatch.setattr(rounds, "_LONGEST_DRAIN_SECONDS", 0.0)
    guard, planned = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=None)), Planned("P", "F#1")
    planned.register(bed, guard, "joined")
    guard.publish(happened("F", 1))
    guard.pause("P", actor="alice")
    for stream in ("A", "B", "C"):
        guard.publish(happened(stream, 1))
    guard.resume("P", actor="alice")
    first = guard.work()
    assert (first.drained, first.has_more) == (1, True)
    planned.heal()
    make_due(bed)
    second = guard.work()
    assert (second.retried, second.drained) == (1, 1)
    assert planned.calls.index("F#1", 1) == 2, planned.calls  # before the second stream
    assert guard.work().drained == 1
