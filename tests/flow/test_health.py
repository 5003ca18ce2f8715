"""What people look at is true: counters, checkpoints, judgements, lag; whatever time zone anybody lives in."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import HealthPolicy, RetryPolicy
from tests.bed import AT_ONCE, Bed, GuardOnBed, happened, noted
from tests.flow.acting import Planned, active_equals_open_rows, listed, make_due, one_failure, shift, work_until_done

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def test_sixty_failures_that_heal_leave_nothing_active(bed: Bed) -> None:
    """`active_failures` is 0 and the status healthy; `total_failures` still says 60."""
    planned = Planned("P", *(f"S{number}#1" for number in range(60)))
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", planned.joined)
    for number in range(60):
        guard.publish(happened(f"S{number}", 1))
    assert guard.health("P").active_failures == 60
    planned.heal()
    make_due(bed)
    guard.work()
    health = guard.health("P")
    assert (health.active_failures, health.total_failures, health.status) == (0, 60, "healthy")
    assert (health.total_events_processed, health.reasons) == (60, ())
    (row,) = bed.rows("SELECT * FROM projection_health_metrics")
    assert (row.active_failures, row.total_failures, row.health_status) == (0, 60, "healthy")


def test_the_four_states_follow_the_number_of_unresolved_failures(bed: Bed) -> None:
    """0 healthy, 1 to 9 degraded, 10 to 49 critical, 50 and more offline; on the way up and on the way down."""
    guard, planned = bed.guard(retry=HOURS), Planned("P")
    bed.joined(guard, "P", planned.joined)
    seen = {0: stored_and_judged(bed, guard)}
    for number in range(1, 51):
        planned.failing.add(f"S{number}#1")
        guard.publish(happened(f"S{number}", 1))
        if number in (1, 9, 10, 49, 50):
            seen[number] = stored_and_judged(bed, guard)
    assert seen == {0: "healthy", 1: "degraded", 9: "degraded", 10: "critical", 49: "critical", 50: "offline"}
    for left in (49, 10, 9, 1, 0):
        for failure in guard.failures("P").items[left:]:
            guard.resolve(failure.id, "manual_fix", actor="alice")
        assert (left, stored_and_judged(bed, guard)) == (left, seen[left])


def stored_and_judged(bed: Bed, guard: GuardOnBed) -> str:
    """Return a projection's status, which has to be the stored one too."""
    status = str(guard.health("P").status)
    assert bed.value("SELECT health_status FROM projection_health_metrics WHERE projection_name = 'P'") == status
    return status


def test_the_thresholds_are_the_applications(bed: Bed) -> None:
    """`HealthPolicy` says from how many on."""
    guard = bed.guard(retry=HOURS, health=HealthPolicy(degraded_from=2, critical_from=3, offline_from=4))
    bed.joined(guard, "P", Planned("P", *(f"S{n}#1" for n in range(4))).joined)
    seen = [str(guard.health("P").status)] if guard.publish(happened("S0", 1)) else []
    for number in (1, 2, 3):
        guard.publish(happened(f"S{number}", 1))
        seen.append(stored_and_judged(bed, guard))
    assert seen == ["healthy", "degraded", "critical", "offline"]


def test_active_failures_equals_the_unresolved_rows_after_every_step(bed: Bed) -> None:
    """P6, while events fail, heal, are exhausted, skipped, fixed and reset at random."""
    chance = random.Random(7)
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(2), breaker=None))

    def body(event: Any, connection: Any) -> None:
        noted("P")(event, connection)
        if chance.random() < 0.5:
            raise ValueError("planned")

    bed.joined(guard, "P", body)
    steps = 0
    for number in range(1, 9):
        for stream in "AB":
            guard.publish(happened(stream, number))
            assert active_equals_open_rows(bed)
        for failure in guard.failures("P").items:
            strategy = chance.choice(["retry", "skip", "manual_fix", "nothing", "nothing"])
            if strategy != "nothing":
                guard.resolve(failure.id, strategy, actor="alice")
                steps += 1
            assert active_equals_open_rows(bed)
        if number % 3 == 0:
            guard.work()
            assert active_equals_open_rows(bed)
    guard.reset("P", actor="alice")
    assert active_equals_open_rows(bed)
    assert guard.health("P").active_failures == 0
    assert steps > 0


def test_a_checkpoint_of_10_stays_10_when_3_succeeds_late(bed: Bed) -> None:
    """P5: the sequence never falls, and the id and type beside it are those of that event."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#3")
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 3, 3))
    guard.publish(happened("B", 10, 10))
    assert checkpoint_of(guard) == ("B#10", "Happened", 10, 1)
    planned.heal()
    make_due(bed)
    guard.work()
    assert checkpoint_of(guard) == ("B#10", "Happened", 10, 2)
    guard.publish(happened("C", 4, 4))
    assert checkpoint_of(guard) == ("B#10", "Happened", 10, 3)


def checkpoint_of(guard: GuardOnBed) -> tuple[str | None, str | None, int | None, int]:
    """Return what a checkpoint says."""
    found = guard.checkpoint("P")
    return found.last_event_id, found.last_event_type, found.last_event_sequence, found.events_processed


def test_failed_parked_and_skipped_events_move_the_checkpoint_too(bed: Bed) -> None:
    """Pushed: the highest sequence that is applied, failed, parked or skipped; only what was applied is counted."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#5")
    bed.joined(guard, "P", planned.joined)
    assert checkpoint_of(guard) == (None, None, None, 0)
    guard.publish(happened("A", 5, 5))
    assert checkpoint_of(guard) == ("A#5", "Happened", 5, 0)
    guard.publish(happened("A", 6, 6))
    assert checkpoint_of(guard) == ("A#6", "Happened", 6, 0)
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    guard.work()
    assert checkpoint_of(guard) == ("A#6", "Happened", 6, 1)


def test_events_without_a_sequence_are_counted(bed: Bed) -> None:
    """The checkpoint then tells the last event, and no number."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    for n in (1, 2, 3):
        guard.publish(happened("A", n))
    assert checkpoint_of(guard)[1:] == ("Happened", None, 3)


def test_counters_are_exact_however_they_are_rolled_up(bed: Bed) -> None:
    """Two guards, roll-ups by rounds and by looking, redeliveries: every success counts once."""
    guards = [bed.guard() for _ in range(2)]
    for guard in guards:
        bed.joined(guard, "P", noted("P"))
    for n in range(1, 21):
        guards[n % 2].publish(happened("A", n, n))
        guards[n % 2].publish(happened("A", n, n))
        if n % 5 == 0:
            guards[0].work()
        if n % 7 == 0:
            guards[1].health("P")
    guards[0].work()
    guards[1].work()
    (metrics,) = bed.rows("SELECT * FROM projection_health_metrics")
    (checkpoint,) = bed.rows("SELECT * FROM projection_checkpoints")
    assert metrics.total_events_processed == checkpoint.events_processed == 20
    assert checkpoint.last_event_sequence == 20
    assert bed.value("SELECT count(*) FROM projection_applied_events WHERE NOT rolled_up") == 0
    assert guards[0].health("P").last_success_at is not None


def test_skipped_and_fixed_events_are_not_counted_as_processed(bed: Bed) -> None:
    """They were not applied by the handler."""
    guard = bed.guard(retry=HOURS)
    bed.joined(guard, "P", Planned("P", "A#1", "B#1").joined)
    for stream in "ABC":
        guard.publish(happened(stream, 1))
    for failure, strategy in zip(guard.failures("P").items, ("skip", "manual_fix"), strict=True):
        guard.resolve(failure.id, strategy, actor="alice")
    health = guard.health("P")
    assert (health.total_events_processed, health.active_failures, health.total_failures) == (1, 0, 2)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_the_average_processing_time_is_that_of_the_handler(bed: Bed, kind: str) -> None:
    """None before the first call; then milliseconds, written by a round of the worker."""
    guard = bed.guard()

    def body(event: Any) -> None:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass

    if kind == "joined":
        bed.joined(guard, "P", lambda event, connection: body(event))
    else:
        bed.apart(guard, "P", body)
    assert guard.health("P").avg_processing_time_ms is None
    guard.publish(happened("A", 1))
    guard.work()
    average = guard.health("P").avg_processing_time_ms
    assert average is not None
    assert 20 <= average < 2000


def test_the_lag_is_0_when_nothing_waits_and_the_age_of_the_oldest_that_does(bed: Bed) -> None:
    """Idle for an hour is no lag; a failed or parked event is."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#2")
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    shift(bed, "projection_applied_events", "applied_at", -3600)
    assert guard.health("P").lag_seconds == 0
    guard.publish(happened("A", 2))
    shift(bed, "projection_failures", "failed_at", -100)
    guard.publish(happened("A", 3))
    assert 100 <= guard.health("P").lag_seconds < 200
    shift(bed, "projection_parked_events", "parked_at", -500)
    assert 500 <= guard.health("P").lag_seconds < 600
    guard.work()
    assert 500 <= bed.value("SELECT lag_seconds FROM projection_health_metrics") < 600
    planned.heal()
    make_due(bed)
    work_until_done(bed, guard)
    assert guard.health("P").lag_seconds == 0
    assert bed.value("SELECT lag_seconds FROM projection_health_metrics") == 0


def test_a_projection_whose_due_work_nobody_does_is_offline(bed: Bed) -> None:
    """`stalled_after_seconds`: one failure alone would be degraded; a retry overdue for that long says more."""
    guard = bed.guard(retry=HOURS, health=HealthPolicy(stalled_after_seconds=60))
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    guard.publish(happened("A", 1))
    shift(bed, "projection_failures", "next_retry_at", -3600 - 50)
    assert guard.health("P").status == "degraded"
    shift(bed, "projection_failures", "next_retry_at", -20)
    health = guard.health("P")
    assert health.status == "offline"
    assert any("no worker does it" in reason for reason in health.reasons)
    guard.work()
    assert guard.health("P").status == "degraded"


def test_parked_events_that_nobody_drains_are_noticed(bed: Bed) -> None:
    """The failure is resolved, what waited behind it is due, and no worker comes."""
    guard = bed.guard(retry=HOURS, health=HealthPolicy(stalled_after_seconds=60))
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    guard.publish(happened("A", 1))
    guard.publish(happened("A", 2))
    guard.resolve(one_failure(guard).id, "skip", actor="alice")
    shift(bed, "projection_streams", "drain_after", -61)
    assert guard.health("P").status == "offline"
    guard.work()
    assert guard.health("P").status == "healthy"


def test_the_reasons_say_what_is_wrong(bed: Bed) -> None:
    """One sentence each: unresolved, exhausted, parked, tainted, paused."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), permanent=(ValueError,)))
    bed.joined(guard, "P", Planned("P", "A#1", "B#1", "C#1").joined)
    for stream in "ABC":
        guard.publish(happened(stream, 1))
    guard.publish(happened("A", 2))
    guard.resolve(guard.failures("P").items[0].id, "skip", actor="alice")
    guard.pause("P", actor="alice")
    health = guard.health("P")
    assert (health.active_failures, health.exhausted_failures, health.tainted_streams) == (2, 2, 1)
    assert health.state == "paused"
    told = " / ".join(health.reasons)
    failures = ("2 unresolved failures", "2 failures wait for a person")
    for part in (*failures, "paused", "1 event parked", "1 stream tainted"):
        assert part in told


def test_the_status_sums_up_all_projections(bed: Bed) -> None:
    """How many are in which state, and the worst of them."""
    guard = bed.guard(retry=HOURS, health=HealthPolicy(degraded_from=1, critical_from=2, offline_from=3))
    for name, failing in (("P", ""), ("Q", "A"), ("R", "AB"), ("S", "ABC"), ("T", "")):
        bed.joined(guard, name, Planned(name, *(f"{stream}#1" for stream in failing)).joined)
    for stream in "ABCD":
        guard.publish(happened(stream, 1))
    status = guard.status()
    assert status.overall_status == "offline"
    assert (status.total_projections, status.healthy_projections, status.degraded_projections) == (5, 2, 1)
    assert (status.critical_projections, status.offline_projections) == (1, 1)
    assert (status.total_active_failures, status.total_events_processed) == (6, 14)
    assert [health.projection_name for health in guard.health()] == ["P", "Q", "R", "S", "T"]


def test_a_guard_without_projections_is_healthy(bed: Bed) -> None:
    """There is nothing to be wrong."""
    status = bed.guard().status()
    assert (status.overall_status, status.total_projections, status.total_events_processed) == ("healthy", 0, 0)


def test_the_runbooks_queries_work_as_they_stand(postgres_bed: Bed) -> None:
    """The four of the design, section 5, word for word as operators paste them."""
    guard = postgres_bed.guard(retry=HOURS)
    postgres_bed.joined(guard, "P", Planned("P", "A#1").joined)
    postgres_bed.joined(guard, "Q", listed("Q"))
    guard.publish(happened("A", 1, 1))
    guard.publish(happened("B", 1, 2))
    guard.work()
    rows = postgres_bed.rows("SELECT * FROM projection_health_metrics ORDER BY health_status DESC")
    assert [(row.projection_name, row.health_status) for row in rows] == [("Q", "healthy"), ("P", "degraded")]
    rows = postgres_bed.rows(
        "SELECT projection_name, COUNT(*) FROM projection_failures WHERE resolved_at IS NULL GROUP BY projection_name"
    )
    assert [tuple(row) for row in rows] == [("P", 1)]
    rows = postgres_bed.rows(
        "SELECT projection_name, last_event_sequence, events_processed, "
        "EXTRACT(EPOCH FROM (NOW() - checkpoint_at)) AS lag_seconds FROM projection_checkpoints ORDER BY 1"
    )
    assert [tuple(row)[:3] for row in rows] == [("P", 2, 1), ("Q", 2, 2)]
    assert all(0 <= row.lag_seconds < 60 for row in rows)
    (row,) = postgres_bed.rows(
        "SELECT projection_name, event_type, error_message, retry_count, failed_at, next_retry_at "
        "FROM projection_failures WHERE resolved_at IS NULL ORDER BY failed_at DESC LIMIT 10"
    )
    assert tuple(row)[:4] == ("P", "Happened", "planned", 0)
    assert (row.next_retry_at - row.failed_at).total_seconds() == pytest.approx(3600, abs=1)


def test_the_three_contract_tables_have_these_columns_and_no_others(blocking_bed: Bed) -> None:
    """Dashboards rely on them: 23, 8 and 11."""
    with blocking_bed.engine.connect() as connection:
        columns = {
            table: list(connection.execute(text(f"SELECT * FROM {table}")).keys())
            for table in ("projection_failures", "projection_checkpoints", "projection_health_metrics")
        }
    assert [len(names) for names in columns.values()] == [23, 8, 11]
    assert set(columns["projection_checkpoints"]) == {
        "projection_name", "last_event_id", "last_event_type", "last_event_sequence", "checkpoint_at",
        "events_processed", "created_at", "updated_at",
    }  # fmt: skip
    assert set(columns["projection_health_metrics"]) == {
        "projection_name", "total_events_processed", "total_failures", "active_failures", "last_failure_at",
        "last_success_at", "avg_processing_time_ms", "lag_seconds", "health_status", "created_at", "updated_at",
    }  # fmt: skip
    assert set(columns["projection_failures"]) == {
        "id", "event_id", "event_type", "event_sequence", "stream_id", "event_payload", "projection_name", "error_type",
        "error_message", "error_traceback", "fingerprint", "retry_count", "max_retries", "failed_at", "last_retry_at",
        "next_retry_at", "lease_owner", "lease_expires_at", "resolved_at", "resolution_method", "resolved_by",
        "created_at", "updated_at",
    }  # fmt: skip


# -- time zones


def moments(value: object) -> Iterator[datetime]:
    """Yield every time that a returned value holds."""
    if isinstance(value, datetime):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from moments(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from moments(getattr(value, field.name))


def live_a_day(bed: Bed, guard: GuardOnBed) -> list[datetime]:
    """Let events succeed, fail, wait and be retried; check the due times; return every time that was told."""
    planned = Planned("P", "A#1", "B#1")
    bed.joined(guard, "P", planned.joined)
    for stream, n in (("A", 1), ("A", 2), ("B", 1), ("C", 1)):
        guard.publish(happened(stream, n))
    now = datetime.now(UTC)
    for failure in guard.failures("P").items:
        assert failure.next_retry_at is not None
        assert (failure.next_retry_at - failure.failed_at).total_seconds() == pytest.approx(7200, abs=0.1)
        assert abs(failure.failed_at - now) < timedelta(minutes=5)
    assert guard.work().retried == 0
    shift(bed, "projection_failures", "next_retry_at", -7000)
    assert guard.work().retried == 0
    shift(bed, "projection_failures", "next_retry_at", -300)
    assert guard.work().retried == 2
    last = guard.failures("P").items[0]
    assert last.last_retry_at is not None
    assert abs(last.last_retry_at - now) < timedelta(minutes=5)
    assert guard.health("P").lag_seconds < 300
    (first, second) = guard.failures("P").items
    guard.resolve(first.id, "skip", actor="alice")
    told = [
        guard.failures("P", include_resolved=True).items,
        guard.attempts(second.id),
        guard.checkpoint("P"),
        guard.health("P"),
        guard.status(),
    ]
    return list(moments(told))


def check_aware_utc(told: list[datetime]) -> None:
    """All of them are aware, in UTC, and of today."""
    assert len(told) > 15
    now = datetime.now(UTC)
    for moment in told:
        assert moment.tzinfo is UTC
        assert abs(moment - now) < timedelta(hours=3)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_servers_time_zone_changes_nothing(postgres_bed: Bed, zone: str) -> None:
    """Set for the database: every session of the guard has it."""
    name = make_url(postgres_bed.url).database
    with postgres_bed.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE \"{name}\" SET timezone TO '{zone}'"))
    postgres_bed.engine.dispose()
    assert postgres_bed.value("SHOW timezone") == zone
    guard = postgres_bed.guard(retry=RetryPolicy(wait=wait_fixed(7200)))
    check_aware_utc(live_a_day(postgres_bed, guard))


def test_a_time_zone_in_the_url_changes_nothing(postgres_bed: Bed) -> None:
    """Set for the guard's own sessions."""
    url = make_url(postgres_bed.url).update_query_dict({"options": "-c timezone=Asia/Tokyo"})
    postgres_bed.url = url.render_as_string(hide_password=False)
    engine = create_engine(postgres_bed.url)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW timezone")).scalar_one() == "Asia/Tokyo"
    engine.dispose()
    guard = postgres_bed.guard(retry=RetryPolicy(wait=wait_fixed(7200)))
    check_aware_utc(live_a_day(postgres_bed, guard))


@pytest.fixture(params=["Asia/Tokyo", "America/New_York"])
def process_in_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A process that lives elsewhere."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_the_processes_time_zone_changes_nothing(process_in_zone: str, bed: Bed) -> None:
    """TZ of the process that runs the guard."""
    assert time.localtime().tm_gmtoff != 0
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(7200)))
    check_aware_utc(live_a_day(bed, guard))


@pytest.mark.parametrize(
    "options",
    [{"degraded_from": 0}, {"degraded_from": 11}, {"critical_from": 51}, {"stalled_after_seconds": 0}],
)
def test_a_health_policy_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    """Thresholds must rise."""
    with pytest.raises(ValueError, match="HealthPolicy"):
        HealthPolicy(**options)


def test_a_lease_that_a_live_worker_holds_is_not_overdue(bed: Bed) -> None:
    """A long retry under way is work that somebody does."""
    guard = bed.guard(retry=AT_ONCE, health=HealthPolicy(stalled_after_seconds=60))
    bed.joined(guard, "P", Planned("P", "A#1").joined)
    guard.publish(happened("A", 1))
    shift(bed, "projection_failures", "next_retry_at", -500)
    assert guard.health("P").status == "offline"
    lease = datetime(2100, 1, 1, tzinfo=UTC) if bed.database != "sqlite" else "2100-01-01 00:00:00.000000"
    bed.change("UPDATE projection_failures SET lease_owner = 'somebody', lease_expires_at = :lease", lease=lease)
    assert guard.health("P").status == "degraded"
