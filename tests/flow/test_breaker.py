"""An outage is not a poison event: a projection in which everything fails is held, probed, and goes on by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tenacity import stop_after_attempt, stop_never, wait_fixed

from projection_guard import Breaker, FailureFilter, PermanentFailure, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import (
    Planned,
    Valve,
    active_equals_open_rows,
    going,
    listed,
    make_due,
    states_of,
    work_until_done,
)
from tests.following.logs import FollowedLog

STREAMS = [f"S{number}" for number in range(6)]
SMALL = Breaker(failures=6, streams=4)
SELDOM = Breaker(failures=6, streams=4, first_pause_seconds=3600, longest_pause_seconds=3600)
"""No probe comes due in a test by itself."""


class Outage(Planned):
    """A read model that is away while `is_on`."""

    def __init__(self, name: str = "P", error: Callable[[], BaseException] | None = None) -> None:
        super().__init__(name, error=error or (lambda: ValueError("the read model is away")))
        self.is_on = True

    def fails_on(self, event: Happened) -> bool:
        return self.is_on or super().fails_on(event)


def guard_of(bed: Bed, outage: Outage, breaker: Breaker | None = SMALL, **policy: Any) -> GuardOnBed:
    """Return a guard on which retries are an hour away, under this breaker."""
    policy.setdefault("wait", wait_fixed(3600))
    guard = bed.guard(retry=RetryPolicy(breaker=breaker, **policy))
    bed.joined(guard, "P", outage.joined)
    return guard


def begin(guard: GuardOnBed, n: int = 1) -> None:
    """Let the n-th event of each stream arrive."""
    for stream in STREAMS:
        guard.publish(happened(stream, n))


def probe_now(bed: Bed) -> None:
    """Let the next probe come due, and nothing else."""
    past = datetime(2020, 1, 1, tzinfo=UTC) if bed.database != "sqlite" else "2020-01-01 00:00:00.000000"
    bed.change("UPDATE projection_states SET probe_at = :past WHERE probe_at IS NOT NULL", past=past)


def succeed_once(bed: Bed, guard: GuardOnBed, outage: Outage) -> None:
    """Let the outage end, and an event be applied at a moment of its own: SQLite's clock knows milliseconds only."""
    outage.is_on = False
    clocks = {"sqlite": "julianday('now')", "postgresql": "clock_timestamp()", "mariadb": "UTC_TIMESTAMP(6)"}
    clock = f"SELECT {clocks[bed.database]}"
    before = bed.value(clock)
    bed.wait_until(lambda: bed.value(clock) > before)
    guard.publish(happened("fine", 1))
    after = bed.value(clock)
    bed.wait_until(lambda: bed.value(clock) > after)


def is_held(guard: GuardOnBed) -> bool:
    """Return whether the breaker holds the projection."""
    return guard.health("P").held_since is not None


def test_a_row_of_failures_over_enough_streams_holds_the_projection(bed: Bed) -> None:
    """Six in a row over six streams: the projection is offline, says why, and what arrives is kept unattempted."""
    outage = Outage()
    guard = guard_of(bed, outage)
    for stream in STREAMS[:5]:
        guard.publish(happened(stream, 1))
    assert not is_held(guard)
    guard.publish(happened(STREAMS[5], 1))
    health = guard.health("P")
    assert health.held_since is not None
    assert health.status == "offline"
    assert any(reason.startswith("held: ") for reason in health.reasons)
    assert guard.publish(happened("new", 1))[0].status == "parked"
    assert guard.publish(happened(STREAMS[0], 2))[0].status == "parked"
    make_due(bed)
    bed.change("UPDATE projection_states SET probe_at = NULL")
    guard.work()
    assert outage.calls == [f"{stream}#1" for stream in STREAMS]
    assert active_equals_open_rows(bed)


def test_the_default_is_100_failures_over_10_streams() -> None:
    """As the design says; the tests use a smaller one."""
    assert RetryPolicy().breaker == Breaker(failures=100, streams=10)


def test_failures_of_few_streams_are_no_outage(bed: Bed) -> None:
    """Three poison events with many attempts do not stop the others."""
    outage = Outage()
    guard = guard_of(bed, outage, stop=stop_never)
    for stream in STREAMS[:3]:
        guard.publish(happened(stream, 1))
    for _ in range(3):
        make_due(bed)
        guard.work()
    assert len(outage.calls) == 12
    assert not is_held(guard)
    outage.is_on = False
    assert guard.publish(happened("new", 1))[0].status == "applied"


def test_a_success_in_between_says_that_it_is_no_outage(bed: Bed) -> None:
    """Only failures with no success between them count as a row."""
    outage = Outage()
    guard = guard_of(bed, outage)
    for stream in STREAMS[:3]:
        guard.publish(happened(stream, 1))
    succeed_once(bed, guard, outage)
    outage.is_on = True
    for number in range(5):
        guard.publish(happened(f"T{number}", 1))
    assert not is_held(guard)
    guard.publish(happened("T5", 1))
    assert is_held(guard)


def test_a_success_that_is_counted_already_is_seen_too(bed: Bed) -> None:
    """The roll-up of counters does not hide a success from the breaker."""
    outage = Outage()
    guard = guard_of(bed, outage)
    for stream in STREAMS[:3]:
        guard.publish(happened(stream, 1))
    succeed_once(bed, guard, outage)
    guard.health()
    assert bed.value("SELECT count(*) FROM projection_applied_events WHERE NOT rolled_up") == 0
    outage.is_on = True
    for number in range(5):
        guard.publish(happened(f"T{number}", 1))
    assert not is_held(guard)


def test_one_probe_at_a_time_goes_from_stream_to_stream_with_growing_pauses(bed: Bed) -> None:
    """A round makes one call when a probe is due, and none before; each failed one doubles the pause."""
    outage = Outage()
    guard = guard_of(bed, outage, Breaker(failures=6, streams=4, first_pause_seconds=100, longest_pause_seconds=350))
    begin(guard)
    del outage.calls[:]
    guard.work()
    assert outage.calls == []
    pauses = []
    for _ in range(4):
        probe_now(bed)
        guard.work()
        guard.work()
        row = bed.rows("SELECT probe_at, held_since FROM projection_states WHERE projection_name = 'P'")[0]
        pauses.append(_seconds_from_now(bed, row.probe_at))
    assert outage.calls == ["S0#1", "S1#1", "S2#1", "S3#1"]
    assert all(
        low <= seconds <= high
        for seconds, (low, high) in zip(pauses, [(170, 200), (320, 350), (320, 350), (320, 350)], strict=True)
    ), pauses
    assert is_held(guard)


def _seconds_from_now(bed: Bed, moment: Any) -> float:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return float((moment - datetime.now(UTC)).total_seconds())


def test_failed_probes_use_no_retries(bed: Bed) -> None:
    """An outage exhausts nothing, however long it takes."""
    outage = Outage()
    guard = guard_of(bed, outage, stop=stop_after_attempt(2))
    begin(guard)
    for _ in range(14):
        probe_now(bed)
        guard.work()
    assert len(outage.calls) == 20
    assert {failure.retry_count for failure in guard.failures("P").items} == {0}
    assert not any(failure.is_exhausted for failure in guard.failures("P").items)


def test_the_first_success_ends_the_hold_and_everything_is_applied_in_order(bed: Bed) -> None:
    """The probe that succeeds lets the others go on: failed ones first, then what was parked meanwhile."""
    outage = Outage()
    guard = guard_of(bed, outage)
    begin(guard)
    begin(guard, 2)
    guard.publish(happened("new", 1))
    outage.is_on = False
    probe_now(bed)
    work_until_done(bed, guard)
    assert not is_held(guard)
    assert guard.health("P").status == "healthy"
    for stream in STREAMS:
        assert bed.effects("P", stream) == [(stream, 1), (stream, 2)]
    assert bed.effects("P", "new") == [("new", 1)]
    assert guard.health("P").total_failures == len(STREAMS)


def test_retries_used_in_the_outage_are_given_back(bed: Bed) -> None:
    """Two rounds of retries were used before it was seen as one; afterwards each event has all of its own again."""
    outage = Outage()
    guard = guard_of(bed, outage, Breaker(failures=18, streams=4))
    begin(guard)
    for _ in range(2):
        make_due(bed)
        guard.work()
    assert is_held(guard)
    assert {failure.retry_count for failure in guard.failures("P").items} == {2}
    outage.is_on = False
    outage.failing = {"S5#1"}
    probe_now(bed)
    guard.work()
    assert not is_held(guard)
    left = guard.failures("P").items
    assert len(left) == 5
    assert {failure.retry_count for failure in left} == {0}
    guard.work()
    (poison,) = guard.failures("P").items
    assert (poison.event_id, poison.retry_count) == ("S5#1", 1)


def test_what_the_outage_exhausted_is_revived_and_what_is_permanent_or_older_is_not(bed: Bed) -> None:
    """Rows that had used up their retries before it began, and those that no retry would help, wait for a person."""
    outage = Outage()
    guard = guard_of(bed, outage, Breaker(failures=12, streams=4), stop=stop_after_attempt(2))
    guard.publish(happened("old", 1))
    make_due(bed)
    guard.work()
    succeed_once(bed, guard, outage)
    outage.is_on = True
    outage._error = lambda: PermanentFailure("no use")
    guard.publish(happened("permanent", 1))
    outage._error = lambda: ValueError("the read model is away")
    begin(guard)
    make_due(bed)
    guard.work()
    assert is_held(guard)
    exhausted = {failure.event_id for failure in guard.failures("P").items if failure.is_exhausted}
    assert {"old#1", "permanent#1"} < exhausted
    outage.is_on = False
    probe_now(bed)
    for _ in range(3):
        guard.work()
    assert not is_held(guard)
    assert {failure.event_id for failure in guard.failures("P").items} == {"old#1", "permanent#1"}
    assert all(failure.is_exhausted for failure in guard.failures("P").items)
    assert all(bed.effects("P", stream) == [(stream, 1)] for stream in STREAMS)
    assert active_equals_open_rows(bed)


def test_an_outage_that_goes_on_after_a_lucky_probe_holds_again(bed: Bed) -> None:
    """The success breaks the row; it takes as many failures anew."""
    outage = Outage()
    guard = guard_of(bed, outage)
    begin(guard)
    outage.is_on = False
    outage.failing = {f"{stream}#1" for stream in STREAMS[1:]}
    probe_now(bed)
    guard.work()
    assert not is_held(guard)
    guard.work()
    assert not is_held(guard)
    outage.is_on = True
    guard.publish(happened("new", 1))
    assert is_held(guard)


def test_a_person_may_retry_while_the_projection_is_held(bed: Bed) -> None:
    """The breaker does not stand in the way of somebody who knows better."""
    outage = Outage()
    guard = guard_of(bed, outage)
    begin(guard)
    outage.is_on = False
    failure = guard.failures("P").items[0]
    assert guard.resolve(failure.id, "retry", actor="alice").status == "applied"
    assert states_of(bed, "P")[failure.event_id] == "applied"


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_persons_success_makes_the_next_probe_due_and_the_probe_decides(bed: Bed, kind: str) -> None:
    """It says that the outage may be over; nothing else is tried, and nothing released, before a probe succeeded."""
    outage = Outage()
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=SELDOM))
    outage.register(bed, guard, kind)
    begin(guard)
    outage.is_on = False
    first, second, *_ = guard.failures("P").items
    guard.resolve(first.id, "retry", actor="alice")
    assert is_held(guard)
    outage.is_on = True
    del outage.calls[:]
    guard.work()
    guard.work()
    assert len(outage.calls) == 1
    assert is_held(guard)
    outage.is_on = False
    guard.resolve(second.id, "retry", actor="alice")
    guard.work()
    assert not is_held(guard)
    work_until_done(bed, guard)
    assert guard.health("P").status == "healthy"
    assert active_equals_open_rows(bed)


def test_after_a_persons_success_the_pauses_begin_anew(bed: Bed) -> None:
    """An outage that was long, and seems over, is not probed as seldom as before."""
    outage = Outage()
    guard = guard_of(bed, outage, Breaker(failures=6, streams=4, first_pause_seconds=100, longest_pause_seconds=3000))
    begin(guard)
    for _ in range(5):
        probe_now(bed)
        guard.work()
    outage.is_on = False
    guard.resolve(guard.failures("P").items[0].id, "retry", actor="alice")
    outage.is_on = True
    guard.work()
    (row,) = bed.rows("SELECT probe_at FROM projection_states WHERE projection_name = 'P'")
    assert 170 <= _seconds_from_now(bed, row.probe_at) <= 200


@pytest.mark.parametrize("strategy", ["retry", "skip", "manual_fix"])
def test_only_a_success_says_that_the_outage_may_be_over(bed: Bed, strategy: str) -> None:
    """A person's retry that fails does not, nor what is ended without a call: no probe is made before its time."""
    outage = Outage()
    guard = guard_of(bed, outage, SELDOM)
    begin(guard)
    guard.resolve(guard.failures("P").items[0].id, strategy, actor="alice")
    del outage.calls[:]
    guard.work()
    assert outage.calls == []
    assert is_held(guard)


def test_a_persons_success_where_nothing_is_held_holds_nothing(bed: Bed) -> None:
    """No probe is planned for a projection that is well."""
    outage = Outage()
    guard = guard_of(bed, outage)
    guard.publish(happened("A", 1))
    outage.is_on = False
    guard.resolve(guard.failures("P").items[0].id, "retry", actor="alice")
    assert bed.value("SELECT probe_at FROM projection_states WHERE projection_name = 'P'") is None


def test_successes_of_a_bulk_retry_make_the_next_probe_due(bed: Bed) -> None:
    """They are a person's, too: the rest of the projection is not left waiting for the next pause's end."""
    outage = Outage()
    guard = guard_of(bed, outage, SELDOM)
    begin(guard)
    outage.is_on = False
    proposed = guard.propose_bulk("retry", where=FailureFilter(stream_id="S3"), actor="alice")
    guard.confirm_bulk(proposed.id, actor="alice")
    guard.work()
    assert guard.bulk_action(proposed.id).succeeded == 1
    work_until_done(bed, guard)
    assert not is_held(guard)


def test_a_persons_success_wakes_the_worker(bed: Bed) -> None:
    """One that looks for work once an hour makes the probe at once."""
    outage = Outage()
    guard = guard_of(bed, outage, SELDOM)
    begin(guard)
    worker: Any = going(bed, lambda: guard.real.worker(poll_seconds=3600).start())
    bed.wait_until(lambda: worker.is_done and worker.answer().pulse.looked_at)
    outage.is_on = False
    guard.resolve(guard.failures("P").items[0].id, "retry", actor="alice")
    bed.wait_until(lambda: len(bed.effects("P")) == len(STREAMS))
    bed.run(worker.answer().stop())
    assert not is_held(guard)


def test_a_probe_that_began_before_a_persons_success_does_not_postpone_the_next_one(bed: Bed) -> None:
    """What it met is older than that success."""
    outage, valve = Outage(), Valve(bed)
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=SELDOM))
    guard.real.projection("P", handles=[Happened])(valve.apart(outage.apart, only="S0#1"))
    valve.open()
    begin(guard)
    valve.close()
    probe_now(bed)
    probing = going(bed, lambda: guard.real.worker().run_once())
    bed.wait_until(lambda: valve.reached == 2)
    outage.is_on, outage.failing = False, {"S0#1"}
    (other,) = [failure for failure in guard.failures("P").items if failure.stream_id == "S1"]
    assert guard.resolve(other.id, "retry", actor="alice").status == "applied"
    valve.open()
    bed.wait_until(lambda: probing.is_done)
    probing.answer()
    assert is_held(guard)
    guard.work()
    assert not is_held(guard)


def one_waits_for_a_person(bed: Bed, outage: Outage) -> tuple[GuardOnBed, FollowedLog]:
    """Return a guard that an outage holds, on which A#2 was tried longest ago and waits behind A#1, which is exhausted.

    A#1 was met by a replay of a range when A#2 was a failure already.
    """
    log = FollowedLog(bed)
    guard = log.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=SMALL))
    bed.joined(guard, "P", outage.joined)
    log.append("A", "A", *STREAMS)
    outage.is_on, outage.failing = False, {"A#2"}
    guard.catch_up("P")
    outage.failing, outage._error = {"A#1", "A#2"}, lambda: PermanentFailure("no use")
    guard.replay("P", from_sequence=1, to_sequence=1, actor="alice")
    outage.is_on, outage._error = True, lambda: ValueError("the read model is away")
    log.append(*STREAMS)
    guard.catch_up("P")
    assert is_held(guard)
    outage.is_on = False
    return guard, log


def test_a_probe_passes_over_what_waits_for_an_earlier_failure(bed: Bed) -> None:
    """It would not be tried, and be the one tried longest ago each time: other streams would be held for ever."""
    outage = Outage()
    guard, log = one_waits_for_a_person(bed, outage)
    probe_now(bed)
    guard.work()
    assert not is_held(guard)
    guard.catch_up("P")
    make_due(bed)
    guard.work()
    assert all(bed.effects("P", stream) == log.of_stream(stream) for stream in STREAMS)
    assert {event for event, state in states_of(bed, "P").items() if state == "failed"} == {"A#1", "A#2"}


def test_where_nothing_can_be_probed_the_hold_ends(bed: Bed) -> None:
    """All that is left waits for a person: what comes next says whether the outage is over."""
    outage = Outage()
    guard, log = one_waits_for_a_person(bed, outage)
    for failure in guard.failures("P").items:
        if failure.stream_id != "A":
            guard.resolve(failure.id, "skip", actor="alice")
    probe_now(bed)
    guard.work()
    assert not is_held(guard)
    log.append("new")
    guard.catch_up("P")
    assert bed.effects("P", "new") == [("new", 1)]


def test_breaker_none_never_holds(sqlite_bed: Bed) -> None:
    """A hundred failures and more in a row over ten streams, and it still tries."""
    outage = Outage()
    guard = guard_of(sqlite_bed, outage, None, wait=wait_fixed(0), stop=stop_never)
    for number in range(10):
        guard.publish(happened(f"S{number}", 1))
    guard.work()
    assert len(outage.calls) == 110
    assert not is_held(guard)


def test_a_hundred_failures_hold_by_default(sqlite_bed: Bed) -> None:
    """The same with the default breaker: the hundredth is the last."""
    outage = Outage()
    guard = guard_of(sqlite_bed, outage, Breaker(), wait=wait_fixed(0), stop=stop_never)
    for number in range(10):
        guard.publish(happened(f"S{number}", 1))
    guard.work()
    assert len(outage.calls) == 100
    assert is_held(guard)


def test_other_projections_go_on(bed: Bed) -> None:
    """The hold is one projection's."""
    outage = Outage()
    guard = guard_of(bed, outage)
    bed.joined(guard, "Q", listed("Q"))
    begin(guard)
    begin(guard, 2)
    assert is_held(guard)
    assert guard.health("Q").status == "healthy"
    assert len(bed.effects("Q")) == 12


def test_a_worker_in_the_background_resumes_by_itself(bed: Bed) -> None:
    """Nobody does anything: when the read model is back, the probes notice."""
    outage = Outage()
    breaker = Breaker(failures=6, streams=4, first_pause_seconds=0.05, longest_pause_seconds=0.1)
    guard = bed.guard(worker="auto", retry=RetryPolicy(wait=wait_fixed(3600), breaker=breaker))
    bed.joined(guard, "P", outage.joined)
    begin(guard)
    begin(guard, 2)
    bed.wait_until(lambda: len(outage.calls) >= 8)
    assert bed.effects("P") == []
    outage.is_on = False
    bed.wait_until(lambda: len(bed.effects("P")) == 12)
    assert all(bed.effects("P", stream) == [(stream, 1), (stream, 2)] for stream in STREAMS)
