"""Given events, when projected, then read model: for handlers of each kind, and for a guard of the application's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from projection_guard import AsyncProjectionGuard, EventMapping, InvalidArgument, ProjectionGuard
from projection_guard.testing import given
from tests.bed import Bed

tables = MetaData()
accounts = Table("accounts", tables, Column("id", String(10), primary_key=True), Column("balance", Integer))
log: list[int] = []


@dataclass(frozen=True)
class Deposited:
    event_id: str
    stream_id: str
    amount: int


EVENTS = (Deposited("1", "A", 3), Deposited("2", "B", 4), Deposited("3", "A", 5))
WANTED = [{"id": "B", "balance": 4}, {"id": "A", "balance": 8}]


def balances(event: Deposited, connection: Connection) -> None:
    """A handler that is not idempotent by itself."""
    more = update(accounts).where(accounts.c.id == event.stream_id).values(balance=accounts.c.balance + event.amount)
    if connection.execute(more).rowcount == 0:
        connection.execute(insert(accounts).values(id=event.stream_id, balance=event.amount))


async def balances_async(event: Deposited, connection: AsyncConnection) -> None:
    """The same."""
    await connection.run_sync(lambda sync: balances(event, sync))


def noted(event: Deposited) -> None:
    """A handler that writes elsewhere."""
    log.append(event.amount)


async def noted_async(event: Deposited) -> None:
    """The same."""
    log.append(event.amount)


def clear(connection: Connection) -> None:
    """Empty what is elsewhere."""
    log.clear()


def then(handler: Callable[..., Any], what: Any, wanted: object, **options: Any) -> None:
    """End the sentence; await it where the handler is async."""
    events = EVENTS[2:] if options.get("crashed") else EVENTS  # a run for each point takes its time
    sentence: Any = given(*events).when(handler, **options)
    ended = sentence.then(what, wanted)
    if asyncio.iscoroutine(ended):
        asyncio.run(ended)


@pytest.mark.parametrize("handler", [balances, balances_async])
@pytest.mark.parametrize("options", [{}, {"redelivered": True}, {"crashed": True}], ids=str)
def test_a_joined_handler_has_its_effect_once(handler: Callable[..., Any], options: dict[str, bool]) -> None:
    """Redelivered, and after a crash at each point, too."""
    then(handler, accounts, [{"balance": 5}] if "crashed" in options else WANTED, **options)


@pytest.mark.parametrize("handler", [noted, noted_async])
def test_an_apart_handler_that_is_not_idempotent_is_found_out(handler: Callable[..., Any]) -> None:
    """By a redelivery, and by a crash between its effect and its record, which says where that was."""
    then(handler, lambda: log, [3, 4, 5], prepare=clear)
    with pytest.raises(AssertionError, match=r"found \[3, 3, 4, 4, 5, 5\]"):
        then(handler, lambda: log, [3, 4, 5], prepare=clear, redelivered=True)
    with pytest.raises(AssertionError, match=r"found \[5, 5\]\n\(after a crash after handler 1, a restart"):
        then(handler, lambda: log, [5], prepare=clear, crashed=True)


def test_one_that_is_idempotent_is_not() -> None:
    """A set does not mind."""
    given(EVENTS[0]).when(noted, prepare=clear, crashed=True, redelivered=True).then(lambda: set(log), {3})


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_joined", [False, True])
def test_a_decorated_handler_is_taken_out_of_its_guard(tmp_path: Path, is_async: bool, is_joined: bool) -> None:
    """As an application imports it; the database of its guard, which has no tables here, is not touched."""
    handlers: Any = (balances, balances_async) if is_joined else (noted, noted_async)
    kind: Any = AsyncProjectionGuard if is_async else ProjectionGuard
    guard = kind(f"sqlite:///{tmp_path}/a.db", worker="external")
    decorated = guard.projection("Decorated", handles=[Deposited])(handlers[is_async])
    if is_joined:
        then(decorated, accounts, WANTED)
    else:
        then(decorated, lambda: log, [3, 4, 5], prepare=clear)
    closed = guard.close()
    if asyncio.iscoroutine(closed):
        asyncio.run(closed)
    assert not (tmp_path / "a.db").exists()


def test_a_joined_handler_with_an_effect_elsewhere_is_found_out() -> None:
    """What it did outside the transaction is not undone with it."""

    def both(event: Deposited, connection: Connection) -> None:
        balances(event, connection)
        noted(event)

    given(*EVENTS).when(both, prepare=prepare_both).then(lambda: log, [3, 4, 5])
    with pytest.raises(AssertionError, match=r"found \[3, 3\]"):
        given(EVENTS[0]).when(both, prepare=prepare_both, crashed=True).then(lambda: log, [3])


def prepare_both(connection: Connection) -> None:
    """Make the tables, and clear what is elsewhere."""
    tables.create_all(connection)
    log.clear()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ([{"id": "A", "balance": 9}, {"id": "B", "balance": 4}], "id='A': balance is 8, wanted 9"),
        ([{"id": "A", "balance": 8}], r"id='B': too much, \{balance: 4, id: 'B'\}"),
        ([*WANTED, {"id": "C", "balance": 0}], r"id='C': missing, wanted \{balance: 0, id: 'C'\}"),
        ([{"balance": 8}], r"too much: \{balance: 4\}"),
        ([], "too much"),
        ([{"id": "A"}, {"id": "B", "balance": 4}], "id='A': balance is 8, and this row does not say what is wanted"),
        ([{"id": "A", "blance": None}, {"id": "B", "blance": None}], "id='A': there is no column blance"),
        ([*WANTED, WANTED[0]], r"missing: \{balance: 4, id: 'B'\}"),
    ],
)
def test_what_differs_is_said_with_its_values(wanted: list[dict[str, Any]], says: str) -> None:
    """By key where the rows wanted have one, else as wholes."""
    with pytest.raises(AssertionError, match=f"The read model is not as wanted:\n  {says}"):
        given(*EVENTS).when(balances).then(accounts, wanted)


def test_tables_and_queries_are_looked_at_one_after_the_other() -> None:
    """Each `then` projects anew; columns that no row names are not looked at."""
    total = select(func.sum(accounts.c.balance).label("total"))
    given(*EVENTS).when(balances, prepare=tables).then(total, [{"total": 12}]).then(
        accounts, [{"id": "A"}, {"id": "B"}]
    )
    given().when(balances).then(accounts, [])


def test_a_handler_that_fails_fails_the_test() -> None:
    """With its own error."""

    def broken(event: Deposited, connection: Connection) -> None:
        raise KeyError("no such account")

    with pytest.raises(AssertionError, match=r"could not apply event '1' .*KeyError: 'no such account'"):
        given(*EVENTS).when(broken).then(accounts, [])


def test_a_guard_of_the_applications_projects(sqlite_bed: Bed) -> None:
    """What is there already stays; what was applied is recognised."""
    sqlite_bed.past_the_library(tables.create_all)
    guard = sqlite_bed.guard()
    sqlite_bed.joined(guard, "Balances", balances, handles=[Deposited])
    for redelivered in (False, True):
        sqlite_bed.run(given(*EVENTS).when(guard.real, "Balances", redelivered=redelivered).then(accounts, WANTED))


def test_a_database_can_be_given(postgres_url: str) -> None:
    """PostgreSQL, for handlers that need it; it is migrated, and keeps what was projected."""
    given(*EVENTS[:2]).when(balances, database=postgres_url).then(accounts, [{"balance": 3}, {"balance": 4}])
    given(EVENTS[2]).when(balances, database=postgres_url).then(accounts, WANTED)


def test_events_of_any_shape_are_given() -> None:
    """Their fields are found as the mapping says; their order may be of no interest."""

    def count(event: dict[str, Any], connection: Connection) -> None:
        connection.execute(insert(accounts).values(id=event["key"], balance=1))

    mapping = EventMapping(event_id="key", event_type=lambda _: "Counted")
    given({"key": "x"}).when(count, mapping=mapping, order="none").then(accounts, [{"id": "x", "balance": 1}])


def test_what_cannot_be_done_is_refused(sqlite_bed: Bed) -> None:
    """Before any event."""
    guard = sqlite_bed.guard()
    sqlite_bed.joined(guard, "P", balances, handles=[Deposited])
    for arguments, options in (
        ((guard.real, "P"), {"crashed": True}),
        ((guard.real,), {}),
        ((balances,), {"crashed": True, "database": sqlite_bed.url}),
    ):
        with pytest.raises(InvalidArgument):
            given(*EVENTS).when(*arguments, **options)
    with pytest.raises(InvalidArgument, match="list of dicts"):
        given(*EVENTS).when(balances).then(accounts, "rows")
