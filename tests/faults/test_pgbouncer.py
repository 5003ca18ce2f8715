"""Behind PgBouncer in transaction mode: each transaction may have another session of the server's; there are few."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from projection_guard import AsyncSqlEventSource, ProjectionGuard, SqlEventSource
from tests.bed import Bed, happened, noted
from tests.faults.pooler import pooled
from tests.faults.processes import ROOT
from tests.flow.acting import Planned, active_equals_open_rows, calls_of, clears, states_of, statuses, work_until_done
from tests.following.logs import rebuilt
from tests.following.members import Appenders, assert_exact, has_come_to, member, owners, prepared

PREPARED = "SELECT count(*) FROM pg_prepared_statements"
NOT_PREPARING = {"prepare_threshold": None}


@pytest.fixture
def narrow_bed(postgres_bed: Bed) -> Iterator[Bed]:
    """A bed whose guards all share one connection to the server; its own looks have another."""
    with pooled(postgres_bed.url, connections=1) as url:
        postgres_bed.url = url
        yield postgres_bed


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_failed_stream_heals_and_no_step_needs_two_connections(narrow_bed: Bed, kind: str) -> None:
    """A failure, parking, healing, a pause, a reset, and twenty streams at once, in one session."""
    bed = narrow_bed
    guard, planned = bed.guard(), Planned("P", "A#1", note=noted("P"))
    planned.register(bed, guard, kind, on_reset=clears(bed))
    found = [statuses(guard.publish(happened(*each))) for each in (("A", 1), ("A", 2), ("B", 1), ("A", 3))]
    assert found == [["failed"], ["parked"], ["applied"], ["parked"]]
    planned.heal()
    work_until_done(bed, guard)
    guard.pause("P", actor="alice")
    assert statuses(guard.publish(happened("A", 4))) == ["parked"]
    guard.resume("P", actor="alice")
    work_until_done(bed, guard)
    publish = guard.publisher.publish
    calls = [lambda s=s: publish(happened(f"S{s}", 1)) for s in range(20)]
    assert [statuses(outcomes) for outcomes in calls_of(bed, calls)] == [["applied"]] * 20
    assert set(states_of(bed, "P").values()) == {"applied"}
    done = bed.effects("P") if kind == "joined" else planned.done
    assert [each for each in done if each[0] == "A"] == [("A", n) for n in (1, 2, 3, 4)]
    assert len(done) == 25
    assert active_equals_open_rows(bed)
    assert guard.health("P").status == "healthy"
    guard.reset("P", actor="alice")
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]


def test_members_share_partitions_and_one_is_killed(postgres_bed: Bed) -> None:
    """Leases are rows, not sessions: what a killed one had is taken over through the same four connections."""
    with pooled(postgres_bed.url, connections=4) as postgres_bed.url:
        bed, options = postgres_bed, {"partitions": 16, "lease": 1}
        log = prepared(bed, partitions=16)
        with member(bed, **options) as first, member(bed, **options) as second, Appenders(bed, 3) as appenders:
            bed.wait_until(lambda: len(set(owners(bed).values())) == 2 and None not in owners(bed).values())
            bed.wait_until(lambda: len(bed.effects("P")) > 30)
            first.kill()
            bed.wait_until(lambda: len(set(owners(bed).values())) == 1)
            appenders.stop()
            log.lengths.update(appenders.committed)
            bed.wait_until(has_come_to(bed, bed.value("SELECT max(sequence) FROM log")))
            second.let_end()
        assert_exact(bed, log)


def test_what_is_notified_in_a_shared_session_is_in_nobodys_way(narrow_bed: Bed) -> None:
    """LISTEN stays behind in the session, so notifications come to whoever has it; polling finds the events."""
    bed = narrow_bed
    log = prepared(bed)
    publisher = log.guard()
    bed.joined(publisher, "P", lambda event, connection: None)
    with member(bed, lease=60) as follower:
        for _ in range(3):
            (event,) = log.append("A")
            waiting = publisher.real.publisher(wait=60)
            assert [outcome.status for outcome in bed.run(waiting.publish(event))] == ["applied"]
        follower.let_end()
    assert_exact(bed, log)


def test_engines_of_the_host_prepare_nothing_there(narrow_bed: Bed) -> None:
    """Psycopg prepares what is executed five times, by names that two clients share: not where the guard has been."""
    bed = narrow_bed
    log = prepared(bed)

    def engine() -> Any:
        return create_async_engine(bed.url) if bed.is_async else create_engine(bed.url)

    engines = [engine() for _ in range(4)]
    source = AsyncSqlEventSource if bed.is_async else SqlEventSource
    guards = []
    for own, logs in (engines[:2], engines[2:]):
        bed.url = own
        guards.append(bed.guard(source=source(logs, "log", decode=rebuilt)))
        bed.joined(guards[-1], "P", noted("P"))
    for _ in range(8):
        for guard in guards:
            log.append("A", "B")
            guard.catch_up("P")
            guard.health("P")
    assert_exact(bed, log)
    looking = create_engine(url_of(engines[0]), connect_args=NOT_PREPARING)
    with looking.connect() as connection:
        assert connection.execute(text(PREPARED)).scalar_one() == 0
    looking.dispose()
    for each, guard in enumerate(guards):
        bed.run(guard.real.close())
        for used in engines[2 * each : 2 * each + 2]:
            bed.run(used.dispose())


def url_of(engine: Any) -> str:
    """Return an engine's URL, with its password."""
    sync: Engine = getattr(engine, "sync_engine", engine)
    return sync.url.render_as_string(hide_password=False)


def test_migrations_run_through_it(empty_postgres_url: str) -> None:
    """By `guard.migrate()` and by Alembic's own command, again in a session that others have used."""
    with pooled(empty_postgres_url, connections=1) as url:
        engine = create_engine(url)
        for _ in range(2):
            with ProjectionGuard(engine, worker="external") as guard:
                guard.migrate()
            command = [sys.executable, "-m", "alembic", "-x", f"url={url}", "upgrade", "head"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
        engine.dispose()
