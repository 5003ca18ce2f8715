"""Gauges of the database: right, read once whatever the scrapes, and silent where it is away."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from sqlalchemy import event as events
from tenacity import wait_fixed

from projection_guard import AsyncProjectionGuard, ProjectionGuard, RetryPolicy
from projection_guard._desk import engine_of
from projection_guard._gauges import GAUGES
from projection_guard.errors import ConfigurationError
from projection_guard.opentelemetry import observe_database
from projection_guard.prometheus import DatabaseMetrics, database_metrics, metrics_page
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import Planned, make_due
from tests.following.logs import FollowedLog
from tests.observing.scraped import Scraped, samples_of, scraped

LATER = RetryPolicy(wait=wait_fixed(3600))


def gauges(bed: Bed, guard: GuardOnBed, **options: Any) -> tuple[CollectorRegistry, DatabaseMetrics]:
    """Register the gauges of a guard; an async one's are made where its loop runs."""
    registry = CollectorRegistry()
    options = {"registry": registry, "every_seconds": 0, **options}

    async def make() -> DatabaseMetrics:
        return database_metrics(guard.real, **options)

    made = bed.run(make()) if bed.is_async else database_metrics(guard.real, **options)
    return registry, made


def scrape(bed: Bed, registry: CollectorRegistry, made: DatabaseMetrics) -> Scraped:
    """Scrape as an application does: an async guard's gauges are refreshed on its loop."""

    async def do() -> Scraped:
        await made.refresh()
        return scraped(registry)

    return bed.run(do()) if bed.is_async else scraped(registry)


def test_what_the_database_says_is_exported(bed: Bed) -> None:
    """Of a projection with one failure that is exhausted, one that is planned, and an event parked behind it."""
    log, planned = FollowedLog(bed), Planned("P", "A#1", "B#1")
    guard = log.guard(retry=LATER)
    planned.register(bed, guard, "joined")
    log.append("A", "A", "B", "C")
    guard.work()
    bed.change("UPDATE projection_failures SET next_retry_at = NULL WHERE event_id = 'B#1'")
    found = scrape(bed, *gauges(bed, guard))
    expected = {
        "active_failures": 2,
        "exhausted_failures": 1,
        "parked_events": 1,
        "tainted_streams": 0,
        "checkpoint_sequence": 4,
        "processed_events": 1,
        "partitions": 1,
        "lag_events": 3,
        "held": 0,
        "work_overdue_seconds": 0,
    }
    assert {name: found.of(name, projection="P") for name in expected} == expected
    assert found.of("database_up") == 1
    assert found.of("oldest_failure_age_seconds", projection="P") > 0
    assert found.of("lag_seconds", projection="P") > 0
    statuses = {status: found.of("health_status", projection="P", status=status) for status in ("healthy", "degraded")}
    assert statuses == {"healthy": 0, "degraded": 1}
    assert found.of("state", projection="P", state="active") == 1
    make_due(bed)
    later = scrape(bed, *gauges(bed, guard))
    assert later.of("work_overdue_seconds", projection="P") > 86_400


def test_leases_and_the_replay_under_way_are_exported(bed: Bed) -> None:
    """Whose holder has died is seen, and how far a replay has come."""
    log, planned = FollowedLog(bed), Planned("P", "A#1")
    guard = log.guard(retry=LATER)
    planned.register(bed, guard, "joined")
    log.append("A", "B", "C", "D")
    guard.work()
    begun = guard.start_replay("P", from_sequence=1, actor="alice")
    for owner, number in (("x", -60), ("y", 60)):
        bed.change(
            "INSERT INTO projection_partitions (projection_name, partition, lease_owner, lease_expires_at, moved_at) "
            "SELECT projection_name, :number + 100, :owner, created_at, created_at FROM projection_checkpoints",
            owner=owner,
            number=number,
        )
    _move_lease(bed, "y", 3600)
    _move_lease(bed, "x", -3600)
    bed.change("UPDATE projection_replays SET position = 2, started_at = created_at")
    found = scrape(bed, *gauges(bed, guard))
    leases = found.above_0("leases", "kind", "state")
    assert leases == {("partition", "held"): 1, ("partition", "expired"): 1}
    assert found.of("replay_progress_ratio", projection="P", kind=begun.kind) == 0.5
    assert found.of("partitions", projection="P") == 3


def _move_lease(bed: Bed, owner: str, seconds: int) -> None:
    from sqlalchemy import literal, update

    from projection_guard._dialect import moved
    from projection_guard._tables import ProjectionPartition

    times = ProjectionPartition.__table__.c
    statement = update(ProjectionPartition).where(times.lease_owner == owner)
    moved_to = {"lease_expires_at": moved(times.lease_expires_at, literal(float(seconds)))}
    bed.past_the_library(lambda connection: connection.execute(statement.values(moved_to)))


def test_it_is_read_once_whatever_the_scrapes(bed: Bed) -> None:
    """Within `every_seconds` the values are the same."""
    planned = Planned("P", "A#1")
    guard = bed.guard(retry=LATER)
    planned.register(bed, guard, "joined")
    registry, made = gauges(bed, guard, every_seconds=3600)
    before = scrape(bed, registry, made)
    guard.publish(happened("A", 1))
    assert scrape(bed, registry, made) == before
    assert scrape(bed, *gauges(bed, guard)).of("active_failures", projection="P") == 1


def test_a_database_that_is_away_is_a_gauge_and_no_error(bed: Bed) -> None:
    """The gauges of the projections are not there then: old values would look like new ones."""
    guard = bed.guard()
    bed.joined(guard, "P", lambda event, connection: None)
    registry, made = gauges(bed, guard)
    assert scrape(bed, registry, made).of("database_up") == 1
    bed.change("ALTER TABLE projection_states RENAME TO projection_states_away")
    found = scrape(bed, registry, made)
    assert found.of("database_up") == 0
    assert found.names() == {"projection_guard_database_up", "projection_guard_database_read_seconds"}
    bed.change("ALTER TABLE projection_states_away RENAME TO projection_states")
    assert scrape(bed, registry, made).of("database_up") == 1


def test_a_database_that_does_not_answer_holds_no_scrape(postgres_bed: Bed) -> None:
    """Whoever holds its tables holds the reading, not the scrape; it is not read a second time meanwhile."""
    bed = postgres_bed
    guard = bed.guard()
    bed.joined(guard, "P", lambda event, connection: None)
    registry, made = gauges(bed, guard, timeout_seconds=0.1)
    bed.run(guard.real.health())
    with bed.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE projection_states IN ACCESS EXCLUSIVE MODE")
        found = scrape(bed, registry, made)
        assert found.of("database_up") == 0
        assert scrape(bed, registry, made).of("database_up") == 0
    bed.wait_until(lambda: scrape(bed, registry, made).of("database_up") == 1)


def test_an_async_guards_gauges_are_scraped_from_a_thread(sqlite_url: str) -> None:
    """The scrape waits there while the guard's loop reads; on the loop itself it would wait for itself."""

    async def scenario() -> None:
        guard, registry = AsyncProjectionGuard(sqlite_url, worker="external"), CollectorRegistry()
        database_metrics(guard, registry=registry, every_seconds=0)
        on_the_loop = scraped(registry)
        assert on_the_loop.of("database_up") == 0
        in_a_thread = await asyncio.to_thread(scraped, registry)
        assert in_a_thread.of("database_up") == 1
        await guard.close()

    asyncio.run(scenario())


def test_the_page_of_a_worker_service_knows_where_its_worker_runs(sqlite_url: str) -> None:
    """It is made before there is a loop, and asked for on the health port's thread."""
    guard, registry = AsyncProjectionGuard(sqlite_url, worker="external"), CollectorRegistry()
    page = metrics_page(guard, registry=registry)

    async def scenario() -> None:
        async with guard.worker():
            found = samples_of((await asyncio.to_thread(page.content))[1].decode())
            assert found.of("database_up") == 1
        await guard.close()

    asyncio.run(scenario())
    assert page.path == "/metrics"
    with ProjectionGuard(sqlite_url, worker="external") as other:
        assert metrics_page(other, registry=registry).content()[0].startswith("text/plain")


def test_processes_of_one_server_are_added_up(tmp_path: Path) -> None:
    """With `PROMETHEUS_MULTIPROC_DIR`, and the gauges of the database beside that."""
    script = (
        "import sys\n"
        "from projection_guard import ProjectionGuard\n"
        "from projection_guard.prometheus import PrometheusMetrics, database_metrics, metrics_text\n"
        f"url = 'sqlite:///{tmp_path}/app.db'\n"
        "guard = ProjectionGuard(url, worker='external', instruments=[PrometheusMetrics()])\n"
        "guard.migrate()\n"
        "guard.projection('P')(lambda event: None)\n"
        "for n in (1, 2, 3):\n"
        "    guard.apply('P', {'event_id': sys.argv[1] + str(n), 'event_type': 'T', 'stream_id': 'a'})\n"
        "sys.stdout.write(metrics_text(database=database_metrics(guard)).body.decode())\n"
        "guard.close()\n"
    )
    (tmp_path / "shared").mkdir()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")}
    told = ""
    for name in "ab":
        command = [sys.executable, "-W", "error", "-c", script, name]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = samples_of(told)
    assert found.of("events_total", projection="P", origin="apply", outcome="applied") == 6
    assert found.of("handler_duration_seconds_count", projection="P", result="ok") == 6
    assert found.of("processed_events", projection="P") == 6


def test_an_async_guard_without_a_loop_is_said_to_need_one(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Once, in a sentence."""
    registry = CollectorRegistry()
    guard = AsyncProjectionGuard(sqlite_url, worker="external")
    database_metrics(guard, registry=registry, every_seconds=0)
    assert scraped(registry).of("database_up") == scraped(registry).of("database_up") == 0
    assert caplog.text.count("await their refresh()") == 1


def test_wrong_use_is_refused(sqlite_url: str) -> None:
    """In a sentence, when it is made."""
    registry = CollectorRegistry()
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        database_metrics(guard, registry=registry)
        with pytest.raises(ConfigurationError, match="give each its own"):
            database_metrics(guard, registry=registry)
        with pytest.raises(ConfigurationError, match="timeout_seconds="):
            database_metrics(guard, registry=CollectorRegistry(), timeout_seconds=0)
        with pytest.raises(ConfigurationError, match="takes a ProjectionGuard"):
            database_metrics("sqlite://", registry=CollectorRegistry())  # type: ignore[arg-type]


def test_names_are_those_of_the_conventions() -> None:
    """Base units, plurals, no `_total` on a gauge; in OpenTelemetry no name is another one's namespace."""
    names = [gauge.otel_name for gauge in GAUGES]
    assert not [(name, other) for name in names for other in names if other.startswith(f"{name}.")]
    assert all(not gauge.name.endswith(("_total", "_count", "_ms")) for gauge in GAUGES)
    assert all((gauge.unit == "s") == gauge.name.endswith("_seconds") for gauge in GAUGES)


@pytest.mark.parametrize(
    ("adapter", "library"), [("prometheus", "prometheus_client"), ("opentelemetry", "opentelemetry")]
)
def test_a_missing_library_is_told_with_its_extra(adapter: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one ImportError."""
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"projection_guard.{adapter}", raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'projection-guard\[{adapter}\]'"):
        import_module(f"projection_guard.{adapter}")


def _read_by(guard: GuardOnBed, scraping: Callable[[], object]) -> list[str]:
    """Return the statements by which a guard's database is read meanwhile."""
    told: list[str] = []
    engine = engine_of(guard.real)

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        told.append(statement)

    events.listen(engine, "before_cursor_execute", note)
    scraping()
    events.remove(engine, "before_cursor_execute", note)
    return told


def test_many_projections_take_no_more_statements_than_one(sqlite_bed: Bed) -> None:
    """However far the database is: a scrape that has to wait for each of 200 would not be answered in time."""

    def statements(names: str) -> int:
        guard = sqlite_bed.guard()
        for name in names:
            sqlite_bed.joined(guard, name, lambda event, connection: None)
        registry, made = gauges(sqlite_bed, guard)
        scrape(sqlite_bed, registry, made)
        return len(_read_by(guard, lambda: scrape(sqlite_bed, registry, made)))

    assert statements("P") == statements("QRSTU") > 0


def test_a_collection_of_opentelemetry_is_one_reading(blocking_bed: Bed) -> None:
    """Its gauges are asked one by one, and show the same moment; also where each collection is to read anew."""
    bed, reader = blocking_bed, InMemoryMetricReader()
    guard, planned = bed.guard(retry=LATER), Planned("P", "A#1")
    planned.register(bed, guard, "joined")
    provider = MeterProvider(metric_readers=[reader])
    observe_database(guard.real, meter_provider=provider, every_seconds=0)
    collect(reader)
    collected: list[set[object]] = []
    for failures in (0, 1):
        read = _read_by(guard, lambda: collected.append(collect(reader)))
        assert len([each for each in read if "projection_health_metrics.health_status" in each]) == 1
        assert collected[-1] == {failures}
        guard.publish(happened("A", 1))
    provider.shutdown()


def collect(reader: InMemoryMetricReader) -> set[object]:
    """Collect all gauges; return the values of one."""
    data = reader.get_metrics_data()
    assert data is not None
    told = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert len(told) > 15
    return {getattr(point, "value", None) for point in told["projection_guard.active_failures"].data.data_points}


def test_how_far_a_log_is_ahead_is_not_shown_where_it_cannot_be_read(bed: Bed) -> None:
    """0 would say that the projection is caught up."""
    log = FollowedLog(bed)
    guard = log.guard()
    bed.joined(guard, "P", lambda event, connection: None)
    log.append("A")
    registry, made = gauges(bed, guard)
    assert scrape(bed, registry, made).of("lag_events", projection="P") == 1
    bed.change("ALTER TABLE log RENAME TO log_away")
    found = scrape(bed, registry, made)
    assert found.of("database_up") == found.of("health_status", projection="P", status="offline") == 1
    assert not {"projection_guard_lag_seconds", "projection_guard_lag_events"} & found.names()
    assert "projection_guard_active_failures" in found.names()


def test_why_the_database_is_taken_for_away_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One when that begins and one when it ends, however often it is scraped meanwhile."""
    caplog.set_level(logging.INFO, "projection_guard")
    registry = CollectorRegistry()
    with ProjectionGuard(f"sqlite:///{tmp_path}/app.db", worker="external") as guard:
        guard.projection("P")(lambda event: None)
        database_metrics(guard, registry=registry, every_seconds=0)
        assert scraped(registry).of("database_up") == scraped(registry).of("database_up") == 0
        (record,) = [each for each in caplog.records if "gauges" in each.message]
        assert record.levelname == "WARNING"
        assert "SchemaError" in record.message
        guard.migrate()
        assert scraped(registry).of("database_up") == scraped(registry).of("database_up") == 1
        assert [each.levelname for each in caplog.records if "gauges" in each.message] == ["WARNING", "INFO"]
