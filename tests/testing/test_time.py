"""Time passes at once, for every rule that goes by the database's clock; both guards, both databases."""

from __future__ import annotations

import gc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_fixed

from projection_guard import ConfigurationError, InvalidArgument, ProjectionGuard, RetryPolicy, SchemaError
from projection_guard._tables import metadata
from projection_guard.testing import advance, failing
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import listed, statuses

HOUR = timedelta(hours=1)


def let_pass(bed: Bed, guard: GuardOnBed, by: timedelta) -> None:
    """Let time pass."""
    bed.run(advance(guard.real, by))


def test_a_retry_becomes_due_when_its_time_has_come(bed: Bed) -> None:
    """Not a minute before."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600)))
    bed.joined(guard, "P", failing(listed("P"), times=1))
    guard.publish(happened("A", 1))
    guard.publish(happened("A", 2))
    let_pass(bed, guard, timedelta(minutes=59))
    assert guard.work().retried == 0
    let_pass(bed, guard, timedelta(minutes=2))
    assert guard.work().retried == 1
    bed.wait_until(lambda: guard.work() and guard.health("P").parked_events == 0)
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_an_event_leaves_the_dedupe_window(sqlite_bed: Bed) -> None:
    """Recognised until then, forgotten after."""
    guard = sqlite_bed.guard(dedupe_window=HOUR)
    sqlite_bed.joined(guard, "P", listed("P"))
    guard.publish(happened("A", 1))
    guard.work()
    let_pass(sqlite_bed, guard, timedelta(minutes=50))
    guard.work()
    assert statuses(guard.publish(happened("A", 1))) == ["duplicate"]
    let_pass(sqlite_bed, guard, timedelta(minutes=20))
    guard.work()
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]


def test_lag_grows(sqlite_bed: Bed) -> None:
    """By what has passed."""
    guard = sqlite_bed.guard(retry=RetryPolicy(wait=wait_fixed(86_400)))
    sqlite_bed.joined(guard, "P", failing(listed("P")))
    guard.publish(happened("A", 1))
    let_pass(sqlite_bed, guard, HOUR)
    assert 3600 <= guard.health("P").lag_seconds < 3700


def test_all_times_of_all_tables_move_alike(bed: Bed) -> None:
    """By exactly so much, so that an order of two times stays; the audit log cannot be changed."""
    guard = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600)))
    bed.joined(guard, "P", failing(listed("P")))
    guard.publish(happened("A", 1))
    guard.publish(happened("A", 2))
    guard.pause("P", actor="the test")
    before = times(bed)
    assert {"projection_failures", "projection_streams", "projection_states", "projection_parked_events"} <= {
        table for table, _ in before
    }
    let_pass(bed, guard, timedelta(days=2))
    after = times(bed)
    assert after.keys() == before.keys()
    for column, was in before.items():
        moved = timedelta(0) if column[0] == "projection_audit_log" else timedelta(days=2)
        assert [earlier - later for earlier, later in zip(was, after[column], strict=True)] == [moved] * len(was)


def times(bed: Bed) -> dict[tuple[str, str], list[Any]]:
    """Return every time in every table of the guard's."""
    found: dict[tuple[str, str], list[Any]] = {}
    with bed.engine.connect() as connection:
        for table in metadata.sorted_tables:
            rows = [dict(row) for row in connection.execute(table.select().order_by(*table.primary_key)).mappings()]
            for name in [column.name for column in table.columns]:
                values = [row[name] for row in rows if hasattr(row[name], "astimezone")]
                if values:
                    found[table.name, name] = values
    return found


def test_time_passes_only_for_a_guard_with_its_tables(tmp_path: Path) -> None:
    """Else the error says what there is instead, and what to do; nothing is left unawaited."""
    with pytest.raises(ConfigurationError, match="not str"):
        advance("sqlite://", HOUR)  # type: ignore[call-overload]
    gc.collect()
    with (
        ProjectionGuard(f"sqlite:///{tmp_path}/empty.db", worker="external") as guard,
        pytest.raises(SchemaError, match="migrate"),
    ):
        advance(guard, HOUR)


def test_time_does_not_go_back(sqlite_bed: Bed) -> None:
    """Nor does it stand still."""
    guard = sqlite_bed.guard()
    for by in (timedelta(0), -HOUR):
        with pytest.raises(InvalidArgument):
            sqlite_bed.run(advance(guard.real, by))
