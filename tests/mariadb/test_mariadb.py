"""What is other on MariaDB and MySQL, and has to come to the same."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from threading import Barrier, Thread, Timer
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from projection_guard import ConfigurationError, ProjectionGuard, SourceError, SqlEventSource
from projection_guard._io.engines import async_engine_for, engine_for
from projection_guard.cli._exits import Exit
from projection_guard.cli._main import main
from projection_guard.errors import DeliveryInterrupted, SchemaError, StoreUnavailable
from projection_guard.migrations import adopt, include_name, upgrade_sql
from tests.bed import Bed, Happened, happened, noted
from tests.faults.proxy import Proxy
from tests.faults.test_restart import terminate_all
from tests.following.logs import FollowedLog


@pytest.fixture(params=["blocking", "async"])
def mariadb_bed(request: pytest.FixtureRequest, mariadb_url: str) -> Iterator[Bed]:
    """Both ways of running the library, on MariaDB."""
    made = Bed(request.param, "mariadb", mariadb_url)
    yield made
    made.close()


def is_mariadb(engine: Engine) -> bool:
    """Return whether this is no MySQL."""
    with engine.connect() as connection:
        return "mariadb" in str(connection.scalar(text("SELECT lower(version())")))


def statuses(outcomes: Any) -> list[str]:
    """Return what became of an event."""
    return [outcome.status.value for outcome in outcomes]


def looked_at(bed: Bed, engine: Any, look: Callable[[Connection], Any]) -> Any:
    """Return what is seen on a connection of an engine, blocking or async; no longer than a minute."""

    async def look_async() -> Any:
        try:
            async with asyncio.timeout(60), engine.connect() as connection:
                return await connection.run_sync(look)
        finally:
            await engine.dispose()

    if bed.is_async:
        return bed.run(look_async())
    try:
        with engine.connect() as connection:
            return look(connection)
    finally:
        engine.dispose()


def engine_of(bed: Bed, url: str) -> Any:
    """Make an engine as a guard makes it."""
    return async_engine_for(url) if bed.is_async else engine_for(url)


@contextmanager
def closing_after(seconds: float, silent: socket.socket) -> Generator[None]:
    """Let a server end, so that who waits for its word is told."""
    timer = Timer(seconds, silent.close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a link's limits have these names on Linux")
def test_a_black_holed_link_ends_with_an_error_after_half_a_minute(mariadb_bed: Bed) -> None:
    """The drivers ask for keepalives only, which begin after two hours. What bounds the login is gone then."""
    names = "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"

    def limits(connection: Connection) -> list[object]:
        connection.execute(text("SELECT 1"))
        driver: Any = connection.connection.driver_connection
        link = driver._transport.get_extra_info("socket") if mariadb_bed.is_async else driver._sock
        set_there = [link.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        return [*set_there, driver._read_timeout if mariadb_bed.is_async else link.gettimeout()]

    assert looked_at(mariadb_bed, engine_of(mariadb_bed, mariadb_bed.url), limits) == [10, 5, 3, 30_000, None]


def test_a_statement_may_take_longer_than_a_login(mariadb_bed: Bed) -> None:
    """What it may take is the handler's `timeout`."""
    engine = engine_of(mariadb_bed, f"{mariadb_bed.url}?connect_timeout=2")
    assert looked_at(mariadb_bed, engine, lambda connection: connection.scalar(text("SELECT SLEEP(2.3)"))) == 0


def test_a_server_that_takes_a_connection_and_says_nothing_is_out_of_reach(mariadb_bed: Bed) -> None:
    """It was stopped, or is a balancer with nobody behind it: the login has the time that connecting has."""
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent, closing_after(40, silent):
        url = f"mysql+pymysql://root@127.0.0.1:{silent.getsockname()[1]}/x?connect_timeout=1"
        engine = engine_of(mariadb_bed, url)
        with pytest.raises(DBAPIError):
            looked_at(mariadb_bed, engine, lambda connection: None)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("sql", ["SET @a = 1", "SELECT 1", "SELECT 1 FROM projection_streams WHERE 1 = 0"])
def test_a_reply_that_is_lost_is_an_error_and_nobody_waits_for_it(mariadb_bed: Bed, sql: str) -> None:
    """The suite's proxy knows where each driver's answers end: asyncmy's rows end otherwise than PyMySQL's."""
    with Proxy(mariadb_bed.url) as proxy:

        def lose(connection: Connection) -> None:
            connection.execute(text(sql))
            proxy.swallow()
            with pytest.raises(DBAPIError):
                connection.execute(text(sql))

        looked_at(mariadb_bed, engine_of(mariadb_bed, proxy.url), lose)
        assert proxy.disarm()


def test_letters_count(mariadb_bed: Bed) -> None:
    """Ids that differ in case, accents or blanks at the end are different events of different streams."""
    guard = mariadb_bed.guard()
    mariadb_bed.joined(guard, "P", noted("P"))
    for stream in ("a", "A", "a ", "á"):
        assert statuses(guard.publish(happened(stream, 1))) == ["applied"]
        assert statuses(guard.publish(happened(stream, 1))) == ["duplicate"]
    assert [stream for stream, _ in mariadb_bed.effects("P")] == ["a", "A", "a ", "á"]


def test_letters_count_in_a_log_whose_collation_takes_them_for_the_same(mariadb_bed: Bed) -> None:
    """Its column's index finds `a#1` for `A#1`, too: an event by its id, and the events of a stream."""
    log = FollowedLog(mariadb_bed)
    mariadb_bed.change("ALTER TABLE log CONVERT TO CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    mariadb_bed.change("ALTER TABLE log DROP INDEX event_id")
    mariadb_bed.change("CREATE INDEX log_streams ON log (stream_id, sequence)")
    guard = log.guard()
    mariadb_bed.joined(guard, "P", noted("P"))
    log.append("é", "E", "e", "é")
    guard.catch_up("P")
    for stream, events in (("é", ["é#2", "é#1"]), ("E", ["E#1"]), ("e", ["e#1"]), ("ê", [])):
        history = guard.stream("P", stream)
        assert [(event.event_id, event.state) for event in history.page.items] == [(each, "applied") for each in events]
        assert history.log_is_read
    source = log.source()
    found = [mariadb_bed.run(source.get(each)) for each in ("é#1", "e#1", "ê#1")]
    assert [None if each is None else each.event.event_id for each in found] == ["é#1", "e#1", None]


def test_a_connection_of_a_log_that_has_died_in_the_pool_is_told_as_that_and_read_past(mariadb_bed: Bed) -> None:
    """Setting what it is to be read with says so first, past SQLAlchemy: not as an error of the source's own."""
    log = FollowedLog(mariadb_bed)
    log.append("A")
    source = log.source()
    assert [event.sequence for event in mariadb_bed.run(source.read(0, 10)).events] == [1]
    assert terminate_all(mariadb_bed) == 1
    with pytest.raises(SourceError, match="its database answered with OperationalError"):
        mariadb_bed.run(source.read(0, 10))
    assert [event.sequence for event in mariadb_bed.run(source.read(0, 10)).events] == [1]


@pytest.mark.parametrize(
    "deed", ["CREATE TABLE made (id int)", "/* now */ truncate table effects", "LOCK TABLES effects READ"]
)
@pytest.mark.parametrize("swallows", [True, False])
def test_a_handler_changes_no_schema(mariadb_bed: Bed, deed: str, swallows: bool) -> None:
    """It would commit its transaction half done; it is refused, also where the handler swallows that."""
    guard, is_bad = mariadb_bed.guard(), [True]

    def body(happened_: Happened, connection: Connection) -> None:
        noted("P")(happened_, connection)
        if is_bad[0]:
            try:
                connection.execute(text(deed))
            except Exception:
                if not swallows:
                    raise

    mariadb_bed.joined(guard, "P", body)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert mariadb_bed.effects("P") == []
    (failure,) = guard.failures("P").items
    assert failure.error_type.endswith("ConnectionRefusedToHandler")
    assert "half done" in failure.error_message
    is_bad[0] = False
    guard.work()
    assert mariadb_bed.effects("P") == [("A", 1)]


def test_a_deadlock_in_a_handler_is_nobodys_failure(mariadb_bed: Bed) -> None:
    """The server ends the transaction, and does not say so with the error: the delivery is done again."""
    mariadb_bed.change("INSERT INTO counted VALUES ('x', 0), ('y', 0)")
    guard, meeting, calls = mariadb_bed.guard(), Barrier(2), [0]

    def other() -> None:
        with mariadb_bed.engine.begin() as connection:
            # it has changed more, so InnoDB ends the other one
            connection.execute(
                text("INSERT INTO effects (projection, stream, n) VALUES ('O','o',1),('O','o',2),('O','o',3)")
            )
            connection.execute(
                text("INSERT INTO effects (projection, stream, n) SELECT projection, stream, n FROM effects")
            )
            connection.execute(text("UPDATE counted SET count = count + 1 WHERE stream = 'y'"))
            meeting.wait(30)
            connection.execute(text("UPDATE counted SET count = count + 1 WHERE stream = 'x'"))

    def body(event_: Happened, connection: Connection) -> None:
        calls[0] += 1
        connection.execute(text("UPDATE counted SET count = count + 1 WHERE stream = 'x'"))
        if calls[0] == 1:
            meeting.wait(30)
        connection.execute(text("UPDATE counted SET count = count + 1 WHERE stream = 'y'"))

    mariadb_bed.joined(guard, "P", body)
    thread = Thread(target=other)
    thread.start()
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]
    thread.join()
    assert calls == [2]
    assert guard.failures("P").items == ()
    assert mariadb_bed.count("x") == mariadb_bed.count("y") == 2


def test_a_connection_is_given_back_with_the_limits_it_came_with(mariadb_url: str) -> None:
    """The session is the host's; so is whether it commits by itself."""
    engine = create_engine(mariadb_url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)
    if not is_mariadb(engine):
        pytest.skip("MySQL has one of these limits only, and calls the isolation otherwise")
    engine.dispose()  # the connection that was asked has not been settled

    def settle(driver: Any, _: object) -> None:
        with driver.cursor() as cursor:
            cursor.execute("SET max_statement_time = 7, innodb_lock_wait_timeout = 8, idle_transaction_timeout = 9")

    event.listen(engine, "connect", settle)
    with ProjectionGuard(engine, worker="external") as guard:
        seen: list[Any] = []

        @guard.projection("P", handles=[Happened])
        def project(happened_: Happened, connection: Connection) -> None:
            seen.extend(connection.execute(text("SELECT @@max_statement_time, @@autocommit, @@tx_isolation")).one())

        guard.publisher().publish(happened("A", 1))
        asked = "SELECT @@max_statement_time, @@innodb_lock_wait_timeout, @@idle_transaction_timeout, @@autocommit"
        with engine.connect() as connection:
            assert tuple(connection.execute(text(asked)).one()) == (7, 8, 9, 1)
    assert seen[:2] == [60, 0]
    engine.dispose()


def test_the_tables_that_are_a_contract_show_their_columns_and_no_more(mariadb_bed: Bed) -> None:
    """The column that stands for a partial index is invisible; it keeps one open failure for an event."""
    numbers = {"projection_failures": 23, "projection_checkpoints": 8, "projection_health_metrics": 11}
    with mariadb_bed.engine.connect() as connection:
        for table, number in numbers.items():
            assert len(connection.execute(text(f"SELECT * FROM {table}")).keys()) == number
    guard = mariadb_bed.guard()

    def bad(event_: Happened, connection: Connection) -> None:
        raise ValueError

    mariadb_bed.joined(guard, "P", bad)
    guard.publish(happened("A", 1))
    columns = "event_id, event_type, projection_name, error_type, error_message, fingerprint, retry_count, max_retries"
    copied = (
        f"INSERT INTO projection_failures (id, {columns}, failed_at, created_at, updated_at, resolved_at) "
        f"SELECT :id, {columns}, failed_at, created_at, updated_at, :resolved FROM projection_failures LIMIT 1"
    )
    mariadb_bed.change(copied, id="1" * 32, resolved="2020-01-01")
    mariadb_bed.change(copied, id="2" * 32, resolved="2020-01-01")
    with pytest.raises(DBAPIError, match="uq_projection_failures_open"):
        mariadb_bed.change(copied, id="3" * 32, resolved=None)


def test_the_audit_log_is_append_only(mariadb_bed: Bed) -> None:
    """The database itself refuses to change or delete a row."""
    guard = mariadb_bed.guard()
    mariadb_bed.joined(guard, "P", noted("P"))
    guard.pause("P", actor="alice")
    for statement in ("UPDATE projection_audit_log SET actor = 'bob'", "DELETE FROM projection_audit_log"):
        with pytest.raises(DBAPIError, match="append-only"):
            mariadb_bed.change(statement)


def test_a_connection_that_is_killed_before_any_statement_changes_nothing_in_the_end(mariadb_bed: Bed) -> None:
    """In a delivery, a failure, a park, a retry and a drain: each effect is there once, in order."""
    bed, left, killed = mariadb_bed, [0], [0]
    guard, fails = bed.guard(), [False]

    def body(event_: Happened, connection: Connection) -> None:
        noted("P")(event_, connection)
        if fails[0] and event_.n == 2:
            raise ValueError

    def kill(connection: Connection, *_: object) -> None:
        left[0] -= 1
        driver: Any = connection.connection.driver_connection
        if left[0] == 0:
            killed[0] += 1
            with bed.engine.connect() as other:
                other.execute(text(f"KILL {driver.thread_id()}"))

    bed.joined(guard, "P", body)
    guard.health()
    event.listen(guard.real._sync_engine, "before_cursor_execute", kill)
    for place in range(1, 80, 4 if bed.is_async else 3):
        stream, left[0], fails[0] = f"S{place}", place, True
        for n in (1, 2, 3):
            for _ in range(2):  # whoever is told that it was interrupted delivers again, whoever is not may
                with suppress(StoreUnavailable, DeliveryInterrupted):
                    guard.publish(happened(stream, n))
        fails[0] = False
        for _ in range(20):
            bed.change("UPDATE projection_failures SET next_retry_at = created_at, lease_expires_at = NULL")
            guard.work()
            if bed.effects("P", stream) == [(stream, 1), (stream, 2), (stream, 3)] and not guard.failures("P").items:
                break
        assert bed.effects("P", stream) == [(stream, 1), (stream, 2), (stream, 3)], place
        assert bed.count(stream) == 3
    assert killed[0] > 15
    assert bed.value("SELECT active_failures FROM projection_health_metrics") == 0


@pytest.mark.parametrize("at", [3, 20, 60])
def test_an_upgrade_that_broke_off_goes_on_where_it_stopped(empty_mariadb_url: str, at: int) -> None:
    """Each statement commits by itself there; wherever it ends, it is run again."""
    engine = create_engine(empty_mariadb_url, poolclass=NullPool)
    left = [at]

    def break_off(*arguments: Any) -> None:
        if arguments[2].lstrip().upper().startswith(("CREATE", "ALTER", "INSERT", "DROP")):
            left[0] -= 1
            if left[0] == 0:
                raise OSError("the machine stopped")

    event.listen(engine, "before_cursor_execute", break_off)
    with ProjectionGuard(engine, worker="external") as guard:
        with pytest.raises(OSError, match="stopped"):
            guard.migrate()
        guard.migrate()
        guard.migrate()

        @guard.projection("P", handles=[Happened])
        def project(happened_: Happened, connection: Connection) -> None: ...

        assert statuses(guard.publisher().publish(happened("A", 1))) == ["applied"]


def test_what_cannot_be_done_there_is_refused_with_a_sentence(mariadb_url: str) -> None:
    """Nothing is tried half."""
    with pytest.raises(ConfigurationError, match="a schema is a database"):
        ProjectionGuard(mariadb_url, schema="other")
    with pytest.raises(ConfigurationError, match="in_order=True"):
        SqlEventSource(mariadb_url, "log")
    engine = create_engine(mariadb_url, poolclass=NullPool)
    with engine.begin() as connection, pytest.raises(SchemaError, match="cannot be adopted"):
        adopt(connection)


def test_a_read_model_is_not_built_beside_the_live_one(mariadb_bed: Bed) -> None:
    """The job ends with a sentence, and nothing has happened to the live one."""
    log = FollowedLog(mariadb_bed)
    guard = log.guard()
    mariadb_bed.joined(guard, "P", noted("P"), tables=["effects"])
    log.append("A", "B")
    guard.catch_up("P")
    job = guard.rebuild("P", into="next", actor="alice")
    assert (job.status, mariadb_bed.effects("P")) == ("failed", [("A", 1), ("B", 1)])
    assert "on MariaDB and MySQL no read model is built beside the live one" in job.error


def test_a_tracker_stays_as_it_is(empty_mariadb_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says why it does not adopt it, whether it is to look or to do it."""
    engine = create_engine(empty_mariadb_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE projection_failures (id int, event_id int, projection_name text)"))
    for yes in ([], ["--yes"]):
        assert main(["db", "adopt", "--database", empty_mariadb_url, "--actor", "alice", *yes]) == Exit.SCHEMA
        assert "on MariaDB or MySQL cannot be adopted" in capsys.readouterr().err
    assert set(inspect(engine).get_table_names()) == {"projection_failures"}


def test_the_sql_for_an_empty_database_makes_the_same_tables(empty_mariadb_url: str) -> None:
    """For people who run it by hand."""
    engine = create_engine(empty_mariadb_url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in upgrade_sql("mariadb" if is_mariadb(engine) else "mysql").split(";\n"):
            if statement.strip() and statement.strip() not in ("BEGIN", "COMMIT"):
                connection.exec_driver_sql(statement.replace("%", "%%"))
    with ProjectionGuard(engine, worker="external") as guard:
        guard.migrate()
        assert guard.health() == ()


def test_a_hosts_autogenerate_leaves_our_tables_alone() -> None:
    """Also the one that is only there."""
    assert not include_name("projection_generations", "table", {})
