"""What handlers do to the guard's transaction, and what they raise: each still gets its failure row.

Handlers are plain functions of a `Connection`; the bed runs them in both ways on both databases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, insert, text
from sqlalchemy.event import listen
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from tenacity import wait_fixed

from projection_guard import Failure, RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, async_url, effects, happened, noted
from tests.flow.acting import Planned, active_equals_open_rows, make_due, one_failure, states_of, statuses

HOURS = RetryPolicy(wait=wait_fixed(3600))
note = noted("P")
BAD = happened("A", 1)


def guard_with(
    bed: Bed, bad: Callable[[Happened, Connection], object], **options: Any
) -> tuple[GuardOnBed, list[bool]]:
    """Return a guard whose handler does something bad with A#1 while the list says so, and notes every event."""
    guard, is_bad = bed.guard(retry=HOURS), [True]

    def body(event: Happened, connection: Connection) -> None:
        note(event, connection)
        if is_bad[0] and event == BAD:
            bad(event, connection)

    bed.joined(guard, "P", body, **options)
    return guard, is_bad


def kept(bed: Bed, bad: Callable[[Happened, Connection], object], **options: Any) -> Failure:
    """Let it happen: nothing of A#1 stays but its failure, others go on, and it heals. Return the failure."""
    guard, is_bad = guard_with(bed, bad, **options)
    assert statuses(guard.publish(BAD)) == ["failed"]
    failure = one_failure(guard)
    assert bed.effects("P") == []
    assert statuses(guard.publish(happened("A", 2))) == ["parked"]
    assert statuses(guard.publish(happened("B", 1))) == ["applied"]
    make_due(bed)
    guard.work()  # retried in vain: the same holds for a retry
    assert one_failure(guard).retry_count == 1
    assert bed.effects("P") == [("B", 1)]
    is_bad[0] = False
    make_due(bed)
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied", "B#1": "applied"}
    assert (bed.effects("P", "A"), bed.count("A")) == ([("A", 1), ("A", 2)], 2)
    assert active_equals_open_rows(bed)
    assert guard.real._sync_engine.pool.checkedout() == 0
    return failure


# -- the transaction is the guard's


@pytest.mark.parametrize("deed", ["commit", "rollback", "close"])
@pytest.mark.parametrize("swallows", [False, True])
def test_a_handler_may_not_end_the_guards_transaction(bed: Bed, deed: str, swallows: bool) -> None:
    """It is refused with a clear error, and that is its failure, also where the handler swallows the refusal."""

    def bad(_: Happened, connection: Connection) -> None:
        try:
            getattr(connection, deed)()
        except Exception:
            if not swallows:
                raise

    failure = kept(bed, bad)
    assert failure.error_type.endswith("ConnectionRefusedToHandler")
    assert "begin_nested()" in failure.error_message


@pytest.mark.parametrize("statement", ["ROLLBACK", "COMMIT"])
def test_a_transaction_that_was_ended_with_raw_sql_is_never_reported_as_applied(bed: Bed, statement: str) -> None:
    """Past SQLAlchemy nobody can refuse it; the guard notices before it commits."""
    guard, _ = guard_with(bed, lambda _, connection: connection.exec_driver_sql(statement))
    assert statuses(guard.publish(BAD)) in (["failed"], ["applied"])
    applied = states_of(bed, "P").get("A#1") == "applied"
    assert (bed.effects("P") == [("A", 1)]) is applied, "applied on record, if and only if its effect is there"
    assert statement == "COMMIT" or not applied
    assert statuses(guard.publish(happened("B", 1))) == ["applied"]


def test_writing_on_after_a_raw_rollback_leaves_nothing(bed: Bed) -> None:
    """What comes after it is in no transaction of the guard's: it is not committed as if it were."""

    def bad(event: Happened, connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("BEGIN")
        note(event, connection)

    failure = kept(bed, bad)
    assert failure.error_type.endswith("HandlerLeftTransactionAborted")


def test_insert_or_rollback_ends_the_transaction_and_is_a_failure(sqlite_bed: Bed) -> None:
    """SQLite rolls everything back by itself, and the handler swallows that."""

    def bad(event: Happened, connection: Connection) -> None:
        connection.execute(text("INSERT INTO counted VALUES ('same', 1)"))
        try:
            connection.execute(text("INSERT OR ROLLBACK INTO counted VALUES ('same', 2)"))
        except SQLAlchemyError:
            return

    kept(sqlite_bed, bad)


def test_a_swallowed_error_that_aborted_the_transaction_is_a_failure(postgres_bed: Bed) -> None:
    """PostgreSQL would take the COMMIT for a rollback, silently; the message says what to do."""

    def bad(_: Happened, connection: Connection) -> None:
        try:
            connection.execute(text("SELECT 1 / 0"))
        except SQLAlchemyError:
            return

    failure = kept(postgres_bed, bad)
    assert failure.error_type.endswith("HandlerLeftTransactionAborted")
    assert "begin_nested()" in failure.error_message


def test_an_error_that_broke_the_transaction_keeps_its_own_name(bed: Bed) -> None:
    """The failure is what the database said of the handler's statement."""
    failure = kept(bed, lambda _, connection: connection.execute(text("SELECT * FROM nowhere")))
    assert "nowhere" in failure.error_message


def test_savepoints_of_the_handlers_own_work(bed: Bed) -> None:
    """A step that is undone, a step that stays."""

    def steps(event: Happened, connection: Connection) -> None:
        with connection.begin_nested():
            connection.execute(insert(effects).values(projection="P", stream="kept", n=event.n))
        step = connection.begin_nested()
        connection.execute(insert(effects).values(projection="P", stream="undone", n=event.n))
        step.rollback()

    guard = bed.guard()
    bed.joined(guard, "P", steps)
    assert statuses(guard.publish(BAD)) == ["applied"]
    assert bed.effects("P") == [("kept", 1)]


class _Model(DeclarativeBase):
    pass


class _Effect(_Model):
    __tablename__ = "effects"

    id: Mapped[int] = mapped_column(primary_key=True)
    projection: Mapped[str]
    stream: Mapped[str]
    n: Mapped[int]


@pytest.mark.parametrize("ends", ["flush", "commit"])
def test_a_session_on_the_guards_connection_works(bed: Bed, ends: str) -> None:
    """Whether the handler flushes it or commits it, the guard commits."""

    def orm(event: Happened, connection: Connection) -> None:
        with Session(bind=connection) as session:
            session.add(_Effect(projection="P", stream=event.stream_id, n=event.n))
            getattr(session, ends)()

    guard = bed.guard()
    bed.joined(guard, "P", orm)
    assert statuses(guard.publish(BAD)) == ["applied"]
    assert bed.effects("P") == [("A", 1)]


def test_an_error_inside_a_session_keeps_its_own_name(bed: Bed) -> None:
    """The session that tidies up after it is refused the rollback; the failure is what the handler meant."""

    def bad(event: Happened, connection: Connection) -> None:
        with Session(bind=connection) as session, session.begin():
            session.add(_Effect(projection="P", stream="of the session", n=event.n))
            session.flush()
            raise LookupError("what the handler meant")

    failure = kept(bed, bad)
    assert (failure.error_type, failure.error_message) == ("LookupError", "what the handler meant")


@pytest.fixture
def bed_with_foreign_keys(bed: Bed) -> Iterator[Bed]:
    """A bed on which foreign keys are kept; SQLite does so on request."""
    if bed.database == "mariadb":
        pytest.skip("MariaDB and MySQL check each foreign key at once")
    bed.change("CREATE TABLE parent (id int PRIMARY KEY)")
    bed.change("CREATE TABLE child (parent int REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)")
    if bed.database == "postgresql":
        yield bed
        return
    asynchronous = create_async_engine(async_url(bed.url))
    engine = asynchronous.sync_engine if bed.is_async else create_engine(bed.url)
    listen(engine, "connect", keep_foreign_keys)
    bed.url = asynchronous if bed.is_async else engine  # type: ignore[assignment]
    yield bed
    if not bed.is_async:
        engine.dispose()
    bed.run(asynchronous.dispose())


def keep_foreign_keys(driver: Any, _: object) -> None:
    """Let SQLite keep foreign keys on a new connection."""
    cursor = driver.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def test_a_deferred_constraint_that_fails_at_commit_is_the_handlers_failure(bed_with_foreign_keys: Bed) -> None:
    """The handler returned as if all was well; the database says no when the guard commits."""
    bed = bed_with_foreign_keys

    def bad(_: Happened, connection: Connection) -> None:
        connection.execute(text("INSERT INTO child VALUES (1)"))

    failure = kept(bed, bad)
    assert "foreign key" in failure.error_message.lower()
    assert bed.rows("SELECT 1 FROM child") == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_handler_may_set_the_search_path_of_its_transaction(postgres_bed: Bed, fails: bool) -> None:
    """A schema for each tenant: the guard's tables are found as before, in delivery, retry and drain."""
    bed = postgres_bed
    guard, broken = bed.guard(), [fails]

    def body(event: Happened, connection: Connection) -> None:
        note(event, connection)
        connection.exec_driver_sql("SET LOCAL search_path TO nowhere")
        if broken[0]:
            raise ValueError("after it was set")

    bed.joined(guard, "P", body)
    assert statuses(guard.publish(BAD)) == ["failed" if fails else "applied"]
    guard.publish(happened("A", 2))
    broken[0] = False
    bed.wait_until(lambda: guard.work() and len(bed.effects("P")) == 2)
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied"}


# -- what is raised


class Unspeakable(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("nobody asked")


HUGE = "start \0 \ud800 " + "x" * 5_000_000

RAISED: dict[str, Callable[[], BaseException]] = {
    "unspeakable": Unspeakable,
    "huge": lambda: ValueError(HUGE),
    "group": lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
}


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("what", RAISED)
def test_whatever_is_raised_gets_its_row(bed: Bed, kind: str, what: str) -> None:
    """An error whose text raises, 5 MB with NUL and a lone surrogate, a group: delivered, retried and healed."""
    guard, planned = bed.guard(retry=HOURS), Planned("P", "A#1", error=RAISED[what])
    planned.register(bed, guard, kind)
    assert statuses(guard.publish(BAD)) == ["failed"]
    make_due(bed)
    guard.work()
    failure = one_failure(guard)
    assert failure.error_type.rpartition(".")[2] == type(RAISED[what]()).__name__
    assert len(failure.error_message) < 100_000
    assert "\0" not in failure.error_message
    assert failure.error_message.startswith({"huge": "start ", "group": "several"}.get(what, ""))
    assert (failure.retry_count, len(guard.attempts(failure.id))) == (1, 2)
    planned.heal()
    make_due(bed)
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied"}


def _one_of_a_group(_: Happened, connection: Connection) -> None:
    own = LookupError("no such place")
    try:
        try:
            connection.execute(text("SELECT * FROM nowhere"))
        except SQLAlchemyError:
            raise ExceptionGroup("a task group's", [own]) from None
    except ExceptionGroup as group:
        raise group.exceptions[0]  # noqa: B904  # as many do: it came of a group in which it is


def test_an_error_that_was_taken_out_of_its_group_is_kept(bed: Bed) -> None:
    """It came of the group, and is in it: who looks for what the database said goes around once."""
    assert kept(bed, _one_of_a_group).error_message == "no such place"


def test_a_message_that_was_cut_says_so(bed: Bed) -> None:
    """Truncated and marked, in the message and in the traceback."""
    guard, planned = bed.guard(), Planned("P", "A#1", error=RAISED["huge"])
    planned.register(bed, guard, "joined")
    guard.publish(BAD)
    failure = one_failure(guard)
    assert "truncated" in failure.error_message
    assert failure.error_traceback is not None
    assert len(failure.error_traceback) < 200_000


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_process_is_nobodys_failure(bed: Bed, kind: str, error: type[BaseException]) -> None:
    """It goes through to the caller; nothing is written, the stream is free, delivered again the event is applied."""
    guard, planned = bed.guard(), Planned("P", "A#1", error=error)
    planned.register(bed, guard, kind)
    with pytest.raises(error):
        guard.publish(BAD)
    assert states_of(bed, "P") == {}
    assert guard.failures("P", include_resolved=True).items == ()
    planned.heal()
    assert statuses(guard.publish(BAD)) == ["applied"]
    assert guard.streams("P", state="tainted").items == ()
