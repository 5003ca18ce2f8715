"""When a failed event is tried again, decided by tenacity's own objects."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError
from tenacity import (
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_never,
    wait_chain,
    wait_exponential,
    wait_fixed,
    wait_random,
)

from projection_guard import Breaker, ConfigurationError, InvalidArgument, PermanentFailure, RetryAfter, RetryPolicy
from projection_guard._policy import UNLIMITED, VerdictKind, decide, probe_pause

BROKEN = ValueError("broken")


def test_the_default_retries_after_1_2_4_8_16_seconds_and_then_gives_up() -> None:
    """Five retries, then a person."""
    policy = RetryPolicy()
    delays = [decide(policy, BROKEN, retry_count=count).delay_seconds for count in range(6)]
    assert delays == [1, 2, 4, 8, 16, None]
    assert policy.max_retries == 5
    assert decide(policy, BROKEN, retry_count=5).kind is VerdictKind.EXHAUSTED


def test_waits_add_up() -> None:
    """`wait_exponential() + wait_random()` is one wait."""
    policy = RetryPolicy(wait=wait_exponential(multiplier=1) + wait_random(0, 1))
    delays = [decide(policy, BROKEN, retry_count=1).delay_seconds or 0.0 for _ in range(50)]
    assert all(2 <= delay <= 3 for delay in delays)
    assert len(set(delays)) > 1


def test_a_chain_of_waits_goes_by_the_number_of_the_attempt() -> None:
    """The n-th retry waits the n-th time, whichever process decides."""
    policy = RetryPolicy(wait=wait_chain(wait_fixed(3), wait_fixed(7)))
    assert [decide(policy, BROKEN, retry_count=count).delay_seconds for count in range(3)] == [3, 7, 7]


@pytest.mark.parametrize(
    ("stop", "max_retries"),
    [
        (stop_after_attempt(1), 0),
        (stop_after_attempt(4), 3),
        (stop_any(stop_after_attempt(4), stop_after_delay(60)), 3),
        (stop_after_delay(60), UNLIMITED),
        (stop_never, UNLIMITED),
    ],
)
def test_max_retries_is_read_off_the_stop(stop: stop_after_attempt, max_retries: int) -> None:
    """A stop is asked how many attempts it allows when no time passes."""
    assert RetryPolicy(stop=stop).max_retries == max_retries


def test_a_stop_after_a_delay_looks_at_the_time_since_the_first_failure() -> None:
    """Time-based stops are evaluated too."""
    policy = RetryPolicy(stop=stop_any(stop_after_attempt(100), stop_after_delay(60)))
    assert decide(policy, BROKEN, retry_count=3, elapsed_seconds=59).kind is VerdictKind.RETRY
    assert decide(policy, BROKEN, retry_count=3, elapsed_seconds=61).kind is VerdictKind.EXHAUSTED


def test_a_stop_of_two_conditions_needs_both() -> None:
    """`stop_all` counts attempts and time."""
    policy = RetryPolicy(stop=stop_all(stop_after_attempt(2), stop_after_delay(60)))
    assert decide(policy, BROKEN, retry_count=50, elapsed_seconds=1).kind is VerdictKind.RETRY
    assert decide(policy, BROKEN, retry_count=50, elapsed_seconds=61).kind is VerdictKind.EXHAUSTED


def test_a_rows_own_limit_wins_either_way() -> None:
    """An operator may raise or lower `max_retries` of a row."""
    policy = RetryPolicy()
    assert decide(policy, BROKEN, retry_count=7, max_retries=10).kind is VerdictKind.RETRY
    assert decide(policy, BROKEN, retry_count=2, max_retries=2).kind is VerdictKind.EXHAUSTED


def test_what_is_permanent_is_not_retried() -> None:
    """By class, by `PermanentFailure`, or by tenacity's `retry`."""
    policy = RetryPolicy(permanent=(ValueError,))
    assert decide(policy, BROKEN, retry_count=0).kind is VerdictKind.PERMANENT
    assert decide(RetryPolicy(), PermanentFailure("no"), retry_count=0).kind is VerdictKind.PERMANENT
    only_keys = RetryPolicy(retry=retry_if_exception_type(KeyError))
    assert decide(only_keys, BROKEN, retry_count=0).kind is VerdictKind.PERMANENT
    assert decide(only_keys, KeyError("k"), retry_count=0).kind is VerdictKind.RETRY


def test_retry_after_sets_the_next_time() -> None:
    """The handler knows best when to come back."""
    assert decide(RetryPolicy(), RetryAfter(42), retry_count=0).delay_seconds == 42
    with pytest.raises(InvalidArgument):
        RetryAfter(-1)
    with pytest.raises(InvalidArgument):
        RetryAfter(float("nan"))


def test_a_lost_connection_backs_off_up_to_a_minute_and_never_exhausts() -> None:
    """An outage is not a poison event."""
    lost = OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)
    for error in (lost, ConnectionResetError("gone")):
        for count in (0, 5, 500):
            verdict = decide(RetryPolicy(), error, retry_count=count, attempts=count + 1)
            assert verdict.kind is VerdictKind.TRANSIENT
            assert verdict.delay_seconds == min(2.0**count, 60.0)


def test_the_application_says_what_is_transient() -> None:
    """By classes or by a predicate."""
    assert decide(RetryPolicy(transient=(ValueError,)), BROKEN, retry_count=9).kind is VerdictKind.TRANSIENT
    by_text = RetryPolicy(transient=lambda error: "broken" in str(error))
    assert decide(by_text, BROKEN, retry_count=9).kind is VerdictKind.TRANSIENT


def test_a_cause_far_down_the_chain_is_seen() -> None:
    """A handler may wrap the lost connection in an error of its own."""
    outer = RuntimeError("could not save")
    outer.__cause__ = KeyError("x")
    outer.__cause__.__cause__ = ConnectionResetError("gone")
    assert decide(RetryPolicy(), outer, retry_count=0).kind is VerdictKind.TRANSIENT


@pytest.mark.parametrize("options", [{"immediate": -1}, {"wait": 3}, {"stop": "soon"}, {"retry": None}])
def test_a_policy_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    """One sentence says what is wrong."""
    with pytest.raises(ConfigurationError):
        RetryPolicy(**options)  # type: ignore[arg-type]


def test_probes_pause_longer_and_longer() -> None:
    """From the first pause up to the longest."""
    breaker = Breaker(first_pause_seconds=1, longest_pause_seconds=60)
    assert [probe_pause(breaker, failed) for failed in (0, 1, 5, 6, 1000)] == [1, 2, 32, 60, 60]
    for wrong in ({"failures": 5, "streams": 6}, {"first_pause_seconds": 0}, {"failures": 0}):
        with pytest.raises(ConfigurationError):
            Breaker(**wrong)


AWAY = ConnectionError("away")


@pytest.mark.parametrize(
    ("errors", "kind", "seconds"),
    [
        ([ValueError("one"), ExceptionGroup("inner", [PermanentFailure("two")])], VerdictKind.PERMANENT, None),
        ([KeyError("permanent by its class")], VerdictKind.PERMANENT, None),
        ([AWAY, ExceptionGroup("inner", [AWAY])], VerdictKind.TRANSIENT, 7.0),
        ([AWAY, ValueError("one")], VerdictKind.RETRY, 7.0),
        ([RetryAfter(3), ValueError("one"), RetryAfter(90)], VerdictKind.RETRY, 90.0),
    ],
)
def test_a_group_is_judged_by_what_is_in_it(errors: list[Exception], kind: VerdictKind, seconds: float | None) -> None:
    """One permanent error is enough; it is an outage if all of it is; the longest wait counts."""
    policy = RetryPolicy(wait=wait_fixed(7), permanent=(KeyError,))
    verdict = decide(policy, ExceptionGroup("several", errors), retry_count=0)
    assert (verdict.kind, verdict.delay_seconds) == (kind, seconds)
