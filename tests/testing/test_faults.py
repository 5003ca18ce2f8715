"""Handlers with a fault put in: joined and apart, blocking and async, through the real flow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import stop_after_attempt

from projection_guard import EventMapping, InvalidArgument, PermanentFailure, RetryAfter, RetryPolicy
from projection_guard.testing import Faulty, InjectedFault, failing, hanging
from tests.bed import Bed, GuardOnBed, Happened, happened
from tests.flow.acting import going, listed, statuses, work_until_done

ROOT = Path(__file__).parents[2]
Kind = Literal["joined", "apart"]
done: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    """What apart handlers did is noted here."""
    done.clear()


def handler_of(bed: Bed, kind: Kind) -> Callable[..., Any]:
    """Return an application's own handler: it notes each event."""
    note = listed("P")

    def apart(event: Happened) -> None:
        done.append(event.event_id)

    async def apart_async(event: Happened) -> None:
        done.append(event.event_id)

    async def joined_async(event: Happened, connection: AsyncConnection) -> None:
        await connection.run_sync(lambda sync: note(event, sync))

    def joined(event: Happened, connection: Connection) -> None:
        note(event, connection)

    if kind == "joined":
        return joined_async if bed.is_async else joined
    return apart_async if bed.is_async else apart


def registered(bed: Bed, faulty: Faulty[Any], **options: Any) -> GuardOnBed:
    """Return a guard with this handler."""
    guard = bed.guard(**options)
    guard.real.projection("P", handles=[Happened])(faulty)
    return guard


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_it_fails_on_the_events_and_as_often_as_it_is_told(sqlite_bed: Bed, kind: Kind) -> None:
    """Its work was done by then: joined it is undone, apart it happens again."""
    faulty = failing(handler_of(sqlite_bed, kind), on="A#1", times=2)
    guard = registered(sqlite_bed, faulty)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert statuses(guard.publish(happened("B", 1))) == ["applied"]
    assert guard.failures("P").items[0].error_type.endswith("InjectedFault")
    work_until_done(sqlite_bed, guard)
    assert (faulty.calls, faulty.faults) == (4, 2)
    if kind == "joined":
        assert sqlite_bed.effects("P", "A") == [("A", 1)]
    else:
        assert done == ["A#1", "B#1", "A#1", "A#1"]


def test_before_its_work_nothing_was_done(sqlite_bed: Bed) -> None:
    """`when="before"`."""
    guard = registered(sqlite_bed, failing(handler_of(sqlite_bed, "apart"), when="before"))
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert done == []


@pytest.mark.parametrize(
    ("error", "is_exhausted"), [(PermanentFailure, True), (ValueError, True), (ConnectionError, False)]
)
def test_its_error_is_what_the_policy_goes_by(sqlite_bed: Bed, error: type[Exception], is_exhausted: bool) -> None:
    """After its only attempt one that is transient is not exhausted."""
    faulty = failing(handler_of(sqlite_bed, "joined"), error=error)
    guard = registered(sqlite_bed, faulty, retry=RetryPolicy(stop=stop_after_attempt(1)))
    guard.publish(happened("A", 1))
    assert guard.failures("P").items[0].is_exhausted is is_exhausted


def test_its_error_is_made_by_a_function(sqlite_bed: Bed) -> None:
    """As that of `RetryAfter` has to be, which takes seconds."""
    guard = registered(sqlite_bed, failing(handler_of(sqlite_bed, "joined"), error=lambda: RetryAfter(7200)))
    guard.publish(happened("A", 1))
    failure = guard.failures("P").items[0]
    assert 7100 < (failure.next_retry_at - failure.failed_at).total_seconds() < 7300


@pytest.mark.parametrize(
    ("on", "hit"),
    [
        (None, True),
        ("A#1", True),
        ("A#2", False),
        (["A#2", "A#1"], True),
        (Happened, True),
        (int, False),
        (lambda event: event.n == 1, True),
        (lambda event: event.n == 2, False),
    ],
)
def test_which_events_are_meant(on: Any, hit: bool) -> None:
    """By id, by class, by a predicate; a list of events by any of them."""
    for given in (happened("A", 1), [happened("B", 7), happened("A", 1)]):
        faulty = failing(lambda event: None, on=on)
        if hit:
            with pytest.raises(InjectedFault):
                faulty(given)
        else:
            faulty(given)
        assert faulty.faults == hit


def test_ids_are_read_as_the_mapping_says() -> None:
    """Of an event that has no id where one is looked for, none is meant."""
    event = {"key": "x"}
    failing(lambda event: None, on="x")(event)
    with pytest.raises(InjectedFault):
        failing(lambda event: None, on="x", mapping=EventMapping(event_id="key", event_type=lambda _: "t"))(event)


def test_faults_are_put_around_faults(sqlite_bed: Bed) -> None:
    """And the handler is seen through all of them."""
    inner = failing(handler_of(sqlite_bed, "joined"), on="A#1", error=KeyError)
    guard = registered(sqlite_bed, failing(inner, on="B#1", error=PermanentFailure))
    assert statuses([*guard.publish(happened("A", 1)), *guard.publish(happened("B", 1))]) == ["failed", "failed"]
    assert sorted(f.error_type.rpartition(".")[2] for f in guard.failures("P").items) == [
        "KeyError",
        "PermanentFailure",
    ]
    inner.heal()
    work_until_done_with_one_left(sqlite_bed, guard)
    assert sqlite_bed.effects("P") == [("A", 1)]


def work_until_done_with_one_left(bed: Bed, guard: GuardOnBed) -> None:
    """Do rounds of a worker until only one failure is left."""

    def is_done() -> bool:
        guard.work()
        return bool(guard.health("P").active_failures == 1)

    bed.wait_until(is_done)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_it_hangs_until_it_is_released(sqlite_bed: Bed, kind: Kind) -> None:
    """In a thread, or as a task of the loop."""
    hangs = hanging(handler_of(sqlite_bed, kind), on="A#1")
    guard = registered(sqlite_bed, hangs)
    under_way = going(sqlite_bed, lambda: guard.publisher.publish(happened("A", 1)))
    sqlite_bed.wait_until(lambda: hangs.reached)
    assert not under_way.is_done
    hangs.wait_until_reached()
    hangs.release()
    sqlite_bed.wait_until(lambda: under_way.is_done)
    assert statuses(under_way.answer()) == ["applied"]


def test_bad_arguments_are_refused() -> None:
    """Before any event."""
    for wrong in ({"when": "during"}, {"times": -1}):
        with pytest.raises(InvalidArgument):
            failing(lambda event: None, **wrong)


KILLED_IN_THE_MIDDLE = """
import sys
from projection_guard import ProjectionGuard
from projection_guard.testing import killing, crash_at
from tests.bed import Happened, happened, noted
guard = ProjectionGuard(sys.argv[1], worker="external")
handler = noted("P")
if sys.argv[2] == "handler":
    guard.projection("P", handles=[Happened])(killing(handler, on="A#2"))
    for n in (1, 2, 3):
        guard.publisher().publish(happened("A", n))
else:
    guard.projection("P", handles=[Happened])(handler)
    guard.publisher().publish(happened("A", 1))
    with crash_at(guard, sys.argv[2], how="exit"):
        guard.publisher().publish(happened("A", 2))
print("it lived")
"""


@pytest.mark.parametrize(("where", "count"), [("handler", 1), ("after commit", 2)])
def test_it_ends_its_process(sqlite_url: str, where: str, count: int) -> None:
    """With SIGKILL's status, nothing flushed; what was not committed is undone."""
    command = [sys.executable, "-W", "error", "-c", KILLED_IN_THE_MIDDLE, sqlite_url, where]
    bed = Bed("blocking", "sqlite", sqlite_url)
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (died.returncode, died.stdout) == (137, ""), died.stderr
    assert bed.count("A") == count
    bed.close()
