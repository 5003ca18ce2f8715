"""The async guard with asyncpg as SQLAlchemy's driver: what differs from psycopg, and a story of each kind.

The whole suite's async tests on PostgreSQL run with it where PROJECTION_GUARD_ASYNC_DRIVER=asyncpg says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from projection_guard import AsyncProjectionGuard, AsyncSqlEventSource, ConfigurationError, ProjectionGuard
from projection_guard._io import asyncpg_driver
from tests.bed import AT_ONCE, Bed, Happened, happened, noted
from tests.faults.pooler import pooled
from tests.faults.proxy import COMMIT, Proxy
from tests.flow.acting import Planned, active_equals_open_rows, statuses, work_until_done
from tests.following.logs import rebuilt
from tests.following.members import prepared

pytest.importorskip("asyncpg", reason="the driver asyncpg is not installed")


@pytest.fixture
def bed(postgres_url: str) -> Iterator[Bed]:
    """A bed whose guards talk to PostgreSQL by asyncpg."""
    made = Bed("async", "postgresql", postgres_url, driver="asyncpg")
    yield made
    made.close()


def fail_park_heal(bed: Bed, kind: str) -> None:
    """Let one event fail: its stream waits, another goes on; mended, it heals in order, each effect once."""
    guard, planned = bed.guard(), Planned("P", "A#1", note=noted("P"))
    planned.register(bed, guard, kind)
    found = [statuses(guard.publish(happened(*each))) for each in (("A", 1), ("A", 2), ("B", 1), ("B", 1))]
    assert found == [["failed"], ["parked"], ["applied"], ["duplicate"]]
    planned.heal()
    work_until_done(bed, guard)
    done = bed.effects("P") if kind == "joined" else planned.done
    assert done == [("B", 1), ("A", 1), ("A", 2)]
    assert active_equals_open_rows(bed)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_failed_stream_heals_in_order(bed: Bed, kind: str) -> None:
    """As with psycopg."""
    fail_park_heal(bed, kind)


def test_a_commit_whose_reply_is_lost_is_looked_for_and_found(bed: Bed) -> None:
    """The outcome is unknown to the driver; the guard looks. One that never arrived is tried again."""
    with Proxy(bed.url) as proxy:
        bed.url = proxy.url
        guard = bed.guard()
        bed.joined(guard, "P", noted("P"))
        guard.health()
        proxy.swallow(which=COMMIT)
        assert statuses(guard.publish(happened("A", 1))) == ["applied"]
        assert proxy.disarm()
        proxy.cut(which=COMMIT)
        assert statuses(guard.publish(happened("A", 2))) == ["failed"]
        assert proxy.disarm()
        work_until_done(bed, guard)
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_a_connection_that_has_died_in_the_pool_is_nobodys_failure(bed: Bed) -> None:
    """Also where the next thing to be said on it is the question what a statement's parameters are."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]
    asyncpg_driver._fits.clear()  # as in a process that has published nothing yet
    bed.value(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert statuses(guard.publish(happened("A", 2))) == ["applied"]
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_an_error_of_the_database_that_a_handler_swallows_is_its_failure(bed: Bed) -> None:
    """Asyncpg does not tell that a transaction has failed: the guard asks."""
    guard = bed.guard()

    def swallows(event: Happened, connection: Connection) -> None:
        try:
            connection.execute(text("SELECT 1 / 0"))
        except SQLAlchemyError:
            return

    bed.joined(guard, "P", swallows)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    (failure,) = guard.failures("P").items
    assert failure.error_type.endswith("HandlerLeftTransactionAborted")


def test_what_asyncpg_itself_refuses_is_the_events_failure_and_no_outage(bed: Bed) -> None:
    """SQLAlchemy says InterfaceError of both; an event that is retried for ever would never come before a person."""
    guard = bed.guard()

    def wrong(event: Happened, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT $1::integer", (1, 2))

    bed.joined(guard, "P", wrong)
    guard.publish(happened("A", 1))
    for _ in range(7):
        guard.work()
    (failure,) = guard.failures("P").items
    assert (failure.next_retry_at, failure.retry_count) == (None, 5)


def test_a_handler_that_is_cut_off_in_a_statement_has_written_nothing(bed: Bed) -> None:
    """Its timeout ends it; the stream waits, and heals."""
    guard, slow = bed.guard(), [60.0]

    @guard.real.projection("P", handles=[Happened], timeout=2.0)  # type: ignore[untyped-decorator]
    async def handler(event: Happened, connection: AsyncConnection) -> None:
        await connection.run_sync(lambda sync: noted("P")(event, sync))
        await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": slow[0]})

    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert guard.failures("P").items[0].error_type.endswith("HandlerTimeout")
    slow[0] = 0.0
    work_until_done(bed, guard)
    assert bed.effects("P") == [("A", 1)]


def test_transactions_are_read_committed_whatever_the_hosts_engine_says(bed: Bed) -> None:
    """An engine of the host's, which keeps its own settings and its own cache of prepared statements."""
    engine = create_async_engine(bed.guards_url, isolation_level="SERIALIZABLE")
    guard = AsyncProjectionGuard(engine, worker="external", retry=AT_ONCE)
    seen: list[str] = []

    @guard.projection("P", handles=[Happened])
    async def handler(event: Happened, connection: AsyncConnection) -> None:
        seen.append((await connection.execute(text("SHOW transaction_isolation"))).scalar_one())

    async def act() -> None:
        for n in range(8):
            (outcome,) = await guard.publisher().publish(happened("A", n))
            assert outcome.status == "applied"
        async with engine.connect() as connection:
            seen.append((await connection.execute(text("SHOW transaction_isolation"))).scalar_one())
        await guard.close()
        await engine.dispose()

    bed.run(act())
    assert seen == ["read committed"] * 8 + ["serializable"]


def test_a_follower_is_woken_by_another_process(bed: Bed) -> None:
    """LISTEN and NOTIFY come through asyncpg; looking by itself it would find the event only after a minute."""
    log = prepared(bed)

    async def act() -> None:
        engine: Any = create_async_engine(bed.guards_url)
        publishing, following = (
            AsyncProjectionGuard(
                bed.guards_url, source=AsyncSqlEventSource(engine, "log", decode=rebuilt), worker="external"
            )
            for _ in range(2)
        )
        for guard in (publishing, following):
            guard.projection("P", handles=[Happened])(_note)
        await following.catch_up("P")
        async with following.worker(poll_seconds=60):
            await asyncio.to_thread(_until_somebody_listens, bed)
            (event,) = await asyncio.to_thread(log.append, "A")
            (outcome,) = await publishing.publisher(wait=60).publish(event)
            assert outcome.status == "applied"
        for guard in (publishing, following):
            await guard.close()
        await engine.dispose()

    bed.run(act())


async def _note(event: Happened, connection: AsyncConnection) -> None:
    await connection.run_sync(lambda sync: noted("P")(event, sync))


def _until_somebody_listens(bed: Bed) -> None:
    for _ in range(1200):
        # in its own database: other tests' listeners are on the same server
        listening = "query LIKE 'LISTEN%' AND datname = current_database()"
        if bed.value(f"SELECT count(*) FROM pg_stat_activity WHERE {listening}"):
            return
        time.sleep(0.02)
    pytest.fail("nobody listens")


def test_behind_pgbouncer_nothing_is_left_prepared(bed: Bed) -> None:
    """All guards share one connection to the server, transaction by transaction."""
    with pooled(bed.url, connections=1) as url:
        bed.url = url
        fail_park_heal(bed, "joined")
        looking = create_engine(url, connect_args={"prepare_threshold": None})
        with looking.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
        looking.dispose()


def test_the_blocking_guard_says_that_it_cannot_use_it() -> None:
    """By its URL and by an engine."""
    with pytest.raises(ConfigurationError, match="use AsyncProjectionGuard, or postgresql"):
        ProjectionGuard("postgresql+asyncpg://nowhere/x")
    with pytest.raises(ConfigurationError, match="use AsyncProjectionGuard, or postgresql"):
        ProjectionGuard(create_engine("postgresql+asyncpg://nowhere/x"))
