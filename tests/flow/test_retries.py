"""When a failed event is tried again, by whom and how often, as the rows say it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.event import listen
from sqlalchemy.exc import TimeoutError as QueuePoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import (
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    stop_never,
    wait_chain,
    wait_exponential,
    wait_fixed,
    wait_random,
)

from projection_guard import (
    Breaker,
    ConfigurationError,
    Failure,
    JsonCodec,
    PermanentFailure,
    RetryAfter,
    RetryPolicy,
    StoreUnavailable,
)
from projection_guard.testing import advance
from tests.bed import AT_ONCE, Bed, GuardOnBed, Happened, async_url, happened, noted
from tests.flow.acting import (
    Planned,
    active_equals_open_rows,
    going,
    make_due,
    one_failure,
    states_of,
    statuses,
)

HOURS = wait_fixed(3600)


def wait_of(failure: Failure) -> float | None:
    """Return the seconds from the moment an attempt was recorded to the next one, both on the database's clock."""
    if failure.next_retry_at is None:
        return None
    return round((failure.next_retry_at - failure.updated_at).total_seconds(), 1)


def failing(bed: Bed, policy: RetryPolicy, **options: Any) -> tuple[GuardOnBed, Planned]:
    """Return a guard under this policy, on which A#1 has failed."""
    planned = Planned("P", "A#1", **options)
    guard = bed.guard(retry=policy)
    bed.joined(guard, "P", planned.joined)
    assert guard.publish(happened("A", 1))[0].status == "failed"
    return guard, planned


def waits(bed: Bed, guard: GuardOnBed, rounds: int) -> list[float | None]:
    """Let each retry come due and fail, and return the waits that were planned."""
    found = [wait_of(one_failure(guard))]
    for _ in range(rounds):
        make_due(bed)
        guard.work()
        found.append(wait_of(one_failure(guard)))
    return found


def test_retries_are_due_after_1_2_4_8_and_16_seconds_and_then_a_person_is_asked(bed: Bed) -> None:
    """The default policy, as it stands in the row after each attempt."""
    guard, planned = failing(bed, RetryPolicy())
    first = one_failure(guard)
    now = bed.value("SELECT max(updated_at) FROM projection_failures")
    assert now is not None
    assert (first.retry_count, first.max_retries, first.last_retry_at) == (0, 5, None)
    assert waits(bed, guard, 5) == [1.0, 2.0, 4.0, 8.0, 16.0, None]
    last = one_failure(guard)
    assert (last.retry_count, last.is_exhausted, last.lease_owner) == (5, True, None)
    assert len(planned.calls) == 6
    guard.work()
    assert len(planned.calls) == 6
    assert guard.health("P").exhausted_failures == 1


@pytest.mark.parametrize(
    ("wait", "lowest", "highest"),
    [
        (wait_exponential(multiplier=1) + wait_random(0, 1), [1, 2, 4], [2, 3, 5]),
        (wait_chain(wait_fixed(3), wait_fixed(7)), [3, 7, 7], [3, 7, 7]),
        (lambda state: 10.0 * state.attempt_number, [10, 20, 30], [10, 20, 30]),
    ],
    ids=["exponential plus random", "chain", "a callable"],
)
def test_tenacitys_waits_are_used_as_they_are(bed: Bed, wait: Any, lowest: list[int], highest: list[int]) -> None:
    """Sums, chains and plain callables, each by the number of the attempt."""
    guard, _ = failing(bed, RetryPolicy(wait=wait))
    planned = waits(bed, guard, 2)
    assert all(low <= (seconds or -1) <= high for low, seconds, high in zip(lowest, planned, highest, strict=True))


def test_a_stop_after_a_delay_counts_from_the_first_failure(bed: Bed) -> None:
    """`stop_any(attempts, delay)`: an event that has failed for two hours is given up, however few its attempts."""
    policy = RetryPolicy(wait=wait_fixed(3600), stop=stop_any(stop_after_attempt(100), stop_after_delay(7200)))
    guard, planned = failing(bed, policy)
    assert one_failure(guard).max_retries == 99
    bed.run(advance(guard.real, timedelta(minutes=61)))
    guard.work()
    assert not one_failure(guard).is_exhausted
    bed.run(advance(guard.real, timedelta(minutes=61)))
    guard.work()
    assert one_failure(guard).is_exhausted
    assert len(planned.calls) == 3


def test_an_error_that_retry_does_not_name_goes_to_a_person_at_once(bed: Bed) -> None:
    """`retry_if_exception_type(KeyError)`: a ValueError is not tried again, a KeyError is."""
    policy = RetryPolicy(wait=HOURS, retry=retry_if_exception_type(KeyError))
    guard, planned = failing(bed, policy)
    assert one_failure(guard).is_exhausted
    planned._error = lambda: KeyError("k")
    planned.failing.add("B#1")
    guard.publish(happened("B", 1))
    (second,) = [failure for failure in guard.failures("P").items if failure.event_id == "B#1"]
    assert not second.is_exhausted


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_exactly_max_retries_retries_are_made(bed: Bed, kind: str) -> None:
    """`stop_after_attempt(4)` is the first delivery and three retries; then it stays where it is."""
    guard, planned = bed.guard(retry=RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(4))), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    guard.publish(happened("A", 1))
    guard.publish(happened("A", 2))
    for _ in range(3):
        guard.work()
    failure = one_failure(guard)
    assert planned.calls == ["A#1"] * 4
    assert (failure.retry_count, failure.max_retries, failure.is_exhausted) == (3, 3, True)
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked"}
    assert active_equals_open_rows(bed)


def test_no_retry_is_made_where_the_policy_allows_none(bed: Bed) -> None:
    """`stop_after_attempt(1)`: the first failure is the last."""
    guard, planned = failing(bed, RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(1)))
    guard.work()
    failure = one_failure(guard)
    assert (failure.max_retries, failure.is_exhausted, planned.calls) == (0, True, ["A#1"])


@pytest.mark.parametrize(("limit", "calls"), [(1, 2), (7, 8)])
def test_a_rows_own_max_retries_wins_over_the_policy(bed: Bed, limit: int, calls: int) -> None:
    """An operator sets it in SQL, down or up; the policy says five."""
    guard, planned = failing(bed, AT_ONCE)
    bed.change("UPDATE projection_failures SET max_retries = :limit", limit=limit)
    guard.work()
    assert len(planned.calls) == calls
    failure = one_failure(guard)
    assert (failure.max_retries, failure.retry_count, failure.is_exhausted) == (limit, limit, True)


def test_an_exhausted_event_goes_on_when_its_row_is_given_more_retries(bed: Bed) -> None:
    """As the operators' page says: raise `max_retries` and set `next_retry_at`."""
    guard, planned = failing(bed, AT_ONCE)
    guard.work()
    assert one_failure(guard).is_exhausted
    bed.change("UPDATE projection_failures SET max_retries = 8, next_retry_at = failed_at")
    guard.work()
    assert one_failure(guard).retry_count == 8
    assert len(planned.calls) == 9


@pytest.mark.parametrize("how", ["permanent=", "PermanentFailure"])
def test_a_permanent_error_goes_to_a_person_at_once(bed: Bed, how: str) -> None:
    """By its class in the policy, or because the handler says so."""
    kind = LookupError if how == "permanent=" else PermanentFailure
    policy = RetryPolicy(wait=wait_fixed(0), permanent=(LookupError,))
    guard, planned = failing(bed, policy, error=lambda: kind("no use"))
    guard.work()
    assert planned.calls == ["A#1"]
    failure = one_failure(guard)
    assert (failure.is_exhausted, failure.retry_count, failure.error_message) == (True, 0, "no use")
    assert guard.publish(happened("A", 2))[0].status == "parked"


def test_a_permanent_error_ends_the_retries_whenever_it_comes(bed: Bed) -> None:
    """The first failure may have been another one."""
    guard, planned = failing(bed, RetryPolicy(wait=HOURS, permanent=(LookupError,)))
    planned._error = lambda: KeyError("k")
    make_due(bed)
    guard.work()
    failure = one_failure(guard)
    assert (failure.is_exhausted, failure.retry_count, failure.error_type) == (True, 1, "KeyError")


def test_retry_after_sets_the_next_time(bed: Bed) -> None:
    """The handler knows best when to come back; the attempt counts."""
    guard, _ = failing(bed, RetryPolicy(wait=wait_fixed(1)), error=lambda: RetryAfter(42))
    assert waits(bed, guard, 2) == [42.0, 42.0, 42.0]
    assert one_failure(guard).retry_count == 2


@pytest.mark.parametrize("how", ["a lost connection", "transient="])
def test_a_transient_error_backs_off_and_never_exhausts(bed: Bed, how: str) -> None:
    """Eight attempts under a policy of two: the row is still due, its retries are unused, its waits have grown."""
    policy = RetryPolicy(stop=stop_after_attempt(2), transient=(LookupError,))
    if how == "a lost connection":
        policy = RetryPolicy(stop=stop_after_attempt(2))
    kind = ConnectionResetError if how == "a lost connection" else KeyError
    guard, planned = failing(bed, policy, error=lambda: kind("gone"))
    assert waits(bed, guard, 7) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    failure = one_failure(guard)
    assert (failure.retry_count, failure.is_exhausted) == (0, False)
    planned._error = lambda: ValueError("a real one")
    make_due(bed)
    guard.work()
    assert one_failure(guard).is_exhausted


def test_the_failure_is_on_record_before_anybody_waits(bed: Bed) -> None:
    """`blocking=True` waits within `publish`; the handler's second call finds the row of the first."""
    policy = RetryPolicy(wait=wait_fixed(0.05), blocking=True)
    guard, found, note = bed.guard(retry=policy), list[int](), noted("P")

    def body(event: Happened, connection: Connection) -> None:
        found.append(bed.value("SELECT count(*) FROM projection_failures WHERE resolved_at IS NULL"))
        note(event, connection)
        if len(found) < 3:
            raise ValueError("planned")

    bed.joined(guard, "P", body)
    started = time.monotonic()
    (outcome,) = guard.publish(happened("A", 1))
    assert time.monotonic() - started >= 0.1
    assert found == [0, 1, 1]
    assert (outcome.status, outcome.attempts) == ("applied", 3)
    assert bed.effects("P") == [("A", 1)]
    assert guard.health("P").active_failures == 0


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_blocking_makes_publish_wait_for_the_immediate_retries_only(bed: Bed, kind: str) -> None:
    """`immediate=2`: `publish` has seen three calls when it returns; the worker makes the rest."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(0), immediate=2, blocking=True))
    planned = Planned("P", "A#1")
    planned.register(bed, guard, kind)
    (outcome,) = guard.publish(happened("A", 1))
    assert (outcome.status, outcome.attempts, len(planned.calls)) == ("failed", 3, 3)
    assert one_failure(guard).retry_count == 2
    guard.work()
    assert len(planned.calls) == 6


def seen_by(bed: Bed, guard: GuardOnBed) -> None:
    """End the process that saw the failure, as far as its guard is concerned."""
    bed.run(guard.real.close())


def test_an_immediate_retry_is_left_to_the_process_that_saw_the_failure(bed: Bed) -> None:
    """Its lease outlasts the due time a little; another guard's worker takes it only then."""
    first = bed.guard(retry=RetryPolicy(wait=HOURS), worker="auto")
    bed.joined(first, "P", Planned("P", "A#1").joined)
    first.publish(happened("A", 1))
    second, planned = bed.guard(), Planned("P")
    bed.joined(second, "P", planned.joined)
    failure = one_failure(second)
    assert failure.lease_owner is not None
    assert failure.lease_owner.startswith("process:")
    assert failure.lease_expires_at is not None
    assert failure.next_retry_at is not None
    assert 0 < (failure.lease_expires_at - failure.next_retry_at).total_seconds() < 10
    seen_by(bed, first)
    bed.change("UPDATE projection_failures SET next_retry_at = failed_at")
    assert second.work().retried == 0
    assert planned.calls == []
    bed.change("UPDATE projection_failures SET lease_expires_at = failed_at")
    assert second.work().healed == 1
    assert bed.effects("P") == [("A", 1)]


def test_later_retries_are_anybodys(bed: Bed) -> None:
    """After `immediate` of them the row is lent to nobody; with `immediate=0` it never is."""
    soon_then_late = wait_chain(wait_fixed(0), wait_fixed(0), HOURS)
    first = bed.guard(worker="auto")
    bed.joined(first, "P", Planned("P", "A#1").joined, retry=RetryPolicy(wait=soon_then_late, immediate=2))
    bed.joined(first, "Q", Planned("Q", "A#1").joined, retry=RetryPolicy(wait=HOURS, immediate=0))
    first.publish(happened("A", 1))
    assert one_failure(first, "Q").lease_owner is None
    bed.wait_until(lambda: one_failure(first, "P").retry_count == 2 and one_failure(first, "P").lease_owner is None)
    seen_by(bed, first)
    second, planned = bed.guard(), Planned("P")
    for name in "PQ":
        bed.joined(second, name, planned.joined)
    bed.change("UPDATE projection_failures SET next_retry_at = failed_at")
    assert second.work().healed == 2


def test_a_guard_whose_worker_is_elsewhere_reserves_nothing(bed: Bed) -> None:
    """With `worker="external"` nobody here would make the retry."""
    guard, _ = failing(bed, RetryPolicy(wait=HOURS))
    failure = one_failure(guard)
    assert (failure.lease_owner, failure.lease_expires_at) == (None, None)


def test_the_history_of_a_failure_tells_every_attempt(bed: Bed) -> None:
    """Number, time, error and how long it took; also after the failure has healed."""
    messages = iter(["first", "second"])
    guard, planned = failing(bed, RetryPolicy(wait=HOURS), error=lambda: ValueError(next(messages)))
    make_due(bed)
    guard.work()
    planned.heal()
    failure_id = one_failure(guard).id
    make_due(bed)
    guard.work()
    attempts = guard.attempts(failure_id)
    told = [(attempt.number, attempt.error_type, attempt.error_message) for attempt in attempts]
    assert told == [(1, "ValueError", "first"), (2, "ValueError", "second")]
    assert all(attempt.duration_ms is not None and attempt.duration_ms > 0 for attempt in attempts)
    assert attempts[0].attempted_at <= attempts[1].attempted_at
    failure = guard.failure(failure_id)
    assert (failure.resolution_method, failure.resolved_by, failure.next_retry_at) == ("auto_retry", None, None)


def test_the_row_keeps_what_a_person_needs(bed: Bed) -> None:
    """The event, the error with its traceback, and a fingerprint by which like errors are grouped."""
    guard, planned = failing(bed, RetryPolicy(wait=HOURS))
    planned.failing.add("B#1")
    guard.publish(happened("B", 1, 17))
    second, first = guard.failures("P").items
    assert (first.event_id, first.event_type, first.stream_id, first.event_sequence) == ("A#1", "Happened", "A", None)
    assert (second.stream_id, second.event_sequence, second.projection_name) == ("B", 17, "P")
    assert (first.error_type, first.error_message) == ("ValueError", "planned")
    assert "in fail" in (first.error_traceback or "")
    assert first.fingerprint == second.fingerprint
    assert first.event_payload is not None


def test_the_row_tells_the_newest_error(bed: Bed) -> None:
    """After a retry that failed otherwise the message is that one's."""
    guard, planned = failing(bed, RetryPolicy(wait=HOURS))
    planned._error = lambda: RuntimeError("another one")
    make_due(bed)
    guard.work()
    failure = one_failure(guard)
    assert (failure.error_type, failure.error_message) == ("RuntimeError", "another one")
    assert failure.last_retry_at is not None


def test_policies_of_projections_differ(bed: Bed) -> None:
    """`retry=` of a projection wins over the guard's."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(5)))
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    bed.joined(guard, "Q", Planned("Q", "A#1").joined, retry=RetryPolicy(wait=wait_fixed(50), stop=stop_never))
    assert statuses(guard.publish(happened("A", 1))) == ["failed", "failed"]
    assert (wait_of(one_failure(guard, "P")), wait_of(one_failure(guard, "Q"))) == (5.0, 50.0)


def test_a_wait_that_is_no_number_of_seconds_does_not_lose_the_failure(sqlite_bed: Bed) -> None:
    """Infinite, negative or not a number: the row is written and due some time."""
    guard = sqlite_bed.guard()
    for name, seconds in (("P", float("inf")), ("Q", -5.0), ("R", float("nan"))):
        policy = RetryPolicy(wait=lambda _, seconds=seconds: seconds)  # type: ignore[misc]
        sqlite_bed.joined(guard, name, Planned(name, "A#1").joined, retry=policy)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"] * 3
    assert (wait_of(one_failure(guard, "P")) or 0) > 86_400
    assert wait_of(one_failure(guard, "Q")) == 0.0
    assert (wait_of(one_failure(guard, "R")) or 0) > 86_400


@pytest.mark.parametrize(
    "options", [{"immediate": -1}, {"wait": 3}, {"stop": "soon"}, {"retry": None}, {"breaker": {"failures": 1}}]
)
def test_a_policy_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    """At once, and not at the first failure."""
    with pytest.raises(ConfigurationError):
        RetryPolicy(**options)


@pytest.mark.parametrize(
    "options", [{"failures": 0}, {"streams": 0}, {"failures": 2, "streams": 3}, {"first_pause_seconds": 0}]
)
def test_a_breaker_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    """At once, and not in the outage."""
    with pytest.raises(ConfigurationError):
        Breaker(**options)


def test_blocking_waits_for_this_deliverys_own_failure_only(bed: Bed) -> None:
    """Delivered again, an event that failed earlier is answered at once: its retry keeps the time that it has."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_chain(wait_fixed(0), wait_fixed(2)), immediate=1, blocking=True))
    planned = Planned("P", "A#1")
    planned.register(bed, guard, "joined")
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    before = one_failure(guard)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert (len(planned.calls), one_failure(guard)) == (2, before)


class FailsTwice(Planned):
    """Fails at its first two calls, however fast the third one follows."""

    def fails_on(self, event: Happened) -> bool:
        """Return whether this is its first or second call: it is asked before that is noted."""
        return len(self.calls) < 2


def test_every_immediate_retry_of_a_blocking_delivery_is_its_own(bed: Bed) -> None:
    """The second one too is reserved to the publisher that waits for it: the worker beside it leaves it alone."""
    policy = RetryPolicy(wait=wait_chain(wait_fixed(0), wait_fixed(1)), immediate=2, blocking=True)
    guard, planned, other = bed.guard(retry=policy), FailsTwice("P"), bed.guard(retry=policy)
    planned.register(bed, guard, "joined")
    others = Planned("P")
    others.register(bed, other, "joined")
    delivery = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(lambda: _is_second_planned(bed))
    bed.change("UPDATE projection_failures SET next_retry_at = failed_at")
    assert other.work().retried == 0
    bed.wait_until(lambda: delivery.is_done)
    assert [(outcome.status, outcome.attempts) for outcome in delivery.answer()] == [("applied", 3)]
    assert (len(planned.calls), others.calls) == (3, [])


def _is_second_planned(bed: Bed) -> bool:
    """Return whether the first retry has failed, and is on record."""
    sql = "SELECT count(*) FROM projection_attempts WHERE number = 2"
    return bool(bed.value(sql))


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("was", ["failed", "parked"])
def test_a_handler_that_exits_the_program_does_not_do_so_for_ever(bed: Bed, kind: str, was: str) -> None:
    """`sys.exit()` in a worker counts as a death of its process does: the event ends up with a person."""
    errors = [ValueError("planned"), *[SystemExit(1)] * 12][was == "parked" :]
    guard, planned = bed.guard(), Planned("P", "A#1", error=iter(errors).__next__)
    planned.register(bed, guard, kind)
    if was == "parked":
        guard.pause("P", actor="alice")
    assert statuses(guard.publish(happened("A", 1))) == [was]
    guard.resume("P", actor="alice")
    exits = 0
    for _ in range(12):
        try:
            guard.work()
        except SystemExit:
            exits += 1
        make_due(bed)
        bed.change("UPDATE projection_streams SET lease_expires_at = NULL")
    assert exits == (5 if was == "failed" else 6)
    assert one_failure(guard).error_type.endswith("HandlerDied")
    assert one_failure(guard).next_retry_at is None


class RefusesAfterDecoding(JsonCodec):
    """Lets the next look for a connection fail once an event has been rebuilt: just before its handler is called."""

    refuses = is_generous = False

    def decode(self, data: Any) -> object:
        """Rebuild it."""
        self.refuses = not self.is_generous
        return super().decode(data)

    def check_out(self, *_: object) -> None:
        """Refuse, once."""
        was, self.refuses = self.refuses, False
        if was:
            raise QueuePoolTimeout("no connection is free")


def refusing(bed: Bed) -> tuple[RefusesAfterDecoding, Any]:
    """Give the bed's guards such a codec and an engine whose connections it refuses; close the engine afterwards."""
    codec = RefusesAfterDecoding()
    url = async_url(bed.url) if bed.is_async else bed.url
    engine: Any = (create_async_engine if bed.is_async else create_engine)(url)
    listen(engine.sync_engine if bed.is_async else engine, "checkout", codec.check_out)
    bed.url = engine
    return codec, engine


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("was", ["failed", "parked"])
def test_an_attempt_for_which_no_connection_was_free_does_not_count(bed: Bed, kind: str, was: str) -> None:
    """Its handler was not called: it is due as before."""
    codec, engine = refusing(bed)
    guard, planned = bed.guard(codec=codec), Planned("P", "A#1")
    planned.register(bed, guard, kind)
    if was == "parked":
        guard.pause("P", actor="alice")
    guard.publish(happened("A", 1))
    guard.resume("P", actor="alice")
    for _ in range(8):
        with pytest.raises(StoreUnavailable):
            guard.work()
    assert planned.calls == ["A#1"] * (was == "failed")
    assert bed.rows("SELECT 1 FROM projection_failures WHERE retry_count > 0 OR lease_owner IS NOT NULL") == []
    assert bed.rows("SELECT 1 FROM projection_parked_events WHERE attempts > 0") == []
    codec.is_generous = True
    planned.heal()
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied"}
    bed.run(guard.real.close())
    bed.run(engine.dispose())


def test_a_delivery_whose_retry_finds_no_connection_says_that_it_failed(bed: Bed) -> None:
    """Its failure is on record: it did reach the projection, and need not be delivered again."""
    codec, engine = refusing(bed)
    guard, planned = bed.guard(codec=codec), Planned("P", "A#1")
    planned.register(bed, guard, "joined", retry=RetryPolicy(wait=wait_fixed(0), blocking=True))
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert planned.calls == ["A#1"]
    codec.is_generous = True
    planned.heal()
    make_due(bed)
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied"}
    bed.run(guard.real.close())
    bed.run(engine.dispose())
