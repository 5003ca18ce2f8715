"""The examples that run to an end: what fails heals, and the read model is complete and in order."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.examples.starting import ran

pytestmark = pytest.mark.slow


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Look into a file of SQLite."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_the_blocking_program_books_each_claim_in_order(tmp_path: Path) -> None:
    """The late correction does not count for the claim that had to wait either; mail is not held up."""
    said = ran("plain_blocking", tmp_path)
    assert [said.count(f" {word} ") for word in ("applied", "failed", "parked")] == [8, 1, 3]
    assert said.index("mail: claim") < said.index("there is no project")
    assert rows(tmp_path / "expenses.db", "SELECT person, cents, state FROM claims ORDER BY person") == [
        ("ann", 1500, "approved"),
        ("bob", 3000, "approved"),
        ("eve", 4500, "approved"),
    ]


@pytest.mark.postgres
def test_the_asyncio_program_tells_the_index_all_in_order(empty_postgres_url: str, tmp_path: Path) -> None:
    """Once the index is back; the table has never waited. All of it is where DATABASE_URL says."""
    said = ran("plain_async", tmp_path, DATABASE_URL=empty_postgres_url)
    assert "Articles: 0 events have failed, 0 wait" in said
    assert "SearchIndex: 4 events have failed, 8 wait" in said
    assert len(re.findall(r"in version 3', index was told versions \[1, 2, 3\]$", said, flags=re.MULTILINE)) == 4
    assert not list(tmp_path.glob("*.db"))


def test_the_orders_of_eventsourcing_wait_alone(tmp_path: Path) -> None:
    """One order waits for a price, the others are confirmed; then it is."""
    said = ran("with_eventsourcing", tmp_path).splitlines()
    assert said[0].endswith("has no price yet; events of that order that wait: 1")
    assert said[1:4] == ["  ann: 49.00, confirmed", "  bob: 98.00, open", "  eve: 147.00, confirmed"]
    assert said[5:] == ["  ann: 49.00, confirmed", "  bob: 110.50, confirmed", "  eve: 147.00, confirmed"]


def check_stock(said: str) -> None:
    """Each message has counted once, and the last one came last."""
    waits, *stock = said.splitlines()
    assert waits.endswith("is not in the catalogue: its first message has failed, 3 wait behind it")
    assert [re.sub(r"-\w{6}:", ":", line) for line in stock] == [
        f"{item}: 125 in stock after 4 moves, the last was number 4" for item in ("bolt", "nut", "washer")
    ]


def test_the_stock_behind_a_broker_counts_each_message_once(tmp_path: Path) -> None:
    """On FastStream's broker in the process."""
    check_stock(ran("behind_a_broker", tmp_path))


def test_the_stock_does_so_on_nats(tmp_path: Path) -> None:
    """On a real server, where there is one; what the example has made there is taken away."""
    brokers = pytest.importorskip("tests.brokers.brokers", exc_type=ImportError)
    missing = brokers.why_no_broker("nats")
    if missing is not None:
        pytest.skip(missing)
    try:
        check_stock(ran("behind_a_broker", tmp_path, NATS_URL=brokers.nats_url()))
    finally:
        asyncio.run(forget(brokers.nats_url()))


async def forget(url: str) -> None:
    """Delete the example's stream."""
    import nats

    connection = await nats.connect(url)
    await connection.jetstream().delete_stream("projection-guard-example")
    await connection.close()


def test_the_log_mends_what_two_bugs_have_done(tmp_path: Path) -> None:
    """The replay applies what had failed, the verification finds what is wrong, the rebuild puts it right."""
    said = ran("replay_and_rebuild", tmp_path)
    balances = [dict(re.findall(r"(\w+) (-?\d+)(?=,|$)", line)) for line in said.splitlines() if "ann " in line]
    assert [[int(each[name]) for name in ("ann", "bob", "eve", "kim")] for each in balances] == [
        [2500, 1000, 750, 1100],
        [2500, 1490, 750, 1100],
        [1500, 1490, 750, 900],
    ]
    assert "drifted True: ann, kim" in said
    assert "verified again: drifted False" in said
    assert rows(tmp_path / "balances.db", "SELECT sum(cents) FROM balances") == [(4640,)]
