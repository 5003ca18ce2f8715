"""What no handler should do, in every way in which an event reaches one: it is a failure, and it heals in order.

The table of docs/handlers.md says the same. All cases of a way are met in one database, each by a stream of its own.
In CI the beds share them out; each of them meets all with PROJECTION_GUARD_FAULTS=every in the environment.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import cast

import psycopg
import pytest
from sqlalchemy import Connection, make_url, text

from projection_guard import RegistrationError
from tests.bed import Bed, Happened
from tests.faults.hard import (
    CASES,
    HANGS,
    INTERRUPTED,
    JOINED,
    NAME,
    POSTGRESQL,
    RETURNED,
    WAYS,
    Deed,
    Hard,
    Kind,
    on_a_thread_of_its_own,
    share_of,
)

KEPT = {
    "group": "ExceptionGroup",
    "permanent in a group": "ExceptionGroup",
    "group of lost connections": "ExceptionGroup",
    "cancelled in a group": "ExceptionGroup",
    "StopIteration": "RuntimeError",
    "GeneratorExit": "HandlerCancelled",
    "MemoryError": "MemoryError",
    **dict.fromkeys(RETURNED, "RegistrationError"),
    "recursion": "RecursionError",
    **dict.fromkeys(INTERRUPTED, "HandlerCancelled"),
    **dict.fromkeys(JOINED, "ConnectionRefusedToHandler"),
    **dict.fromkeys(POSTGRESQL, "HandlerLeftTransactionAborted"),
}
KINDS = pytest.mark.parametrize("kind", ["joined", "apart", "thread"])


def skip_what_is_not(bed: Bed, kind: Kind, way: str) -> None:
    """Skip what there is not."""
    if kind == "thread" and not bed.is_async:
        pytest.skip("a blocking guard calls a plain function as it is")
    if way == "beside" and kind != "joined":
        pytest.skip("what writes elsewhere is not built beside")


def deeds_of(bed: Bed, kind: Kind, way: str) -> dict[str, Deed]:
    """Return the cases that this kind of handler can be, on this database."""
    deeds, of = CASES | (JOINED if kind == "joined" else {}), beds_with(kind)
    share = share_of(bed, way, kind, of=of)
    if share is not None:
        deeds = {name: deeds[name] for name in list(deeds)[share::of]}
    if kind == "joined" and bed.database == "postgresql":  # what not every bed has is no part of the shares
        deeds |= POSTGRESQL
    if on_a_thread_of_its_own(bed, kind, way):
        deeds |= INTERRUPTED
    return deeds


def beds_with(kind: Kind) -> int:
    """Return how many beds have such handlers: only the async ones give a plain function a thread."""
    return 2 if kind == "thread" else 4


@dataclass(frozen=True)
class Place:
    """What of a bed decides on its share."""

    is_async: bool
    database: str


@KINDS
@pytest.mark.parametrize("way", WAYS)
def test_in_ci_the_beds_have_every_case_together(way: str, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that each bed leaves to another one is met by nobody; and one of them meets the hang."""
    beds = [cast("Bed", Place(*place)) for place in product([False, True], ["sqlite", "postgresql"])]
    beds = [bed for bed in beds if bed.is_async or kind != "thread"]
    monkeypatch.setenv("PROJECTION_GUARD_FAULTS", "every")
    every = {case for bed in beds for case in deeds_of(bed, kind, way)}
    monkeypatch.delenv("PROJECTION_GUARD_FAULTS")
    assert {case for bed in beds for case in deeds_of(bed, kind, way)} == every
    assert [share_of(bed, way, kind, of=beds_with(kind)) for bed in beds].count(0) == 1


@KINDS
@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_handler_does_is_its_failure(bed: Bed, way: str, kind: Kind) -> None:
    """In whichever way the event came; its stream waits, the others go on, and once it is well all is applied."""
    skip_what_is_not(bed, kind, way)
    hard = Hard(bed, kind, way, deeds_of(bed, kind, way))
    hard.meet()
    assert hard.errors() == {case: KEPT[case] for case in hard.deeds}
    assert hard.states() == {f"{case}#{n}": state for case in hard.deeds for n, state in ((1, "failed"), (2, "parked"))}
    due = {case: failure.next_retry_at is not None for case, failure in hard.failures().items()}
    assert due == {case: case != "permanent in a group" for case in hard.deeds}
    hard.heal()


@KINDS
@pytest.mark.parametrize("way", WAYS)
def test_one_that_hangs_for_ever_is_ended_or_left_behind(bed: Bed, way: str, kind: Kind) -> None:
    """At its projection's timeout; its connection is thrown away, so that what it still does has no effect."""
    skip_what_is_not(bed, kind, way)
    if not bed.is_async and way == "deliver":
        pytest.skip("nobody can end it on the publisher's own thread")
    if share_of(bed, way, kind, of=beds_with(kind)) not in (0, None):
        pytest.skip("in CI one of the beds does it")
    hard = Hard(bed, kind, way, {"hangs": lambda _: HANGS}, timeout=0.8)
    hard.meet()
    assert hard.errors()["hangs"] == "HandlerTimeout"
    assert hard.states() == {"hangs#1": "failed", "hangs#2": "parked"}
    hard.go_on.set()
    is_left = on_a_thread_of_its_own(bed, kind, way)
    bed.wait_until(lambda: bool(hard.late) is is_left)
    if kind == "joined":
        assert all(isinstance(outcome, Exception) for outcome in hard.late)
    hard.heal(tainted=("hangs",) if is_left and kind != "joined" else ())


class Rival:
    """Another connection that takes two rows in the other order, and waits for them as long as it takes."""

    def __init__(self, bed: Bed) -> None:
        bed.change("CREATE TABLE account (name text PRIMARY KEY)")
        bed.change("INSERT INTO account VALUES ('a'), ('b')")
        self._url = make_url(bed.url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._holds_b, self._may_wait = threading.Event(), threading.Event()
        self.deadlocks = 0
        self._process = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute("SET deadlock_timeout = '1h'")  # so the other one is broken off
            self._process = connection.info.backend_pid
            connection.execute("SELECT 1 FROM account WHERE name = 'b' FOR UPDATE")
            self._holds_b.set()
            assert self._may_wait.wait(60)
            connection.execute("SELECT 1 FROM account WHERE name = 'a' FOR UPDATE")

    def meet(self, connection: Connection | None) -> None:
        """Take the rows, the first time in a deadlock."""
        assert connection is not None
        if self.deadlocks:
            self._thread.join(60)
            return
        self._thread.start()
        assert self._holds_b.wait(60)
        connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
        connection.execute(text("SELECT 1 FROM account WHERE name = 'a' FOR UPDATE"))
        self._may_wait.set()
        waits = text("SELECT count(*) FROM pg_locks WHERE pid = :pid AND NOT granted")
        while not connection.execute(waits, {"pid": self._process}).scalar_one():
            pass
        self.deadlocks += 1
        connection.execute(text("SELECT 1 FROM account WHERE name = 'b' FOR UPDATE"))


def fails_once(sqlstate: str) -> Callable[[Connection | None], None]:
    """Return what the server breaks off the first time."""
    calls: list[int] = []

    def meet(connection: Connection | None) -> None:
        assert connection is not None
        calls.append(1)
        if len(calls) == 1:
            connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '{sqlstate}'; END $$"))

    return meet


@pytest.mark.parametrize("way", WAYS)
def test_what_the_server_breaks_off_is_done_again_and_nobodys_attempt(postgres_bed: Bed, way: str) -> None:
    """A real deadlock with another connection, and a serialisation failure."""
    bed = postgres_bed
    if share_of(bed, way, "joined", of=4) not in (0, 1, None):
        pytest.skip("in CI one of the two guards does it")
    rival = Rival(bed)
    hard = Hard(bed, "joined", way, {"deadlock": rival.meet, "serialisation": fails_once("40001")})
    hard.meet()
    assert rival.deadlocks == 1
    assert hard.calls.count("deadlock#1") >= 2
    assert hard.failures() == {}
    hard.guard.work()
    told = bed.rows("SELECT DISTINCT error_type FROM projection_failures")
    assert [row.error_type for row in told] == (["LookupError"] if way == "retry" else [])
    attempts = bed.rows("SELECT error_type FROM projection_attempts WHERE error_type NOT LIKE '%LookupError'")
    assert attempts == []
    hard.heal()


@pytest.mark.parametrize("way", ["retry", "drain", "follow", "replay"])
def test_there_is_an_end_to_doing_it_again(postgres_bed: Bed, way: str) -> None:
    """Where the server breaks it off each time, that is the handler's failure after all, and one attempt."""
    bed, calls = postgres_bed, list[int]()

    def always(connection: Connection | None) -> None:
        assert connection is not None
        calls.append(1)
        connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"))

    if share_of(bed, way, "joined", of=4) not in (0, 1, None):
        pytest.skip("in CI one of the two guards does it")
    hard = Hard(bed, "joined", way, {"again": always})
    hard.meet()
    failure = hard.failures()["again"]
    assert hard.errors() == {"again": "SerializationFailure"}
    assert failure.retry_count == (way == "retry")  # a drained event meets its handler for the first time
    assert 2 <= len(calls) <= 50
    assert len(hard.guard.attempts(failure.id)) == 1 + (way == "retry")
    assert bed.effects(NAME, "well") == [("well", 1), ("well", 2)]
    hard.heal()


def test_what_can_never_do_its_work_is_refused_when_it_is_registered(sqlite_bed: Bed) -> None:
    """A handler with a yield in it, and a predicate that is a coroutine: every event would be taken."""
    guard = sqlite_bed.guard()

    def yields(event: object) -> Iterator[None]:
        yield

    async def yields_async(event: object) -> AsyncIterator[None]:
        yield

    for handler in (yields, yields_async):
        with pytest.raises(RegistrationError, match="with a yield in it"):
            guard.real.projection("P", handles=[Happened])(handler)

    class Asks:
        async def can_handle(self, event: object) -> bool:
            return False

        def handle(self, event: object) -> None:
            """Do nothing."""

    with pytest.raises(RegistrationError, match="can_handle"):
        guard.real.register(Asks(), name="P")
