"""What a handler writes by Django's ORM is committed with the guard's bookkeeping, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from projection_guard import (
    ConfigurationError,
    OutcomeStatus,
    ProjectionGuard,
    RegistrationError,
    SqlEventSource,
)
from tests.bed import Happened, happened
from tests.following.logs import rebuilt
from tests.frameworks.conftest import Project, django_settings, use


def book() -> Any:
    """Return the models; they can be imported only once Django is set up."""
    from tests.frameworks.shelf import models

    return models


def shelve(event: Happened) -> None:
    """Count an event by the ORM: not idempotent."""
    found, _ = book().Book.objects.get_or_create(id=event.stream_id)
    found.count += 1
    found.save()
    book().Note.objects.create(book=found, n=event.n)


def notes(stream: str) -> list[int]:
    """Return what was noted of a stream, in order, by Django's own connection."""
    return list(book().Note.objects.filter(book_id=stream).order_by("id").values_list("n", flat=True))


def failed(guard: ProjectionGuard) -> list[tuple[str, str]]:
    """Return what is unresolved: events and errors."""
    return [(each.event_id, each.error_message) for each in guard.failures("P").items]


def test_what_a_handler_writes_is_there_with_the_record_of_it(project: Project) -> None:
    """Every kind of value is read back as Django's own connection does, in the handler and after it."""
    when = datetime(2026, 11, 26, 12, 0, 0, 123456, tzinfo=UTC)
    seen: list[Any] = []

    def handler(event: Happened) -> None:
        made = book().Book(id="A", seen_at=when, price=Decimal("12.50"), is_old=True, extra={"a": [1, None]})
        made.save()
        seen.append(book().Book.objects.get(id="A"))
        assert [each.id for each in book().Book.objects.filter(extra__a=[1, None]).iterator()] == ["A"]

    guard = project.guard()
    project.shelved(guard, handler)
    (outcome,) = guard.publisher().publish(happened("A", 1))
    assert outcome.status is OutcomeStatus.APPLIED, failed(guard)
    for found in (*seen, book().Book.objects.get(id="A")):
        assert (found.seen_at, found.price, found.is_old, found.extra) == (
            when,
            Decimal("12.50"),
            True,
            {"a": [1, None]},
        )
    (again,) = guard.publisher().publish(happened("A", 1))
    assert again.status is OutcomeStatus.DUPLICATE


def test_one_poison_event_in_a_hundred_streams_holds_up_its_own_stream_only(project: Project) -> None:
    """Nothing of what its handler wrote stays; the others go on; after the fix its stream is whole and in order."""
    poison = {("S7", 2)}

    def handler(event: Happened) -> None:
        shelve(event)
        if (event.stream_id, event.n) in poison:
            raise ValueError("poison")

    guard = project.guard()
    project.shelved(guard, handler)
    publisher = guard.publisher()
    for n in (1, 2, 3):
        for stream in range(100):
            publisher.publish(happened(f"S{stream}", n))
    assert notes("S7") == [1]
    assert book().Book.objects.get(id="S7").count == 1
    assert all(notes(f"S{stream}") == [1, 2, 3] for stream in range(100) if stream != 7)
    poison.clear()
    guard.worker().run_once()
    assert notes("S7") == [1, 2, 3]
    assert book().Book.objects.get(id="S7").count == 3
    assert failed(guard) == []


def test_a_batch_of_a_log_is_undone_whole_and_redone_one_by_one(project: Project) -> None:
    """Followed: many events in one transaction, by a worker's thread."""
    with project.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE log (sequence bigint PRIMARY KEY, event_id text, event_type text, stream_id text, n int)"
            )
        )
        for sequence in range(1, 41):
            values = {"s": sequence, "id": f"e{sequence}", "stream": f"S{sequence % 4}", "n": sequence}
            connection.execute(text("INSERT INTO log VALUES (:s, :id, 'Happened', :stream, :n)"), values)
    poison = {22}

    def handler(event: Happened) -> None:
        shelve(event)
        if event.n in poison:
            raise ValueError("poison")

    source = SqlEventSource(project.engine, "log", decode=rebuilt)
    guard = project.guard(source=source)
    project.shelved(guard, handler)
    guard.catch_up("P")
    assert notes("S2") == [2, 6, 10, 14, 18]
    assert notes("S1") == list(range(1, 41, 4))
    poison.clear()
    guard.worker().run_once()
    assert notes("S2") == list(range(2, 41, 4))
    source.close()


def test_a_verification_lets_the_orm_write_into_its_copy(project: Project) -> None:
    """Not into the live read model, which it compares: equal at first, drifted once somebody has changed it."""
    with project.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE log (sequence bigint PRIMARY KEY, event_id text, event_type text, stream_id text, n int)"
            )
        )
        connection.execute(text("INSERT INTO log VALUES (1, 'e1', 'Happened', 'A', 1), (2, 'e2', 'Happened', 'A', 2)"))

    def handler(event: Happened) -> None:
        found, _ = book().Book.objects.get_or_create(id=event.stream_id)
        book().Book.objects.filter(id=event.stream_id).update(count=found.count + 1)

    source = SqlEventSource(project.engine, "log", decode=rebuilt)
    guard = project.guard(source=source)
    project.shelved(guard, handler, tables=["shelf_book"])
    guard.catch_up("P")
    assert guard.verify("P", actor="Olga").drifted is False
    assert book().Book.objects.get(id="A").count == 2
    book().Book.objects.filter(id="A").update(count=7)
    assert guard.verify("P", actor="Olga").drifted is True
    assert book().Book.objects.get(id="A").count == 7
    source.close()


def test_what_the_process_was_killed_in_is_neither_written_nor_on_record(project: Project) -> None:
    """SIGKILL behind the ORM's writes: another process applies the event, once."""
    program = (
        "import os, signal, sys\n"
        "from tests.frameworks import test_django_orm as t\n"
        "from tests.frameworks.conftest import Project, use, django_settings\n"
        "from tests import django_project\n"
        "django_project.set_up()\n"
        "use(django_settings(sys.argv[1]))\n"
        "from projection_guard.django import engine, with_orm\n"
        "from projection_guard import ProjectionGuard\n"
        "guard = ProjectionGuard(engine(), worker='external')\n"
        "def handler(event):\n"
        "    t.shelve(event)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "guard.projection('P', handles=[t.Happened])(with_orm(handler))\n"
        "guard.publisher().publish(t.happened('A', 1))\n"
    )
    url = project.url.render_as_string(hide_password=False)
    ended = subprocess.run(
        [sys.executable, "-c", program, url], env=os.environ, check=False, timeout=120, capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert notes("A") == []
    guard = project.guard()
    project.shelved(guard, shelve)
    assert [each.status for each in guard.publisher().publish(happened("A", 1))] == [OutcomeStatus.APPLIED]
    assert notes("A") == [1]


def commits(event: Happened) -> None:
    """End the transaction."""
    from django.db import connection

    shelve(event)
    connection.commit()


def rolls_back(event: Happened) -> None:
    """End it by the driver's own connection, past Django's checks."""
    from django.db import connection

    shelve(event)
    connection.connection.rollback()


def closes(event: Happened) -> None:
    """Close the connection."""
    from django.db import connection

    shelve(event)
    connection.close()


def switches(event: Happened) -> None:
    """Ask for autocommit."""
    from django.db import transaction

    shelve(event)
    transaction.set_autocommit(True)


def promises(event: Happened) -> None:
    """Ask for something after the commit."""
    from django.db import transaction

    shelve(event)
    transaction.on_commit(lambda: None)


def lasts(event: Happened) -> None:
    """Ask for a commit of its own."""
    from django.db import transaction

    with transaction.atomic(durable=True):
        shelve(event)


def goes_on(event: Happened) -> None:
    """Swallow an error that has left the transaction to be rolled back."""
    from django.db import transaction

    shelve(event)
    try:
        with transaction.atomic(savepoint=False):
            raise KeyError
    except KeyError:
        return


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (commits, "atomic"),
        (rolls_back, "must not roll back"),
        (closes, "must not close"),
        (switches, "atomic"),
        (promises, "transaction.on_commit() is refused"),
        (lasts, "durable"),
        (goes_on, "asked for a rollback"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_would_end_the_transaction_is_refused(project: Project, handler: Any, told: str) -> None:
    """It is the handler's failure, says what to do, and leaves nothing written."""
    guard = project.guard()
    project.shelved(guard, handler)
    (outcome,) = guard.publisher().publish(happened("A", 1))
    assert outcome.status is OutcomeStatus.FAILED
    ((_, message),) = failed(guard)
    assert told in message
    assert notes("A") == []


def test_steps_of_its_own_are_savepoints(project: Project) -> None:
    """`atomic()` undoes its block only; `close_old_connections()`, which workers' code likes to call, does nothing."""
    from django.db import IntegrityError, close_old_connections, transaction

    def twice() -> None:
        book().Note.objects.create(book_id="A", n=99)
        book().Book.objects.create(id="A")

    def handler(event: Happened) -> None:
        close_old_connections()
        shelve(event)
        with pytest.raises(IntegrityError), transaction.atomic():
            twice()
        close_old_connections()

    guard = project.guard()
    project.shelved(guard, handler)
    (outcome,) = guard.publisher().publish(happened("A", 1))
    assert outcome.status is OutcomeStatus.APPLIED, failed(guard)
    assert notes("A") == [1]


def test_a_broken_foreign_key_is_the_handlers_failure(project: Project) -> None:
    """Django defers them to the commit, on both databases: by then it is still the handler that failed."""
    guard = project.guard()
    project.shelved(guard, lambda event: book().Note.objects.create(book_id="nobody", n=1) and None)
    (outcome,) = guard.publisher().publish(happened("A", 1))
    assert outcome.status is OutcomeStatus.FAILED
    assert book().Note.objects.count() == 0


def test_a_view_publishes_once_its_own_transaction_is_committed(project: Project) -> None:
    """By `transaction.on_commit`, on Django's own connection, which the handler's leaves as it was."""
    from django.db import connection, transaction

    guard = project.guard()
    project.shelved(guard, shelve)
    publisher = guard.publisher()
    with transaction.atomic():
        book().Book.objects.create(id="B")
        transaction.on_commit(lambda: publisher.publish(happened("B", 1)))
    with pytest.raises(KeyError), transaction.atomic():  # noqa: PT012
        transaction.on_commit(lambda: publisher.publish(happened("B", 2)))
        raise KeyError
    assert notes("B") == [1]
    assert connection.in_atomic_block is False
    assert connection.get_autocommit() is True


def test_a_handler_may_use_both_and_methods_and_on_reset_too(project: Project) -> None:
    """The connection that it is given, where it has a parameter of that name, and the ORM are one transaction."""
    from projection_guard.django import with_orm

    class Shelf:
        def handles(self) -> list[type]:
            return [Happened]

        @with_orm
        def handle(self, event: Happened, connection: Any) -> None:
            shelve(event)
            found = connection.execute(text("SELECT count(*) FROM shelf_note")).scalar_one()
            book().Book.objects.filter(id=event.stream_id).update(extra={"notes": found})

    @with_orm
    def clear() -> None:
        book().Note.objects.all().delete()

    guard = project.guard()
    guard.register(Shelf(), "P", on_reset=clear)
    guard.publisher().publish(happened("A", 1))
    assert book().Book.objects.get(id="A").extra == {"notes": 1}
    guard.reset("P", actor="Olga")
    assert notes("A") == []


def test_the_database_is_the_one_that_the_settings_name_when_it_connects(project: Project, tmp_path: Any) -> None:
    """So a guard that is made when a module is imported works on the test database of Django's runner."""
    from django.db import connections

    from projection_guard.django import engine

    settings = connections["default"].settings_dict
    assert engine() is engine("default") is engine(alias="default") is project.engine, "each has a pool"
    if project.vendor == "sqlite":
        settings["NAME"] = str(tmp_path / "another.db")
        with engine().connect() as connection:
            assert str(tmp_path) in connection.execute(text("PRAGMA database_list")).all()[0][2]
        return
    project.engine.dispose()
    settings["NAME"] = "postgres"
    with engine().connect() as connection:
        assert connection.execute(text("SELECT current_database()")).scalar_one() == "postgres"
        assert connection.execute(text("SHOW TimeZone")).scalar_one() == "UTC"


def test_what_cannot_be_joined_is_refused_with_what_to_do(sqlite_url: str) -> None:
    """An async handler, a guard on another engine, a database in memory."""
    project = Project(sqlite_url)
    from projection_guard.django import engine, with_orm

    async def handler(event: Happened) -> None: ...

    with pytest.raises(RegistrationError, match="async ORM works in another thread"):
        with_orm(handler)
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        guard.projection("P", handles=[Happened])(with_orm(shelve))
        guard.publisher().publish(happened("A", 1))
        assert "projection_guard.django.engine()" in failed(guard)[0][1]
    project.close()
    use({"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"})
    with pytest.raises(ConfigurationError, match="is in memory"):
        engine()
    use(django_settings(sqlite_url))
