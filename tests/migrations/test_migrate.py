"""`guard.migrate()`: safe at every start, by any number at once, whatever breaks, and beside anybody's Alembic."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any, Literal

import alembic.op
import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError

from projection_guard import AsyncProjectionGuard, ProjectionGuard, SchemaError, _schema
from projection_guard._tables import table_names
from projection_guard.migrations import VERSION_TABLE, _place
from tests.migrations.conftest import ours_in

Kind = Literal["blocking", "async"]


def migrate(url: str, kind: Kind = "blocking", schema: str | None = None) -> None:
    """Migrate as an application does, and have the guard meet the database afterwards."""
    if kind == "blocking":
        with ProjectionGuard(url, worker="external", schema=schema) as guard:
            guard.migrate()
        with ProjectionGuard(url, worker="external", schema=schema) as guard:
            guard.health()
        return

    async def in_a_loop() -> None:
        async with AsyncProjectionGuard(url, worker="external", schema=schema) as guard:
            await guard.migrate()
        async with AsyncProjectionGuard(url, worker="external", schema=schema) as guard:
            await guard.health()

    asyncio.run(in_a_loop())


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_both_guards_migrate_as_often_as_they_like(empty_url: str, engine: Engine, kind: Kind) -> None:
    """The first call makes everything, the next ones change nothing."""
    migrate(empty_url, kind)
    migrate(empty_url, kind)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).all()
    assert len(rows) == 1
    assert ours_in(engine) == table_names


def _one_of_many(url: str, barrier: Barrier, outcomes: Any) -> None:
    try:
        with ProjectionGuard(url, worker="external") as guard:
            barrier.wait(60)
            guard.migrate()
            guard.health()
        outcomes.put("")
    except Exception as error:
        outcomes.put(f"{type(error).__name__}: {error}")


@pytest.mark.slow
def test_six_processes_may_migrate_at_once(empty_url: str, engine: Engine) -> None:
    """They wait for each other; each of them can work afterwards."""
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(6), context.Queue()
    processes = [context.Process(target=_one_of_many, args=(empty_url, barrier, outcomes)) for _ in range(6)]
    for process in processes:
        process.start()
    assert [outcomes.get(timeout=90) for _ in processes] == [""] * 6
    for process in processes:
        process.join(30)
    assert ours_in(engine) == table_names


def test_threads_may_migrate_at_once(empty_url: str, engine: Engine) -> None:
    """Alembic's globals, of which a process has one set, are not used."""
    barrier, errors = threading.Barrier(4), list[BaseException]()

    def one() -> None:
        try:
            with ProjectionGuard(empty_url, worker="external") as guard:
                barrier.wait(30)
                guard.migrate()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert ours_in(engine) == table_names


class Boom(Exception):
    """What breaks a migration."""


class Trap:
    """Has something happen before the n-th statement that makes or writes."""

    def __init__(self, engine: Engine, at: int, does: Callable[[], object]) -> None:
        self.reached, self.at, self.does = 0, at, does
        event.listen(engine, "before_cursor_execute", self._before)

    def _before(self, *words: Any) -> None:
        if str(words[2]).lstrip().startswith(("CREATE", "INSERT")):
            self.reached += 1
            if self.reached == self.at:
                self.does()


def _boom() -> None:
    raise Boom


def test_an_error_at_any_statement_leaves_nothing(engine: Engine) -> None:
    """Whichever statement fails, the transaction takes the others with it, and the next call works."""
    trap = Trap(engine, 0, _boom)
    while trap.at < 100:
        trap.at, trap.reached = trap.at + 1, 0
        with ProjectionGuard(engine, worker="external") as guard:
            try:
                guard.migrate()
                break
            except Boom:
                assert inspect(engine).get_table_names() == []
    assert trap.reached == trap.at - 1 > 25
    migrate(engine.url.render_as_string(hide_password=False))


def _killed_at(url: str, number: int) -> None:
    engine = create_engine(url)
    Trap(engine, number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    with ProjectionGuard(engine, worker="external") as guard:
        guard.migrate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 14, 25])
def test_a_process_killed_in_the_middle_leaves_nothing(empty_url: str, engine: Engine, number: int) -> None:
    """After SIGKILL the database is as before, the guard says so, and the next `migrate` works."""
    process = multiprocessing.get_context("spawn").Process(target=_killed_at, args=(empty_url, number))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with ProjectionGuard(empty_url, worker="external") as guard:
        guard.register(_Nothing())
        with pytest.raises(SchemaError, match=r"tables are not in the database; run guard\.migrate\(\)"):
            guard.health()
        guard.migrate()
        guard.health()
    assert ours_in(engine) == table_names


class _Nothing:
    """A projection that is there."""

    def handle(self, event: dict[str, object], connection: Connection) -> None:
        """Do nothing."""


LEVELS = ["READ COMMITTED", "AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.mark.parametrize("level", LEVELS)
def test_the_hosts_isolation_level_is_of_no_consequence(empty_postgres_url: str, level: str) -> None:
    """Half a migration is never to be seen, and one who waited for the lock sees what was done meanwhile."""
    engine = create_engine(empty_postgres_url, isolation_level=level)
    trap = Trap(engine, 20, _boom)
    with pytest.raises(Boom), engine.begin() as connection:
        _schema.migrate(connection)
    assert ours_in(engine) == set()
    trap.at = 0
    with engine.connect() as first, first.begin(), ThreadPoolExecutor() as pool:
        _schema.migrate(first)
        second = pool.submit(migrate_on, engine)
        wait_for_a_waiter(empty_postgres_url)
        first.commit()
        second.result(60)
    assert ours_in(engine) == table_names
    with ProjectionGuard(engine, worker="external") as guard:
        guard.migrate()
        guard.health()
    engine.dispose()


def migrate_on(engine: Engine) -> None:
    """Migrate in a transaction of the host's."""
    with engine.begin() as connection:
        _schema.migrate(connection)


def wait_for_a_waiter(url: str) -> None:
    """Return once somebody waits for an advisory lock, in this database and not in another test's."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    end = time.monotonic() + 30
    with engine.connect() as connection:
        while not connection.scalar(text(waiting)):
            assert time.monotonic() < end, "nobody waits"
    engine.dispose()


def test_a_driver_that_begins_nothing_by_itself_is_made_to(engine: Engine) -> None:
    """SQLite's driver begins no transaction before DDL; it is all or nothing all the same."""
    trap = Trap(engine, 20, _boom)
    with pytest.raises(Boom):
        migrate_on(engine)
    assert inspect(engine).get_table_names() == []
    trap.at = 0
    migrate_on(engine)
    assert ours_in(engine) == table_names


def test_a_host_that_is_migrating_itself_is_not_disturbed(engine: Engine, empty_url: str) -> None:
    """Called from within a host's own migration, it leaves the host's `alembic.op` as it was."""
    elsewhere = create_engine("sqlite://")
    with elsewhere.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        migrate(empty_url)
        alembic.op.execute("CREATE TABLE hosts (id INTEGER)")
        assert inspect(connection).get_table_names() == ["hosts"]
    elsewhere.dispose()
    assert ours_in(engine) == table_names


def test_it_is_quiet(empty_url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is printed, no logger is reconfigured, and nothing is logged that asks for attention."""
    before = [(name, logging.getLogger(name).level, logging.getLogger(name).handlers[:]) for name in ("", "alembic")]
    migrate(empty_url)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    after = [(name, logging.getLogger(name).level, logging.getLogger(name).handlers[:]) for name in ("", "alembic")]
    assert before == after


def test_a_wait_without_end_ends_with_a_sentence(empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who holds the lock and goes on working is waited for two minutes (here: a second)."""
    monkeypatch.setattr(_place, "_LONGEST_WAIT_SECONDS", 1)
    engine = create_engine(empty_postgres_url)
    with engine.begin() as holder, ProjectionGuard(engine, worker="external") as guard:
        _place.enter(holder, None)
        with pytest.raises(SchemaError, match="nothing was changed: canceling statement due to lock timeout"):
            guard.migrate()
    engine.dispose()


def test_one_who_was_stopped_in_the_middle_is_outlasted(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction ends after a minute (here: a second), and the next process migrates."""
    engine = create_engine(empty_postgres_url)
    stopped = engine.connect()
    stopped.begin()
    with monkeypatch.context() as for_the_stopped_one:  # the next one may take its time
        for_the_stopped_one.setattr(_place, "_LONGEST_PAUSE_SECONDS", 1)
        _place.enter(stopped, None)
    migrate(empty_postgres_url)
    with pytest.raises(DBAPIError, match="idle-in-transaction timeout"):
        stopped.execute(text("SELECT 1"))
    stopped.invalidate()
    stopped.close()
    engine.dispose()
