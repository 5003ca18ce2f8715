"""Projections of `eventsource-py` under guard, as they are: one poison event, order, once; and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, async_sessionmaker, create_async_engine

from projection_guard import AsyncProjectionGuard
from projection_guard.errors import RegistrationError
from tests.libraries.eventsource_events import (
    PATIENT,
    Counted,
    append,
    by_stream,
    counted,
    engine_at,
    eventsource,
    heal,
    id_of,
    install,
    store_at,
)

from eventsource.adapters.sql.readmodel_schema import generate_schema  # isort: skip
from projection_guard.eventsource import EventStoreSource, register  # isort: skip  # not without the library

own = MetaData()
rows = Table(
    "counted_rows", own, Column("id", Integer, primary_key=True), Column("stream", String(36)), Column("n", Integer)
)

STREAMS = [f"stream {number}" for number in range(100)]
POISON = "stream 42"


class Bug:
    """What is wrong with a handler until it is fixed."""

    is_fixed = False

    def bite(self, event: Any) -> None:
        """Fail for the second event of one stream."""
        if not self.is_fixed and (event.aggregate_id, event.n) == (id_of(POISON), 2):
            raise ValueError("a bug")


class Rows(eventsource.DatabaseProjection):  # type: ignore[misc]
    """A row for each event, through the connection that it is given."""

    def __init__(self, sessions: Any, bug: Bug, **options: Any) -> None:
        super().__init__(sessions, **options)
        self.bug = bug

    @eventsource.handles(Counted)  # type: ignore[untyped-decorator]
    async def on_counted(self, connection: AsyncConnection, event: Any) -> None:
        await connection.execute(insert(rows).values(stream=str(event.aggregate_id), n=event.n))
        self.bug.bite(event)


class Listed(eventsource.DeclarativeProjection):  # type: ignore[misc]
    """A list in memory."""

    def __init__(self, bug: Bug, **options: Any) -> None:
        super().__init__(**options)
        self.bug = bug
        self.seen: list[tuple[str, int]] = []

    @eventsource.handles(Counted)  # type: ignore[untyped-decorator]
    async def on_counted(self, event: Any) -> None:
        self.bug.bite(event)
        self.seen.append((str(event.aggregate_id), event.n))


class Total(eventsource.ReadModel):  # type: ignore[misc]
    """How many events a stream has had."""

    last: int = 0

    @classmethod
    def table_name(cls) -> str:
        return "totals"


class Totals(eventsource.ReadModelProjection):  # type: ignore[misc]
    """A read model of the library's, by the repository that it brings: as an argument, and as its property."""

    def __init__(self, sessions: Any, bug: Bug, **options: Any) -> None:
        super().__init__(sessions, Total, **options)
        self.bug = bug

    @eventsource.handles(Counted)  # type: ignore[untyped-decorator]
    async def on_counted(self, repository: Any, event: Any) -> None:
        total = await repository.get(event.aggregate_id) or Total(id=event.aggregate_id)
        await self.repository.save(total.model_copy(update={"last": event.n}))
        self.bug.bite(event)


class Place:
    """The guard's database with a read model in it, and a store: SQLite's has a file of its own."""

    run: Callable[[Coroutine[Any, Any, None]], None]

    def __init__(self, guard_url: str, store_url: str) -> None:
        self.engine = engine_at(guard_url, "postgresql+psycopg")
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.store_url = store_url
        self.log = engine_at(store_url)
        self.source = EventStoreSource(self.log)
        self.bug = Bug()
        self.is_sqlite = guard_url.startswith("sqlite")

    def guard(self, **options: Any) -> AsyncProjectionGuard:
        return AsyncProjectionGuard(self.engine, worker="external", retry=PATIENT, **options)

    async def append(self, *events: Any) -> None:
        async with store_at(self.store_url) as store:
            await append(store, *events)

    async def rows(self) -> dict[str, list[int]]:
        """Read what is in the read model, in the order in which it was written."""
        async with self.engine.connect() as connection:
            found = await connection.execute(select(rows.c.stream, rows.c.n).order_by(rows.c.id))
            return by_stream([(row.stream, row.n) for row in found])

    async def last(self) -> int:
        """Read what the library's own read model says of the poisoned stream."""
        async with self.engine.connect() as connection:
            return int((await connection.execute(text("SELECT last FROM totals"))).scalar_one())

    async def open(self) -> None:
        """Make the read models' tables."""
        async with self.engine.begin() as connection:
            await connection.run_sync(own.create_all)
            await connection.execute(text(generate_schema(Total, "sqlite" if self.is_sqlite else "postgresql")))

    async def close(self) -> None:
        await self.log.dispose()
        await self.engine.dispose()


def placed(url: str, tmp_path: Path) -> Iterator[Place]:
    """Open everything on one database."""
    is_sqlite = url.startswith("sqlite")
    if not is_sqlite:
        install(url)
    made = Place(url, f"sqlite:///{tmp_path / 'events.db'}" if is_sqlite else url)
    with asyncio.Runner() as runner:
        runner.run(made.open())
        made.run = runner.run
        yield made
        runner.run(made.close())


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Place]:
    """On SQLite and PostgreSQL."""
    yield from placed(database_url, tmp_path)


@pytest.fixture
def sqlite_place(sqlite_url: str, tmp_path: Path) -> Iterator[Place]:
    """On SQLite, for rules in which no database takes part."""
    yield from placed(sqlite_url, tmp_path)


@pytest.fixture
def postgres_place(postgres_url: str, tmp_path: Path) -> Iterator[Place]:
    """On PostgreSQL."""
    yield from placed(postgres_url, tmp_path)


ALL = {str(id_of(stream)): [1, 2, 3] for stream in STREAMS}


def test_one_poison_event_in_one_of_100_streams(place: Place) -> None:
    """The others go on; after the fix its stream is complete and in order; each event was applied once."""

    async def tell() -> None:
        joined, apart = Rows(place.sessions, place.bug), Listed(place.bug)
        guard = place.guard(source=place.source)
        register(guard, joined)
        register(guard, apart)
        await place.append(*(counted(stream, n) for n in (1, 2, 3) for stream in STREAMS))
        await guard.catch_up()
        for found in (await place.rows(), by_stream(apart.seen)):
            assert found == ALL | {str(id_of(POISON)): [1]}
        for name in ("Rows", "Listed"):
            failure = (await guard.failures(name)).items[0]
            assert (failure.error_type, failure.stream_id) == ("ValueError", str(id_of(POISON)))
        place.bug.is_fixed = True
        await heal(guard)
        for found in (await place.rows(), by_stream(apart.seen)):
            assert found == ALL
        await guard.close()

    place.run(tell())


@pytest.mark.parametrize("name", ["joined", "apart"])
def test_a_read_model_of_its_own_repository(place: Place, name: str) -> None:
    """What the failing event wrote is undone; on SQLite the repository commits by itself, and joining is refused."""

    async def tell() -> None:
        guard = place.guard()
        if place.is_sqlite and name == "joined":
            with pytest.raises(RegistrationError, match="commits by itself on SQLite"):
                register(guard, Totals(place.sessions, place.bug))
            return
        totals = register(guard, Totals(place.sessions, place.bug), joined=None if name == "joined" else False)
        statuses = [(await totals(counted(POISON, n))).status for n in (1, 2, 3)]
        assert statuses == ["applied", "failed", "parked"]
        undone = name == "joined" or not place.is_sqlite
        assert await place.last() == (1 if undone else 2)
        place.bug.is_fixed = True
        await heal(guard)
        assert await place.last() == 3
        await guard.close()

    place.run(tell())


def test_events_at_the_same_time_have_a_connection_each(postgres_place: Place) -> None:
    """The projection keeps the repository of the event in hand in itself: two must not be in hand at once."""
    place = postgres_place

    async def tell() -> None:
        guard = place.guard()
        totals = register(guard, Totals(place.sessions, place.bug))
        outcomes = await asyncio.gather(*(totals(counted(stream, 2)) for stream in STREAMS[38:46]))
        assert sum(outcome.status == "applied" for outcome in outcomes) == 7
        async with place.engine.connect() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM totals WHERE last = 2"))).scalar_one() == 7
        await guard.close()

    place.run(tell())


def test_its_own_retries_and_pauses_are_not_made(sqlite_place: Place) -> None:
    """Its policy would call three times, with pauses of seconds in between: the guard's policy is what holds."""
    place = sqlite_place

    async def tell() -> None:
        calls = list[Any]()

        class Counting(Listed):
            async def _process_event(self, event: Any) -> None:
                calls.append(event)
                await super()._process_event(event)

        guard = place.guard()
        assert (await register(guard, Counting(place.bug))(counted(POISON, 2))).status == "failed"
        assert len(calls) == 1
        await guard.close()

    place.run(tell())


class Sale(Counted):
    """A class below one that is handled: the library does not hand it over."""

    event_type: str = "Sale"


def test_it_takes_the_classes_that_it_names_and_not_those_below_them(sqlite_place: Place) -> None:
    """As on its own bus; one that minds events without a handler is not given any."""
    place = sqlite_place

    async def tell() -> None:
        class Strict(Listed):
            unregistered_event_handling = "error"

        guard = place.guard()
        strict = register(guard, Strict(place.bug))
        assert (await strict(counted("A", 1))).status == "applied"
        assert (await strict(Sale(aggregate_id=id_of("A"), n=2))).status == "ignored"
        await guard.close()

    place.run(tell())


class Overriding(Listed):
    """Does something around each event."""

    async def handle(self, event: Any) -> None:
        await super().handle(event)


REFUSED: dict[str, tuple[Callable[[Place], Any], bool | None, str]] = {
    "checkpoint": (
        lambda place: Listed(place.bug, checkpoint_repo=eventsource.InMemoryCheckpointRepository()),
        None,
        "made with checkpoint_repo=, which nobody would write to",
    ),
    "dead letters": (
        lambda place: Rows(place.sessions, place.bug, dlq_repo=eventsource.InMemoryDLQRepository()),
        None,
        "made with dlq_repo=, which nobody would write to",
    ),
    "handle": (lambda place: Overriding(place.bug), None, r"has a handle\(\) of its own, which would not be called"),
    "tenant": (lambda place: Listed(place.bug, tenant_filter=uuid4), None, "a worker's retry has not the caller's"),
    "no connection": (lambda place: Listed(place.bug), True, "they cannot join a transaction"),
    "elsewhere": (lambda place: Rows(elsewhere(), place.bug), None, "not bound to the guard's database"),
    "not theirs": (lambda place: object(), False, "joined= says nothing of it"),
}


def elsewhere() -> Any:
    """Make sessions of another database."""
    return async_sessionmaker(create_async_engine("sqlite+aiosqlite:///elsewhere.db"))


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_left_out_is_refused(sqlite_place: Place, case: str) -> None:
    """When it is registered, in a sentence that says what to do."""
    make, joined, message = REFUSED[case]
    with pytest.raises(RegistrationError, match=message):
        register(sqlite_place.guard(), make(sqlite_place), joined=joined)


def test_another_database_by_its_own_transaction(sqlite_place: Place, tmp_path: Path) -> None:
    """With joined=False a DatabaseProjection writes where it writes, and what a failing event wrote is undone."""
    place = sqlite_place

    async def tell() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'elsewhere.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(own.create_all)
        guard = place.guard()
        rows_of = register(guard, Rows(async_sessionmaker(engine), place.bug), joined=False)
        assert [(await rows_of(counted(POISON, n))).status for n in (1, 2, 3)] == ["applied", "failed", "parked"]
        place.bug.is_fixed = True
        await heal(guard)
        async with engine.connect() as connection:
            found = await connection.execute(select(rows.c.n).order_by(rows.c.id))
            assert list(found.scalars()) == [1, 2, 3]
        await guard.close()
        await engine.dispose()

    place.run(tell())
