"""Every condition is told once, with what to do, and so is its end."""

from __future__ import annotations

from typing import Any

from projection_guard._store import workers
from projection_guard._store.workers import Introduction
from tests.alerting.told import Heard, outage, pass_and_work, policy_of, seconds_pass, watched
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import Planned, make_due, shift
from tests.following.logs import FollowedLog

SECRET = "sesame"


def failing_guard(bed: Bed, heard: Heard, events: int, **conditions: Any) -> tuple[GuardOnBed, Planned]:
    """Return a guard in which so many events have failed."""
    ids = [f"S{number}#1" for number in range(events)]
    planned = Planned("P", *ids, error=lambda: ValueError(SECRET))
    guard = watched(bed, policy_of(heard, **conditions), planned.joined)
    for number in range(events):
        guard.publish(happened(f"S{number}", 1))
    return guard, planned


def heal(bed: Bed, guard: GuardOnBed, planned: Planned) -> None:
    """Let everything be applied."""
    planned.heal()
    make_due(bed)
    guard.work()
    assert guard.health("P").active_failures == 0


def test_active_failures_and_status(bed: Bed) -> None:
    """Too many, and degraded; both are over once all have healed, and that has lasted."""
    heard = Heard()
    guard, planned = failing_guard(bed, heard, 3, active_failures=2, status=True)
    guard.work()
    assert heard.told == [("active_failures", "firing")]
    pass_and_work(guard, 31)
    pass_and_work(guard)
    assert heard.told == [("active_failures", "firing"), ("status", "firing")]
    many, status = heard.alerts
    assert (many.severity, status.severity, many.projection, many.worker) == ("warning", "warning", "P", None)
    assert many.facts["active_failures"] == 3
    assert many.facts["errors"][0]["error_type"] == "ValueError"
    assert status.title == "P: degraded (was healthy)"
    assert "guard.failure_groups('P')" in many.text
    assert SECRET not in f"{many}{status}{bed.rows('SELECT * FROM projection_alerts')}"
    assert {(each.kind, each.projection, each.undelivered) for each in guard.alerts()} == {
        ("status", "P", ()),
        ("active_failures", "P", ()),
    }
    heal(bed, guard, planned)
    del heard.alerts[:]
    for _ in range(3):
        pass_and_work(guard, 31)
    assert sorted(heard.told) == [("active_failures", "recovered"), ("status", "recovered")]
    assert {alert.incident for alert in heard.alerts} == {many.incident, status.incident}
    assert guard.alerts() == ()


def test_ten_are_not_more_than_ten_and_a_reminder_comes(sqlite_bed: Bed) -> None:
    """The threshold is the last number that is fine; what goes on is told again after the reminder's time."""
    bed, heard = sqlite_bed, Heard()
    guard, planned = failing_guard(bed, heard, 10, active_failures=10, reminder_seconds=3600)
    guard.work()
    assert heard.told == []
    planned.failing.add("T#1")
    guard.publish(happened("T", 1))
    pass_and_work(guard)
    pass_and_work(guard, 3000)
    assert heard.told == [("active_failures", "firing")]
    pass_and_work(guard, 601)
    pass_and_work(guard)
    assert heard.told == [("active_failures", "firing"), ("active_failures", "reminder")]
    assert heard.alerts[1].title == "P: still 11 unresolved failures"
    assert len({alert.id for alert in heard.alerts}) == 2


def test_exhausted_failures(bed: Bed) -> None:
    """One that waits for a person is told, and that it was decided."""
    heard = Heard()
    guard, planned = failing_guard(bed, heard, 1, exhausted=True, clears_after_seconds=0)
    guard.work()
    assert heard.told == []
    bed.change("UPDATE projection_failures SET next_retry_at = NULL")
    pass_and_work(guard)
    pass_and_work(guard)
    assert heard.take() == [("exhausted", "firing")]
    planned.heal()
    guard.resolve(guard.failures().items[0].id, "retry", actor="alice")
    pass_and_work(guard)
    assert heard.told == [("exhausted", "recovered")]


def test_lag_of_a_log_and_what_was_given_up_there(bed: Bed) -> None:
    """301 s behind is told, 151 s is not the end of it; a sequence that was given up is told once for good."""
    heard, log = Heard(), FollowedLog(bed)
    policy = policy_of(heard, lag_seconds=300, skipped=True, clears_after_seconds=0, reminder_seconds=600)
    guard = watched(bed, policy, source=log.source())
    guard.work()
    guard.pause("P", actor="alice")
    log.append("A")
    pass_and_work(guard, 200)
    assert heard.told == []
    pass_and_work(guard, 101)
    pass_and_work(guard)
    assert "The projection is paused: is it meant to be, for so long?" in heard.alerts[0].text
    assert heard.take() == [("lag", "firing")]
    guard.resume("P", actor="alice")
    pass_and_work(guard)
    pass_and_work(guard)
    assert heard.take() == [("lag", "recovered")]
    bed.change(
        "INSERT INTO projection_skipped_ranges (projection_name, first_sequence, last_sequence, given_up, reason,"
        " skipped_at) VALUES ('P', 7, 8, true, 'r', CURRENT_TIMESTAMP), ('P', 9, 9, false, 'r', CURRENT_TIMESTAMP)"
    )
    pass_and_work(guard)
    pass_and_work(guard, 1000)
    assert heard.told == [("skipped", "firing")]
    assert heard.alerts[0].severity == "critical"
    assert "guard.skipped('P')" in heard.alerts[0].text


def test_holes_are_told_where_that_is_wished(blocking_bed: Bed) -> None:
    """An insert that was rolled back leaves one; most people do not want to hear of it."""
    bed, heard, log = blocking_bed, Heard(), FollowedLog(blocking_bed)
    guard = watched(bed, policy_of(heard, holes=True), source=log.source())
    guard.work()
    bed.change(
        "INSERT INTO projection_skipped_ranges (projection_name, first_sequence, last_sequence, given_up, reason,"
        " skipped_at) VALUES ('P', 9, 9, false, 'r', CURRENT_TIMESTAMP)"
    )
    pass_and_work(guard)
    assert heard.told == [("skipped", "firing")]


def test_a_reset_that_was_left(bed: Bed) -> None:
    """A reset that was left is told once it has been so for long, with what to do; that it moves again, too."""
    heard = Heard()
    guard, _ = failing_guard(bed, heard, 1, stuck_seconds=300, clears_after_seconds=0)
    guard.work()
    bed.change("UPDATE projection_states SET state = 'resetting' WHERE projection_name = 'P'")
    pass_and_work(guard, 301)
    assert heard.told == []
    pass_and_work(guard, 31)
    pass_and_work(guard)
    assert heard.told == [("stuck", "firing")]
    assert heard.alerts[0].title == "P: stuck in a reset that was not finished"
    assert "guard.reset('P', actor=...)" in heard.alerts[0].text
    bed.change("UPDATE projection_states SET state = 'active' WHERE projection_name = 'P'")
    pass_and_work(guard)
    assert heard.take() == [("stuck", "firing"), ("stuck", "recovered")]


def test_work_that_nobody_does(blocking_bed: Bed) -> None:
    """Retries are due for five minutes, since the workers that run do not do them."""
    bed, heard = blocking_bed, Heard()
    guard, _ = failing_guard(bed, heard, 1, stuck_seconds=300)
    guard.health()
    shift(bed, "projection_failures", "next_retry_at", -30 * 86_400)
    for _ in range(2):
        bed.run(guard.real._service.on_alerts.run_once())
        shift(bed, "projection_alerts", "since", -60)
        shift(bed, "projection_alert_looks", "looked_at", -60)
    assert heard.told == [("stuck", "firing")]
    assert heard.alerts[0].facts["reasons"] == ["no_worker"]


def test_a_projection_that_the_breaker_holds(blocking_bed: Bed) -> None:
    """After half a minute: by then a short outage is over."""
    bed, heard = blocking_bed, Heard()
    guard = watched(bed, policy_of(heard, stuck_seconds=300))
    guard.work()
    bed.change("UPDATE projection_states SET held_since = CURRENT_TIMESTAMP, probe_at = '2100-01-01 00:00:00.000000'")
    pass_and_work(guard)
    pass_and_work(guard, 31)
    assert heard.told == [("stuck", "firing")]
    assert heard.alerts[0].title == "P: held by the breaker, almost everything fails"


def test_a_replay_that_nobody_runs(blocking_bed: Bed) -> None:
    """The worker that could run it is not there."""
    bed, heard, log = blocking_bed, Heard(), FollowedLog(blocking_bed)
    guard = watched(bed, policy_of(heard, stuck_seconds=300), source=log.source())
    log.append("A")
    guard.work()
    job = guard.start_replay("P", from_sequence=0, actor="alice")
    pass_and_work(guard, 301)
    pass_and_work(guard, 31)
    assert heard.told == [("stuck", "firing")]
    assert heard.alerts[0].facts["reasons"] == ["left_job"]
    assert heard.alerts[0].facts["replay"] == str(job.id)


def test_where_the_log_is_not_nothing_is_said_of_a_projection_that_follows_it(blocking_bed: Bed) -> None:
    """To a guard without the source it would look as if nothing waited in the log."""
    bed, heard, log = blocking_bed, Heard(), FollowedLog(blocking_bed)
    policy = policy_of(heard, lag_seconds=300, clears_after_seconds=0)
    guard = watched(bed, policy, source=log.source())
    guard.work()
    guard.pause("P", actor="alice")
    log.append("A")
    pass_and_work(guard, 400)
    assert heard.told == [("lag", "firing")]
    without = watched(bed, policy)
    pass_and_work(without)
    pass_and_work(without)
    assert heard.told == [("lag", "firing")]


class Breakable:
    """A log that cannot be read while it is `broken`."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.broken = False

    def head(self) -> int:
        """Return the highest sequence."""
        if self.broken:
            raise ConnectionError(SECRET)
        return int(self.source.head())

    def read(self, after: int, limit: int, until: int | None = None) -> Any:
        """Return what comes next."""
        if self.broken:
            raise ConnectionError(SECRET)
        return self.source.read(after, limit, until)


def test_while_the_log_cannot_be_read_neither_its_lag_nor_what_was_given_up_there_is_over(blocking_bed: Bed) -> None:
    """Nothing is known of them then: "recovered, nothing has to be done" would be wrong, just when all stands still."""
    bed, heard, log = blocking_bed, Heard(), FollowedLog(blocking_bed)
    source = Breakable(log.source())
    guard = watched(bed, policy_of(heard, lag_seconds=300, skipped=True), source=source)
    guard.work()
    guard.pause("P", actor="alice")
    log.append("A")
    bed.change(
        "INSERT INTO projection_skipped_ranges (projection_name, first_sequence, last_sequence, given_up, reason,"
        " skipped_at) VALUES ('P', 7, 8, true, 'r', CURRENT_TIMESTAMP)"
    )
    pass_and_work(guard, 301)
    assert sorted(heard.take()) == [("lag", "firing"), ("skipped", "firing")]
    source.broken = True
    for _ in range(3):
        seconds_pass(guard, 61)
        bed.run(guard.real._service.on_alerts.run_once())
    assert heard.told == []
    source.broken = False
    guard.resume("P", actor="alice")
    for _ in range(3):
        pass_and_work(guard, 61)
    assert heard.told == [("lag", "recovered")]


def is_seen(bed: Bed, worker: str) -> None:
    """Let a worker give a sign of life."""
    itself = Introduction(
        worker_id=worker, kind="service", host="h", process_id=7, library_version="1", projections=("P",)
    )
    with bed.engine.begin() as connection:
        workers.beat(connection, itself)


def test_after_an_outage_of_the_database_nobody_is_gone_who_comes_back(blocking_bed: Bed) -> None:
    """Nobody could give a sign meanwhile; whoever looks first gives the others time for one."""
    bed, heard = blocking_bed, Heard()
    guard = watched(bed, policy_of(heard, worker_gone_seconds=60))
    guard.work()
    is_seen(bed, "other")
    pass_and_work(guard, 120)
    is_seen(bed, "other")
    pass_and_work(guard, 31)
    assert heard.told == []
    pass_and_work(guard, 30)
    pass_and_work(guard, 31)
    assert heard.told == [("worker_gone", "firing")]


def test_a_condition_that_was_switched_off_is_not_said_to_be_over(blocking_bed: Bed) -> None:
    """People are told that nobody watches it any more; receivers may close the incident."""
    bed, heard = blocking_bed, Heard()
    guard, _ = failing_guard(bed, heard, 3, active_failures=1)
    guard.work()
    (firing,) = heard.alerts
    heard.take()
    off = watched(bed, policy_of(heard))
    pass_and_work(off)
    pass_and_work(off, 61)
    assert heard.told == [("active_failures", "recovered")]
    assert heard.alerts[0].incident == firing.incident
    assert heard.alerts[0].title == "P: not watched any more"
    assert "Nothing has to be done" not in heard.alerts[0].text
    assert "It is over" not in heard.alerts[0].text


def test_a_projection_without_alerts_is_not_told_of(blocking_bed: Bed) -> None:
    """What was on record of it goes without a word, once nobody has watched it for a while."""
    bed, heard = blocking_bed, Heard()
    guard, _ = failing_guard(bed, heard, 3, active_failures=1)
    guard.work()
    assert heard.take() == [("active_failures", "firing")]
    quiet = watched(bed, policy_of(heard, active_failures=1, projections={"P": None}))
    pass_and_work(quiet)
    pass_and_work(quiet, 61)
    assert heard.told == []
    assert quiet.alerts() == ()


def test_while_versions_with_and_without_its_alerts_are_exchanged_it_is_told_once(blocking_bed: Bed) -> None:
    """They look by turns: what one takes for no matter must not be new to the other each time."""
    bed, heard = blocking_bed, Heard()
    loud = watched(bed, policy_of(heard, exhausted=True))
    quiet = watched(bed, policy_of(heard, exhausted=True, projections={"P": None}))
    outage(bed, loud)
    for _ in range(4):
        pass_and_work(loud)
        pass_and_work(quiet)
    assert heard.told == [("exhausted", "firing")]
