"""The moments at which a worker is woken: close ones are one, and none comes too early."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from projection_guard._lanes import _Alarms
from tests.fuzz.settings import few


@few(100)
@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=1, max_size=30))
def test_a_moment_is_never_early_and_at_most_an_eighth_or_a_quarter_of_a_second_late(delays: list[float]) -> None:
    """What is due is found due when the worker looks."""
    for delay in delays:
        alarms, before = _Alarms(), time.monotonic()
        alarms.add(delay)
        (rings_at,) = alarms._moments
        assert before + delay <= rings_at <= time.monotonic() + delay + min(delay / 8, 0.25) + 1e-5


def test_a_thousand_that_are_due_within_a_moment_ring_a_few_times() -> None:
    """Events that are parked one after the other would keep a worker looking all the time."""
    alarms = _Alarms()
    for _ in range(1000):
        alarms.add(1.0)
        alarms.add(0.0)
    assert alarms.drop_past()
    assert not alarms.drop_past()
    assert len(alarms._moments) <= 1000 * 0.01  # a second and a bit in steps of 1/8, on the slowest machine
