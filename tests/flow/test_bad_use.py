"""Each bad use is answered with one clear sentence: what, where, what to do. Nothing is done, nothing leaks."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy import inspect as inspect_database
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool, StaticPool

from projection_guard import (
    AsyncProjectionGuard,
    AsyncSqlEventSource,
    Breaker,
    ConfigurationError,
    EventError,
    EventMapping,
    HealthPolicy,
    InvalidArgument,
    ProjectionGuard,
    ProjectionGuardError,
    RegistrationError,
    RetryAfter,
    RetryPolicy,
    SchemaError,
    SqlEventSource,
    StoreUnavailable,
    UnknownFailure,
    UnknownProjection,
)
from tests.bed import Bed, Happened, happened, noted
from tests.flow.acting import snapshot


def sentence(caught: pytest.ExceptionInfo[BaseException], *words: str) -> None:
    """Check that an error is one of ours, of one paragraph, and says these words."""
    assert isinstance(caught.value, ProjectionGuardError)
    told = str(caught.value)
    assert told
    assert "\n" not in told
    assert len(told) < 500
    for word in words:
        assert word in told, told


# -- building a guard

BAD_DATABASES: list[tuple[Any, str]] = [
    ("oracle://host/db", "postgresql"),
    ("postgresql+pg8000://host/db", "psycopg"),
    ("oracle://host/db", "postgresql"),
    ("sqlite+nothing:///x.db", "sqlite"),
    ("not a url", "URL"),
    ("", "URL"),
    (None, "URL"),
    (42, "URL"),
]


@pytest.mark.parametrize("make", [ProjectionGuard, AsyncProjectionGuard])
@pytest.mark.parametrize(("database", "word"), BAD_DATABASES)
def test_a_database_that_cannot_be(make: Any, database: Any, word: str) -> None:
    """An unknown driver, no URL at all: what is taken is named."""
    with pytest.raises(ConfigurationError) as caught:
        make(database)
    sentence(caught, word)
    assert isinstance(caught.value, ValueError)


def test_an_engine_of_the_wrong_kind() -> None:
    """Each guard names the other."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncProjectionGuard(create_engine("sqlite://"))  # type: ignore[arg-type]
    sentence(caught, "use ProjectionGuard")
    with pytest.raises(ConfigurationError) as caught:
        ProjectionGuard(create_async_engine("sqlite+aiosqlite://"))  # type: ignore[arg-type]
    sentence(caught, "use AsyncProjectionGuard")


def test_an_engine_of_the_wrong_kind_for_a_source() -> None:
    """The message names the source that takes it, not a guard."""
    with pytest.raises(ConfigurationError) as caught:
        SqlEventSource(create_async_engine("sqlite+aiosqlite://"), "events")  # type: ignore[arg-type]
    sentence(caught, "SqlEventSource takes", "use AsyncSqlEventSource")
    with pytest.raises(ConfigurationError) as caught:
        AsyncSqlEventSource(create_engine("sqlite://"), "events")  # type: ignore[arg-type]
    sentence(caught, "AsyncSqlEventSource takes", "use SqlEventSource")


def test_an_engine_that_mixes_transactions_up() -> None:
    """What SQLAlchemy takes for an in-memory database has one connection for all, or a database for each thread."""
    with pytest.raises(ConfigurationError) as caught:
        ProjectionGuard(create_engine("sqlite://"))
    sentence(caught, "poolclass=QueuePool")
    with pytest.raises(ConfigurationError) as caught:
        AsyncProjectionGuard(create_async_engine("sqlite+aiosqlite://"))
    sentence(caught, "poolclass=AsyncAdaptedQueuePool")
    with pytest.raises(ConfigurationError) as caught:
        ProjectionGuard(create_engine("sqlite://", poolclass=StaticPool))
    sentence(caught, "StaticPool")
    one_at_a_time: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
    engine = create_engine("sqlite://", connect_args={"check_same_thread": False}, **one_at_a_time)
    with ProjectionGuard(engine) as guard:
        guard.migrate()
        assert guard.health() == ()
    engine.dispose()


BAD_OPTIONS: list[dict[str, Any]] = [
    {"order": "sometimes"},
    {"worker": "maybe"},
    {"lease": timedelta(0)},
    {"lease": timedelta(seconds=-5)},
    {"dedupe_window": timedelta(seconds=-1)},
    {"schema": "some schema"},
    {"schema": "s; DROP TABLE x"},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
@pytest.mark.parametrize("make", [ProjectionGuard, AsyncProjectionGuard])
def test_an_option_that_cannot_be(make: Any, options: dict[str, Any]) -> None:
    """The option is named."""
    with pytest.raises(ConfigurationError) as caught:
        make("sqlite:///never_made.db", **options)
    sentence(caught, next(iter(options)))


BAD_POLICIES: list[Callable[[], object]] = [
    lambda: RetryPolicy(immediate=-1),
    lambda: RetryPolicy(wait=5),  # type: ignore[arg-type]
    lambda: RetryPolicy(stop=3),  # type: ignore[arg-type]
    lambda: RetryPolicy(breaker=True),  # type: ignore[arg-type]
    lambda: Breaker(failures=0),
    lambda: Breaker(failures=2, streams=3),
    lambda: Breaker(first_pause_seconds=0),
    lambda: HealthPolicy(degraded_from=0),
    lambda: RetryAfter(-1),
    lambda: RetryAfter(math.nan),
    lambda: RetryAfter(math.inf),
]


@pytest.mark.parametrize("make", BAD_POLICIES)
def test_a_policy_that_cannot_be(make: Callable[[], object]) -> None:
    """Refused where it is written, not at the first failure."""
    with pytest.raises((ConfigurationError, InvalidArgument)) as caught:
        make()
    sentence(caught)
    assert isinstance(caught.value, ValueError)


# -- registering


async def async_joined(event: object, connection: object) -> None:
    """A handler for the other guard."""


async def async_apart(event: object) -> None:
    """A handler for the other guard."""


def blocking_joined(event: object, connection: object) -> None:
    """A handler for the other guard."""


def test_an_async_handler_on_the_blocking_guard(blocking_bed: Bed) -> None:
    """It names the guard to use."""
    guard = blocking_bed.guard()
    for handler in (async_joined, async_apart):
        with pytest.raises(RegistrationError) as caught:
            guard.real.projection("P")(handler)
        sentence(caught, "'P'", "use AsyncProjectionGuard")
    assert guard.health() == ()


def test_a_blocking_joined_handler_on_the_async_guard(async_bed: Bed) -> None:
    """It would block the loop; it says what would not."""
    with pytest.raises(RegistrationError) as caught:
        async_bed.guard().real.projection("P")(blocking_joined)
    sentence(caught, "'P'", "Make it async", "ProjectionGuard")


def test_a_name_registered_twice(bed: Bed) -> None:
    """The first stays."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    with pytest.raises(RegistrationError) as caught:
        bed.joined(guard, "P", noted("other"))
    sentence(caught, "'P'", "already")
    guard.publish(happened("A", 1))
    assert bed.effects("P") == [("A", 1)]


BAD_HANDLERS: list[Callable[..., object]] = [lambda: None, lambda a, b, c: None, lambda event, *, needed: None]


@pytest.mark.parametrize("handler", BAD_HANDLERS)
def test_a_handler_with_the_wrong_parameters(sqlite_bed: Bed, handler: Callable[..., object]) -> None:
    """It says what a handler takes."""
    with pytest.raises(RegistrationError) as caught:
        sqlite_bed.guard().real.projection("P")(handler)
    sentence(caught, "'P'", "(event, connection)")


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1}, {"handles": []}, {"handles": [42]}], ids=str)
def test_a_registration_that_cannot_be(bed: Bed, options: dict[str, Any]) -> None:
    """The option is named, and nothing is registered."""
    guard = bed.guard()
    with pytest.raises(RegistrationError) as caught:
        bed.joined(guard, "P", noted("P"), **options)
    sentence(caught, "'P'", next(iter(options)))
    assert guard.health() == ()


@pytest.mark.parametrize("name", ["", "x" * 256, "a\0b"])
def test_a_name_that_cannot_be(sqlite_bed: Bed, name: str) -> None:
    """Too short, too long, or one that PostgreSQL refuses."""
    with pytest.raises(RegistrationError) as caught:
        sqlite_bed.joined(sqlite_bed.guard(), name, noted("P"))
    sentence(caught, "1 to 255")


def test_an_object_that_is_no_projection(sqlite_bed: Bed) -> None:
    """It has no `handle`, or takes nothing that can be read."""
    guard = sqlite_bed.guard()
    with pytest.raises(RegistrationError) as caught:
        guard.real.register(object(), "P")
    sentence(caught, "handle(event)")


class Opaque:
    """An event that JSON cannot say."""

    event_id, stream_id = "o#1", "O"


def test_an_event_class_with_no_way_back(bed: Bed) -> None:
    """Registration says so; where no class was named, the first publish does, before any handler is called."""
    guard, calls = bed.guard(), list[object]()
    with pytest.raises(RegistrationError) as caught:
        bed.apart(guard, "P", calls.append, handles=[Opaque])
    sentence(caught, "'P'", "Opaque", "no way back", "codec.register")
    bed.apart(guard, "All", calls.append, handles=None)
    before = snapshot(bed)
    with pytest.raises(EventError) as caught_event:
        guard.publish(Opaque())
    sentence(caught_event, "o#1", "Opaque", "no way back")
    assert calls == []
    assert snapshot(bed) == before


# -- events


@dataclass(frozen=True)
class Nameless:
    """An event without an id."""

    stream_id: str = "A"
    secret: str = "do not tell"


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (Nameless(), "event_id"),
        ({"event_type": "T", "stream_id": "A", "secret": "do not tell"}, "event_id"),
        ({"event_id": "1", "stream_id": "A", "secret": "do not tell"}, "event_type"),
        ({"event_id": None, "event_type": "T", "secret": "do not tell"}, "event_id"),
        ({"event_id": "x" * 256, "event_type": "T", "stream_id": "A", "secret": "do not tell"}, "event_id"),
        ({"event_id": "1", "event_type": "T", "secret": "do not tell"}, "stream_id"),
        ({"event_id": "1", "event_type": "T", "stream_id": "A", "sequence": "x", "secret": "do not tell"}, "sequence"),
    ],
    ids=["no id", "dict without id", "no type", "id None", "id too long", "no stream", "sequence no number"],
)
def test_an_event_that_lacks_something(bed: Bed, event: object, field: str) -> None:
    """The field is named, the payload is not told, and no handler is called."""
    guard, calls = bed.guard(), list[object]()
    bed.apart(guard, "P", calls.append, handles=None)
    before = snapshot(bed)
    with pytest.raises(EventError) as caught:
        guard.publish(event)
    sentence(caught, field)
    assert "do not tell" not in str(caught.value)
    assert calls == []
    assert snapshot(bed) == before


def test_a_mapping_that_names_what_is_not_there(sqlite_bed: Bed) -> None:
    """The name that was given is told."""
    guard = sqlite_bed.guard(mapping=EventMapping(event_id="number"))
    sqlite_bed.joined(guard, "P", noted("P"))
    with pytest.raises(EventError) as caught:
        guard.publish(happened("A", 1))
    sentence(caught, "number")


# -- asking


BY_NAME: list[Callable[[Any], Any]] = [
    lambda guard: guard.health("nobody"),
    lambda guard: guard.checkpoint("nobody"),
    lambda guard: guard.failures("nobody"),
    lambda guard: guard.streams("nobody"),
    lambda guard: guard.pause("nobody", actor="a"),
    lambda guard: guard.resume("nobody", actor="a"),
    lambda guard: guard.reset("nobody", actor="a"),
    lambda guard: guard.apply("nobody", happened("A", 1)),
]


@pytest.mark.parametrize("ask", BY_NAME)
def test_an_unknown_projection(bed: Bed, ask: Callable[[Any], Any]) -> None:
    """Those that are known are named."""
    guard = bed.guard()
    bed.joined(guard, "Known", noted("P"))
    with pytest.raises(UnknownProjection) as caught:
        ask(guard)
    sentence(caught, "'nobody'", "'Known'")
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, "10", 1.5, None])
@pytest.mark.parametrize("what", ["failures", "streams"])
def test_a_limit_that_cannot_be(bed: Bed, what: str, limit: Any) -> None:
    """The bounds are told."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    with pytest.raises(InvalidArgument) as caught:
        getattr(guard, what)("P", limit=limit)
    sentence(caught, "limit", "1", "1000")


@pytest.mark.parametrize("failure_id", ["no uuid", "", 7, None])
def test_a_failure_id_that_is_none(sqlite_bed: Bed, failure_id: Any) -> None:
    """It is unknown, whatever it is."""
    guard = sqlite_bed.guard()
    with pytest.raises((UnknownFailure, InvalidArgument)) as caught:
        guard.failure(failure_id)
    sentence(caught)


# -- the schema


@pytest.fixture
def bare_bed(request: pytest.FixtureRequest, bed: Bed) -> Bed:
    """A bed whose database has none of our tables."""
    for row in table_names(bed):
        bed.change(f"DROP TABLE {row}" + (" CASCADE" if bed.database == "postgresql" else ""))
    return bed


def table_names(bed: Bed) -> list[str]:
    """Name our tables as they are in the database."""
    return [name for name in inspect_database(bed.engine).get_table_names() if name.startswith("projection_")]


def test_an_unmigrated_schema(bare_bed: Bed) -> None:
    """It says what to run; no handler is called."""
    guard, calls = bare_bed.guard(), list[object]()
    bare_bed.apart(guard, "P", calls.append)
    for ask in (lambda: guard.publish(happened("A", 1)), lambda: guard.health("P"), guard.status):
        with pytest.raises(SchemaError) as caught:
            ask()
        sentence(caught, "guard.migrate()")
    assert calls == []
    guard.migrate()
    guard.publish(happened("A", 1))
    assert len(calls) == 1


def test_a_half_migrated_schema(bed: Bed) -> None:
    """The table that is gone is named; `migrate` does not paper over it."""
    bed.change("DROP TABLE projection_parked_events")
    guard, calls = bed.guard(), list[object]()
    bed.apart(guard, "P", calls.append)
    for ask in (lambda: guard.publish(happened("A", 1)), guard.migrate):
        with pytest.raises(SchemaError) as caught:
            ask()
        sentence(caught, "projection_parked_events")
    assert calls == []


# -- secrets

SECRET = "sEcr3t"


@pytest.mark.parametrize("make", [ProjectionGuard, AsyncProjectionGuard])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://user:{SECRET}@127.0.0.1:1/db",
        f"postgresql://user:{SECRET}@127.0.0.1:1/db",
        f"postgresql://user@127.0.0.1:1/db?password={SECRET}&sslpassword={SECRET}",
        f"oracle://user:{SECRET}@host/db",
        f"postgresql+pg8000://user:{SECRET}@host/db",
        f"postgresql://user:{SECRET}@host:port/db",
    ],
)
def test_no_password_is_told(make: Any, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither when the URL is refused nor when the server is not there: in no message, representation or log record."""
    told = list[str]()
    with caplog.at_level(logging.DEBUG, logger="projection_guard"):
        try:
            guard = make(url, worker="external")
            told.append(repr(guard))
            result = guard.migrate()
            if inspect.isawaitable(result):
                asyncio.run(_awaited(result))
        except ProjectionGuardError as error:
            told += [str(error), repr(error)]
    assert told
    assert SECRET not in " ".join(told) + caplog.text


async def _awaited(result: Any) -> None:
    await result


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    """The host is told, so that somebody can look; it is a `ConnectionError` too."""
    guard = ProjectionGuard(f"postgresql://user:{SECRET}@127.0.0.1:1/db", worker="external")
    guard.projection("P", handles=[Happened])(blocking_joined)
    with pytest.raises(StoreUnavailable) as caught:
        guard.publisher().publish(happened("A", 1))
    sentence(caught, "127.0.0.1")
    assert isinstance(caught.value, ConnectionError)
    guard.close()


def test_no_payload_is_logged(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged with its error's type and fingerprint, not with its text or its event."""
    guard = bed.guard()

    def fails(event: dict[str, Any]) -> None:
        raise ValueError(f"cannot read {event['card']}")

    bed.apart(guard, "P", fails, handles=None)
    with caplog.at_level(logging.DEBUG, logger="projection_guard"):
        guard.publish({"event_id": "1", "event_type": "Paid", "stream_id": "A", "card": SECRET})
        guard.work()
    assert "failed" in caplog.text
    assert SECRET not in caplog.text
    with bed.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM projection_failures")).scalar_one() == 1


# -- asking from within a handler


def test_a_joined_handler_on_sqlite_is_told_that_it_would_wait_for_itself(sqlite_bed: Bed) -> None:
    """Its failure says so at once, not after the minute for which anybody waits for the file's writer."""
    guard = sqlite_bed.guard()
    told: list[ProjectionGuardError] = []

    def asks(event: Happened, connection: Any) -> None:
        noted("P")(event, connection)
        for ask in asking:
            with pytest.raises(ConfigurationError) as caught:
                ask()
            sentence(caught, "SQLite", "one writer", "without connection=", "docs/handlers.md")
            told.append(caught.value)

    async def asks_awaiting(event: Happened, connection: Any) -> None:
        await connection.run_sync(lambda sync: noted("P")(event, sync))
        for ask in asking:
            with pytest.raises(ConfigurationError) as caught:
                await ask()
            told.append(caught.value)

    publish: Any = guard.real.publisher().publish
    asking: tuple[Callable[[], Any], ...] = (lambda: publish(happened("other", 1)), lambda: guard.real.health("P"))
    guard.real.projection("P", handles=[Happened])(asks_awaiting if sqlite_bed.is_async else asks)
    (outcome,) = guard.publish(happened("A", 1))
    assert (outcome.status, len(told)) == ("applied", 2)
    assert sqlite_bed.effects("P") == [("A", 1)]
    (outcome,) = guard.publish(happened("B", 1))  # nothing of it stays with whoever has called
    assert (outcome.status, len(told)) == ("applied", 4)


def test_on_a_workers_thread_it_is_told_so_as_well(sqlite_bed: Bed) -> None:
    """A retry is called on a thread that can be left behind."""
    guard = sqlite_bed.guard()
    publish, told = guard.real.publisher().publish, list[str]()

    def asks(event: Happened, connection: Any) -> None:
        if not told:
            told.append("the first time")
            raise ValueError
        with pytest.raises(ConfigurationError) as caught:
            publish(happened("other", 1))
        told.append(str(caught.value))
        noted("P")(event, connection)

    async def asks_awaiting(event: Happened, connection: Any) -> None:
        if not told:
            told.append("the first time")
            raise ValueError
        with pytest.raises(ConfigurationError) as caught:
            await publish(happened("other", 1))
        told.append(str(caught.value))
        await connection.run_sync(lambda sync: noted("P")(event, sync))

    guard.real.projection("P", handles=[Happened])(asks_awaiting if sqlite_bed.is_async else asks)
    guard.publish(happened("A", 1))
    guard.work()
    assert sqlite_bed.effects("P") == [("A", 1)]
    assert "one writer" in told[1]


def test_a_task_that_a_joined_handler_has_begun_may_wait_for_its_end(sqlite_url: str) -> None:
    """It is not the handler that waits."""

    async def run() -> list[str]:
        guard = AsyncProjectionGuard(sqlite_url, worker="external")
        publisher, tasks = guard.publisher(), []

        @guard.projection("P", handles=[Happened])
        async def follows_up(event: Happened, connection: Any) -> None:
            if event.stream_id == "A":
                tasks.append(asyncio.create_task(publisher.publish(happened("B", 1))))
                await asyncio.sleep(0)

        outcomes = [*await publisher.publish(happened("A", 1)), *await tasks[0]]
        await guard.close()
        return [outcome.status for outcome in outcomes]

    assert asyncio.run(run()) == ["applied", "applied"]


def test_a_handler_apart_may_publish_on_sqlite(sqlite_bed: Bed) -> None:
    """It runs between two transactions. So may a joined one on another file, or on PostgreSQL."""
    guard = sqlite_bed.guard()
    sqlite_bed.joined(guard, "Q", noted("Q"))
    publish = guard.real.publisher().publish

    async def awaits(event: object) -> None:
        del event
        await publish(happened("A", 1))

    def publishes(event: object) -> None:
        del event
        publish(happened("A", 1))

    guard.real.projection("P", handles=["Asked"])(awaits if sqlite_bed.is_async else publishes)
    (outcome,) = guard.publish({"event_id": "e-1", "event_type": "Asked", "stream_id": "A"})
    assert outcome.status == "applied"
    assert sqlite_bed.effects("Q") == [("A", 1)]
