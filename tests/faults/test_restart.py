"""The server restarts under the guard: connections that died in the pool are nobody's error once it is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from projection_guard import ProjectionGuard, StoreUnavailable
from projection_guard.testing import postgres_server
from tests.bed import Bed, Happened, happened, noted
from tests.faults.scenes import quiet
from tests.flow.acting import Planned, calls_of, statuses
from tests.postgres_server import found_binaries


def terminate_all(bed: Bed) -> int:
    """End every other connection of this test's database, as an administrator does; return how many."""
    if bed.database == "mariadb":
        sessions = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        found = [row.id for row in bed.rows(sessions)]
        for each in found:
            with suppress(SQLAlchemyError):  # it has ended by itself
                bed.change(f"KILL {each}")
        bed.wait_until(lambda: not set(found) & {row.id for row in bed.rows(sessions)})
        return len(found)
    rows = bed.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return len(rows)


def test_a_pool_full_of_dead_connections_is_nobodys_error(server_bed: Bed) -> None:
    """All of them are found dead one after the other, by deliveries, workers and looks; nothing surfaces."""
    bed = server_bed
    guard, planned = bed.guard(), Planned("P", "F#1", note=noted("P"))
    planned.register(bed, guard, "joined")
    apart = Planned("X")
    apart.register(bed, guard, "apart")

    def fill(n: int) -> None:
        results = calls_of(bed, [lambda s=s: publish(happened(f"S{s}", n)) for s in range(10)])  # type: ignore[misc]
        assert [statuses(outcomes) for outcomes in results] == [["applied", "applied"]] * 10

    publish = guard.publisher.publish
    guard.publish(happened("F", 1))
    fill(1)
    assert terminate_all(bed) >= 5
    fill(2)
    assert terminate_all(bed) >= 5
    planned.heal()
    guard.work()
    assert bed.effects("P", "F") == [("F", 1)]
    assert terminate_all(bed) >= 1
    assert guard.health("P").status == "healthy"
    for s in range(10):
        assert bed.effects("P", f"S{s}") == [(f"S{s}", 1), (f"S{s}", 2)]
        assert apart.calls.count(f"S{s}#2") == 1


def test_the_same_with_the_hosts_own_engine_and_its_prepared_statements(postgres_bed: Bed) -> None:
    """On an engine of the host's psycopg prepares statements; they are gone with their connection."""
    bed = postgres_bed
    engine = create_async_engine(bed.url) if bed.is_async else create_engine(bed.url)
    bed.url = engine  # type: ignore[assignment]
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    for n in range(1, 31):
        if n % 10 == 0:
            assert terminate_all(bed) >= 1
        assert statuses(guard.publish(happened("A", n))) == ["applied"]
    assert bed.effects("P") == [("A", n) for n in range(1, 31)]
    bed.run(engine.dispose())


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[str]:
    """A throw-away cluster of this module's own, from binaries at hand; it may be killed."""
    with postgres_server(found_binaries()) as server, server.database() as url:
        with ProjectionGuard(url, worker="external") as guard:
            guard.migrate()
        yield url


def crash(url: str) -> None:
    """Kill one backend with SIGKILL: the postmaster ends all others, and recovers from the log.

    Returns when every one of them has ended: until then a COMMIT could still get through.
    """
    parts = make_url(url)
    with psycopg.connect(
        host=parts.host, port=parts.port, user=parts.username, password=parts.password, dbname=parts.database
    ) as connection:
        row = connection.execute("SELECT pg_backend_pid(), pg_postmaster_start_time()").fetchone()
        assert row is not None
        assert b"postgres" in Path(f"/proc/{row[0]}/cmdline").read_bytes()
        others = [Path(f"/proc/{pid}") for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]
        os.kill(row[0], signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    deadline = time.monotonic() + 30
    while any(process.exists() for process in others):
        assert time.monotonic() < deadline, "the postmaster left a backend alive"
        time.sleep(0.01)


def is_back(engine: Engine) -> bool:
    """Return whether the server takes connections."""
    try:
        with engine.connect() as connection:
            return bool(connection.execute(text("SELECT 1")).scalar_one() == 1)
    except Exception:
        return False


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_crash_of_the_database_in_the_middle_of_everything_changes_nothing_in_the_end(
    own_cluster: str, kind: str
) -> None:
    """It crashes inside a joined and an apart handler, with events failed and parked; what was told is on record."""
    bed = Bed(kind, "postgresql", own_cluster)  # type: ignore[arg-type]
    guard, name = bed.guard(), f"P-{kind}"
    crashing: set[str] = set()
    broken = {f"{kind}F#1"}
    note = noted(name)

    def body(event: Happened, connection: object) -> None:
        note(event, connection)  # type: ignore[arg-type]
        if event.event_id in crashing:
            crashing.discard(event.event_id)
            crash(own_cluster)
        if event.event_id in broken:
            raise ValueError("broken")

    bed.joined(guard, name, body)
    streams = [f"{kind}{letter}" for letter in "FAB"]
    for n in (1, 2):
        for stream in streams:
            guard.publish(happened(stream, n))
    crashing.add(f"{kind}A#3")
    told = []
    try:
        told += statuses(guard.publish(happened(f"{kind}A", 3)))
    except StoreUnavailable:
        told.append("unavailable")
    bed.wait_until(lambda: is_back(bed.engine))
    assert told in (["failed"], ["unavailable"])
    assert bed.effects(name, f"{kind}A") == [(f"{kind}A", 1), (f"{kind}A", 2)]
    started = time.monotonic()
    for stream in streams:
        guard.publish(happened(stream, 3))
    assert time.monotonic() - started < 20
    crashing.add(f"{kind}F#2")
    broken.clear()
    with suppress(StoreUnavailable):
        guard.work()
    bed.wait_until(lambda: is_back(bed.engine))
    quiet(bed, guard)
    for stream in streams:
        assert bed.effects(name, stream) == [(stream, n) for n in (1, 2, 3)]
        assert bed.count(stream) == 3
    bed.close()
