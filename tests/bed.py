"""The bed on which the flow is tested: the same test runs blocking and async, on SQLite and PostgreSQL.

A test writes its handlers as plain functions of a SQLAlchemy `Connection` (or of the event alone) and calls the guard's
methods without `await`; the bed makes async handlers of them, and drives coroutines on a loop of its own, where needed.

    def test_something(bed):
        guard = bed.guard()
        bed.joined(guard, "P", body)           # body(event, connection)
        guard.publish(happened("A", 1))
        guard.work()                           # one round of a worker
        assert bed.effects("P") == [("A", 1)]
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    TextClause,
    create_engine,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import AsyncProjectionGuard, Outcome, ProjectionGuard, RetryPolicy
from tests.turns import IS_EVERY

__all__ = [
    "AT_ONCE",
    "TWO_WAYS",
    "Bed",
    "GuardOnBed",
    "Happened",
    "async_url",
    "counted",
    "database_of",
    "effects",
    "happened",
    "noted",
]

AT_ONCE = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(6))
"""The default policy without its waits: a retry is due as soon as it is planned."""

ASYNC_DRIVER = os.environ.get("PROJECTION_GUARD_ASYNC_DRIVER")
"""`asyncpg` runs every async bed on PostgreSQL with it, for whoever has the time."""

own = MetaData()
effects = Table(
    "effects",
    own,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("projection", String(50)),
    Column("stream", String(50)),
    Column("n", Integer),
)
counted = Table("counted", own, Column("stream", String(50), primary_key=True), Column("count", Integer))


@dataclass(frozen=True)
class Happened:
    """The event of these tests: the n-th of its stream."""

    event_id: str
    stream_id: str
    sequence: int | None
    n: int


def happened(stream: str, n: int, sequence: int | None = None, event_id: str | None = None) -> Happened:
    """Make the n-th event of a stream."""
    return Happened(event_id=event_id or f"{stream}#{n}", stream_id=stream, sequence=sequence, n=n)


def noted(name: str) -> Callable[[Happened, Connection], None]:
    """Return a joined handler that notes each event in `effects` and counts it (not idempotent: count + 1)."""

    def body(event: Happened, connection: Connection) -> None:
        connection.execute(insert(effects).values(projection=name, stream=event.stream_id, n=event.n))
        changed = connection.execute(
            text("UPDATE counted SET count = count + 1 WHERE stream = :stream"), {"stream": event.stream_id}
        )
        if changed.rowcount == 0:
            connection.execute(insert(counted).values(stream=event.stream_id, count=1))

    return body


class GuardOnBed:
    """A guard whose methods are called without `await`, in tests of both kinds."""

    def __init__(self, bed: Bed, guard: Any) -> None:
        self.bed = bed
        self.real = guard
        self.publisher = guard.publisher()

    def publish(self, event: object) -> tuple[Outcome, ...]:
        """Publish an event to all projections."""
        outcomes: tuple[Outcome, ...] = self.bed.run(self.publisher.publish(event))
        return outcomes

    def work(self, batch: int = 100) -> Any:
        """Do one round of a worker."""
        return self.bed.run(self.real.worker().run_once() if batch == 100 else self.real.worker(batch=batch).run_once())

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)
        if not callable(method):
            return method
        return lambda *args, **kwargs: self.bed.run(method(*args, **kwargs))


class Bed:
    """One way of running the library: blocking or async, on one database that is this test's own."""

    def __init__(
        self,
        kind: Literal["blocking", "async"],
        database: str,
        url: str,
        *,
        is_there: bool = False,
        driver: str | None = None,
    ) -> None:
        self.kind = kind
        self.database = database
        self.url = url
        self.driver = driver or ASYNC_DRIVER
        # beside others that write: SQLite's own five seconds are soon over on a machine that has other things to do
        patience = {"timeout": 60} if database == "sqlite" else {}
        self.engine: Engine = create_engine(url, connect_args=patience)
        self._runner = asyncio.Runner()
        self._guards: list[GuardOnBed] = []
        self._closing: list[Callable[[], Any]] = []
        if not is_there:
            own.create_all(self.engine)

    @property
    def guards_url(self) -> str:
        """What the guard is given: the async one on PostgreSQL another driver, where the run says so."""
        if self.is_async and self.database == "postgresql" and self.driver is not None and isinstance(self.url, str):
            url = make_url(self.url).set(drivername=f"postgresql+{self.driver}", query={"ssl": "disable"})
            return url.render_as_string(hide_password=False)
        return self.url

    @property
    def is_async(self) -> bool:
        """True on the async beds."""
        return self.kind == "async"

    def run(self, result: Any) -> Any:
        """Await a coroutine on the bed's loop; return anything else as it is."""
        if inspect.isawaitable(result):

            async def await_it() -> Any:
                return await result

            return self._runner.run(await_it())
        return result

    def guard(self, **options: Any) -> GuardOnBed:
        """Make a guard on this database; it has no worker of its own unless `worker="auto"` is said."""
        options.setdefault("worker", "external")
        options.setdefault("retry", AT_ONCE)
        kind = AsyncProjectionGuard if self.is_async else ProjectionGuard
        guard = GuardOnBed(self, kind(self.guards_url, **options))
        self._guards.append(guard)
        return guard

    def joined(self, guard: GuardOnBed, name: str, body: Callable[..., object], **options: Any) -> Any:
        """Register `body(event, connection)` as a joined projection."""
        options.setdefault("handles", [Happened])
        if not self.is_async:
            return guard.real.projection(name, **options)(body)

        async def handler(event: object, connection: AsyncConnection) -> None:
            await connection.run_sync(lambda sync: body(event, sync))

        return guard.real.projection(name, **options)(handler)

    def apart(self, guard: GuardOnBed, name: str, body: Callable[..., object], **options: Any) -> Any:
        """Register `body(event)` as an apart projection; on the async bed it is awaited on the loop."""
        options.setdefault("handles", [Happened])
        if not self.is_async:
            return guard.real.projection(name, **options)(body)

        async def handler(event: object) -> None:
            body(event)

        return guard.real.projection(name, **options)(handler)

    def effects(self, projection: str, stream: str | None = None) -> list[tuple[str, int]]:
        """Read what a joined handler noted, in the order in which it did."""
        statement = select(effects.c.stream, effects.c.n).where(effects.c.projection == projection)
        if stream is not None:
            statement = statement.where(effects.c.stream == stream)
        with self.engine.connect() as connection:
            return [(row.stream, row.n) for row in connection.execute(statement.order_by(effects.c.id))]

    def count(self, stream: str) -> int:
        """Read how often a stream's events were counted."""
        value = self.value("SELECT coalesce(max(count), 0) FROM counted WHERE stream = :stream", stream=stream)
        return int(value)

    def _text(self, sql: str) -> TextClause:
        """MariaDB takes some of our columns for words of its own."""
        return text(re.sub(r"\b(partition|cursor)\b", r"`\1`", sql) if self.database == "mariadb" else sql)

    def rows(self, sql: str, **parameters: object) -> list[Any]:
        """Look into the database past the library."""
        with self.engine.connect() as connection:
            return list(connection.execute(self._text(sql), parameters))

    def value(self, sql: str, **parameters: object) -> Any:
        """Look up one value past the library."""
        with self.engine.connect() as connection:
            return connection.execute(self._text(sql), parameters).scalar_one()

    def in_seconds(self, seconds: float) -> str:
        """Say in the database's SQL when its clock will have gone on by so much, in the form in which it is stored."""
        if self.database == "sqlite":
            return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '{seconds:+} seconds')"
        if self.database == "mariadb":
            return f"(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)"
        return f"(now() + interval '{seconds} seconds')"

    @property
    def sleeping(self) -> str:
        """A statement that takes a minute, or seconds of the processor's on SQLite, which cannot sleep."""
        if self.database == "sqlite":
            return (
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) "
                "SELECT count(*) FROM n"
            )
        return "SELECT SLEEP(60)" if self.database == "mariadb" else "SELECT pg_sleep(60)"

    def waiting(self) -> int:
        """Return how many sessions wait for a lock, on a server."""
        if self.database == "mariadb":
            self.value("SELECT sleep(0.11)")  # the server shows what it saw last to whoever looks again within 0.1 s
            return int(
                self.value(
                    "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
                    "ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()"
                )
            )
        return int(
            self.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )

    def change(self, sql: str, **parameters: object) -> int:
        """Change something past the library."""
        return int(self.past_the_library(lambda connection: connection.execute(self._text(sql), parameters).rowcount))

    def past_the_library(self, work: Callable[[Connection], Any]) -> Any:
        """Do something in a transaction, while an async guard's tasks go on: one of them may hold SQLite's lock."""

        def do() -> Any:
            with self.engine.begin() as connection:
                return work(connection)

        if not self.is_async or self._runner.get_loop().is_running():
            return do()
        return self.run(asyncio.to_thread(do))

    def wait_until(self, condition: Callable[[], object], *, within: float = 60.0) -> None:
        """Wait on a condition, giving an async guard's worker the loop meanwhile; fail when it does not come true."""
        end = time.monotonic() + within
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"waited {within:.0f} s in vain")
            self.run(asyncio.sleep(0.02)) if self.is_async else time.sleep(0.02)

    def end_loop(self) -> None:
        """End the loop, as `asyncio.run` does, and go on with another one."""
        self._runner.close()
        self._runner = asyncio.Runner()

    def begin_anew(self) -> None:
        """In a child of fork: use a loop and connections of its own; the parent's are kept, unused."""
        self._of_the_parent = (self._runner, self.engine.pool)
        self._runner = asyncio.Runner()
        self.engine.dispose(close=False)

    def on_close(self, close: Callable[[], Any]) -> None:
        """Close this too in the end."""
        self._closing.append(close)

    def close(self) -> None:
        """Stop everything."""
        for guard in self._guards:
            self.run(guard.real.close())
        for close in self._closing:
            self.run(close())
        self._runner.close()
        self.engine.dispose()


def prepare(url: str) -> None:
    """Make our tables and the bed's in the database from which each test's own is copied."""
    with ProjectionGuard(url, worker="external") as guard:
        guard.migrate()
    engine = create_engine(url)
    own.create_all(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with our tables and the bed's, made once a run."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    prepare(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A SQLite database of the test's own, with our tables."""
    path = tmp_path / f"{uuid4().hex[:8]}.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


BEDS = os.environ.get("PROJECTION_GUARD_BEDS", "sqlite,postgresql").split(",")
"""On which databases a test runs; `mariadb` is there for whoever has the time, but for `SLICE`."""
SLICE = frozenset(
    {
        "test_a_failed_event_holds_its_stream_only_and_heals_in_order",
        "test_publishers_of_two_guards_that_race_on_one_stream_lose_nothing",
        "test_an_event_delivered_again_is_answered_by_what_is_on_record_and_changes_nothing",
        "test_twenty_deliveries_of_one_event_at_once_apply_it_once",
        "test_a_paused_projection_parks_and_resumes_in_order",
        "test_pause_and_reset_wait_for_a_joined_handler_in_flight",
        "test_pause_and_reset_wait_for_an_apart_handler_in_flight",
        "test_pause_waits_for_a_retry_in_flight",
        "test_events_published_during_a_reset_survive_it",
        "test_skip_leaves_the_event_out_taints_the_stream_and_lets_it_flow",
        "test_the_taint_of_a_stream_ends_when_a_person_says_that_it_is_mended",
        "test_a_skip_and_the_end_of_a_taint_come_one_after_the_other",
        "test_of_two_resets_at_once_the_later_one_wins",
        "test_a_transaction_that_was_ended_with_raw_sql_is_never_reported_as_applied",
        "test_what_stands_in_the_log_is_applied_in_its_order",
        "test_a_commit_whose_reply_is_lost_is_reported_as_applied",
        "test_a_commit_that_never_arrived_is_a_failure_that_heals",
        "test_another_process_goes_on_where_one_was_killed_in_the_middle_of_a_handler",
    }
)
"""What stands for the suite on MariaDB in every run."""
_URLS = {"sqlite": "sqlite_url", "postgresql": "postgres_url", "mariadb": "mariadb_url"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Say on which databases a test runs that asks for any."""
    more = ["mariadb"] if metafunc.function.__name__ in SLICE and "mariadb" not in BEDS else []
    says_itself = any("database_url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "database_url" in metafunc.fixturenames and not says_itself:
        metafunc.parametrize("database_url", [*BEDS, *more], indirect=True, scope="function")
    if "server_url" in metafunc.fixturenames:
        servers = [each for each in BEDS if each != "sqlite"] or ["postgresql"]
        metafunc.parametrize("server_url", [*servers, *more], indirect=True, scope="function")


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of the test's own, with our tables: once SQLite, once PostgreSQL."""
    url: str = request.getfixturevalue(_URLS[request.param])
    return url


def async_url(url: str) -> str:
    """Return the URL of the same database for an async engine."""
    return url.replace("sqlite:", "sqlite+aiosqlite:").replace("+pymysql:", "+asyncmy:")


def database_of(url: str) -> str:
    """Return whose a URL is: `sqlite`, `postgresql` or `mariadb`."""
    name = url.partition(":")[0].partition("+")[0]
    return "mariadb" if name == "mysql" else name


@pytest.fixture(params=["blocking", "async"])
def bed(request: pytest.FixtureRequest, database_url: str) -> Iterator[Bed]:
    """The four ways of running the library, one after the other."""
    made = Bed(request.param, database_of(database_url), database_url)
    yield made
    made.close()


@pytest.fixture(params=["blocking", "async"])
def postgres_bed(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Bed]:
    """Both ways of running the library, on PostgreSQL."""
    made = Bed(request.param, "postgresql", postgres_url)
    yield made
    made.close()


@pytest.fixture
def server_url(request: pytest.FixtureRequest) -> str:
    """A database of the test's own on a server, where many write at a time."""
    url: str = request.getfixturevalue(_URLS[request.param])
    return url


@pytest.fixture(params=["blocking", "async"])
def server_bed(request: pytest.FixtureRequest, server_url: str) -> Iterator[Bed]:
    """Both ways of running the library, where many write at a time."""
    made = Bed(request.param, database_of(server_url), server_url)
    yield made
    made.close()


@pytest.fixture
def blocking_bed(database_url: str) -> Iterator[Bed]:
    """The blocking guard, on both databases."""
    made = Bed("blocking", database_of(database_url), database_url)
    yield made
    made.close()


@pytest.fixture
def async_bed(database_url: str) -> Iterator[Bed]:
    """The async guard, on both databases."""
    made = Bed("async", database_of(database_url), database_url)
    yield made
    made.close()


WAYS = [("blocking", "sqlite"), ("async", "postgresql"), ("blocking", "postgresql"), ("async", "sqlite")]
if "PROJECTION_GUARD_BEDS" in os.environ:
    WAYS = [(kind, database) for database in BEDS for kind in ("blocking", "async")]
TWO_WAYS = WAYS if IS_EVERY else WAYS[:2]
"""In two of them each guard and each database is there once; all four are for whoever has the time."""


@pytest.fixture(params=TWO_WAYS, ids="-".join)
def diagonal_bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """Two of the four ways: for what takes long."""
    kind, database = request.param
    made = Bed(kind, database, request.getfixturevalue(_URLS[database]))
    yield made
    made.close()


@pytest.fixture(params=["blocking", "async"])
def sqlite_bed(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Bed]:
    """Both ways of running the library, on SQLite: for rules in which no database takes part."""
    made = Bed(request.param, "sqlite", sqlite_url)
    yield made
    made.close()
