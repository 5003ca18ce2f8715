"""Engines that the host made for itself: whatever they say, the guard's transactions are its own, READ COMMITTED."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from tenacity import wait_fixed

from projection_guard import RetryPolicy
from tests.bed import Bed, Happened, async_url, happened, noted
from tests.flow.acting import Planned, active_equals_open_rows, calls_of, states_of, statuses, work_until_done

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"]


def engine_of(bed: Bed, **options: Any) -> Any:
    """Make an engine for the bed's guards, as a host does."""
    return create_async_engine(bed.url, **options) if bed.is_async else create_engine(bed.url, **options)


def end(bed: Bed, guard: Any, engine: Any) -> None:
    """Close what the guard does not: the engine is the host's."""
    bed.run(guard.real.close())
    bed.run(engine.dispose())


@pytest.mark.parametrize("level", LEVELS)
def test_the_hosts_isolation_level_changes_nothing(postgres_bed: Bed, level: str) -> None:
    """Twenty deliveries of one event, a failure that undoes its work, parking and healing, at every level."""
    bed = postgres_bed
    engine = engine_of(bed, isolation_level=level)
    bed.url = engine
    guard, planned, levels = bed.guard(), Planned("P", "A#2", note=noted("P")), set[str]()

    def body(event: Happened, connection: Connection) -> None:
        levels.add(connection.execute(text("SHOW transaction_isolation")).scalar_one())
        planned.joined(event, connection)

    bed.joined(guard, "P", body)
    publish = guard.publisher.publish
    results = [statuses(o) for o in calls_of(bed, [lambda: publish(happened("A", 1))] * 20)]
    assert sorted(results) == [["applied"], *[["duplicate"]] * 19]
    assert [statuses(guard.publish(happened("A", n))) for n in (2, 3)] == [["failed"], ["parked"]]
    assert bed.effects("P") == [("A", 1)]
    planned.heal()
    work_until_done(bed, guard)
    assert bed.effects("P") == [("A", 1), ("A", 2), ("A", 3)]
    assert bed.count("A") == 3
    assert levels == {"read committed"}
    assert active_equals_open_rows(bed)
    end(bed, guard, engine)


def test_an_engine_without_a_pool_does(bed: Bed) -> None:
    """`NullPool`: each transaction has a connection of its own."""
    url = bed.url if not bed.is_async else async_url(bed.url)
    engine: Any = (create_async_engine if bed.is_async else create_engine)(url, poolclass=NullPool)
    bed.url = engine
    guard, planned = bed.guard(), Planned("P", "A#1", note=noted("P"))
    planned.register(bed, guard, "joined")
    assert [statuses(guard.publish(happened("A", n))) for n in (1, 2)] == [["failed"], ["parked"]]
    planned.heal()
    work_until_done(bed, guard)
    assert bed.effects("P") == [("A", 1), ("A", 2)]
    end(bed, guard, engine)


def test_a_deadlock_is_nobodys_failure(postgres_bed: Bed) -> None:
    """Two handlers take two rows in opposite order: the one that the server breaks off is done again, and not kept."""
    bed = postgres_bed
    bed.change("CREATE TABLE account (name text PRIMARY KEY, balance int)")
    bed.change("INSERT INTO account VALUES ('a', 0), ('b', 0)")
    guard, both, calls = bed.guard(), threading.Barrier(2), list[str]()

    def add(connection: Connection, name: str) -> None:
        connection.execute(text("UPDATE account SET balance = balance + 1 WHERE name = :name"), {"name": name})

    def rows_of(event: Happened) -> tuple[str, str]:
        return ("a", "b") if event.stream_id == "A" else ("b", "a")

    if bed.is_async:
        all_are_there = asyncio.Event()

        async def async_handler(event: Happened, connection: Any) -> None:
            calls.append(event.event_id)
            first, second = rows_of(event)
            await connection.run_sync(add, first)
            if len(calls) == 2:
                all_are_there.set()
            await all_are_there.wait()
            await connection.run_sync(add, second)

        guard.real.projection("P", handles=[Happened])(async_handler)
    else:

        def handler(event: Happened, connection: Connection) -> None:
            calls.append(event.event_id)
            first, second = rows_of(event)
            add(connection, first)
            if len(calls) <= 2:
                both.wait(60)
            add(connection, second)

        guard.real.projection("P", handles=[Happened])(handler)
    publish = guard.publisher.publish
    results = calls_of(bed, [lambda s=s: publish(happened(s, 1)) for s in "AB"])  # type: ignore[misc]
    assert [statuses(outcomes) for outcomes in results] == [["applied"], ["applied"]]
    assert len(calls) >= 3, "one of them was broken off and done again"  # it may meet the other one twice
    assert [row.balance for row in bed.rows("SELECT balance FROM account ORDER BY name")] == [2, 2]
    assert states_of(bed, "P") == {"A#1": "applied", "B#1": "applied"}
    assert guard.failures("P", include_resolved=True).items == ()


def test_a_handler_that_always_meets_serialisation_errors_fails(postgres_bed: Bed) -> None:
    """They are nobody's failure as long as doing it again may help; then they are the handler's, and kept."""
    bed, calls = postgres_bed, list[str]()
    guard = bed.guard()

    def body(event: Happened, connection: Connection) -> None:
        calls.append(event.event_id)
        connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"))

    bed.joined(guard, "P", body, retry=RetryPolicy(wait=wait_fixed(3600)))
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert len(calls) > 1
    (failure,) = guard.failures("P").items
    assert failure.error_type.endswith("SerializationFailure") or "again" in failure.error_message


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_another_client_encoding_is_spoken_on_every_path(postgres_bed: Bed, kind: str) -> None:
    """The hot path's own words are in the connection's encoding, as SQLAlchemy's are: one stream has one name."""
    bed = postgres_bed
    engine = engine_of(bed, connect_args={"client_encoding": "latin1"})
    bed.url = engine
    guard = bed.guard()
    planned = Planned("P", "\u00c9#1")
    planned.register(bed, guard, kind)
    assert [statuses(guard.publish(happened("\u00c9", n))) for n in (1, 2)] == [["failed"], ["parked"]]
    planned.heal()
    work_until_done(bed, guard)
    assert statuses(guard.publish(happened("\u00c9", 2))) == ["duplicate"]
    assert states_of(bed, "P") == {"\u00c9#1": "applied", "\u00c9#2": "applied"}
    assert bed.value("SELECT stream_id FROM projection_streams") == "\u00c9"
    end(bed, guard, engine)


def test_on_a_direct_connection_the_hosts_engine_prepares_statements(postgres_bed: Bed) -> None:
    """Both psycopg's and the guard's own; behind PgBouncer neither: tests/faults/test_pgbouncer.py."""
    bed = postgres_bed
    engine = engine_of(bed, pool_size=1, max_overflow=0)
    bed.url = engine
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    for n in range(1, 8):
        guard.publish(happened("A", n))

    def prepared(connection: Connection) -> set[str]:
        names = connection.execute(text("SELECT name FROM pg_prepared_statements")).scalars()
        return {name.rpartition("_")[0] for name in names}

    async def prepared_in_async() -> set[str]:
        async with engine.connect() as connection:
            found: set[str] = await connection.run_sync(prepared)
            return found

    if bed.is_async:
        found = bed.run(prepared_in_async())
    else:
        with engine.connect() as connection:
            found = prepared(connection)
    assert found == {"_pg3", "projection_guard"}
    end(bed, guard, engine)
