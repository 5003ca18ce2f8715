"""Processes are killed, die and stand still in the middle of handlers; others take over, and every effect is there."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import RetryPolicy
from tests.bed import Bed, Happened, happened, noted
from tests.faults.processes import Victim
from tests.faults.victim import DIED
from tests.flow.acting import active_equals_open_rows, make_due, states_of, statuses

LEASE = timedelta(seconds=1)
HANDLERS = pytest.mark.parametrize("handler", ["joined", "apart"])


def survivor(bed: Bed, handler: str, notes: Path, failing: set[str] | None = None) -> Any:
    """Make a guard in this process, with the same projection and a healthy handler (or one that fails on these)."""
    guard = bed.guard(lease=LEASE, retry=RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(3), immediate=0))
    note, broken = noted("P"), failing if failing is not None else set[str]()

    def joined(event: Happened, connection: Any) -> None:
        note(event, connection)
        if event.event_id in broken:
            raise ValueError("planned")

    def apart(event: Happened) -> None:
        if event.event_id in broken:
            raise ValueError("planned")
        with notes.open("a") as file:
            file.write(f"{event.event_id} done\n")

    bed.joined(guard, "P", joined) if handler == "joined" else bed.apart(guard, "P", apart)
    return guard


def effects(bed: Bed, handler: str, notes: Path) -> list[int]:
    """Return the numbers of A's events in the order of their effects."""
    if handler == "joined":
        return [n for _, n in bed.effects("P", "A")]
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [int(line.split()[0].partition("#")[2]) for line in lines if line.endswith("done")]


def work_until(bed: Bed, guard: Any, condition: Callable[[], bool]) -> None:
    """Let the survivor work until a condition holds; leases run out by themselves."""

    def holds() -> bool:
        guard.work()
        return condition()

    bed.wait_until(holds)


def set_the_stage(bed: Bed, guard: Any, deed: str, failing: set[str]) -> None:
    """Bring A#1 to A#3 to where the deed begins."""
    if deed == "retry":
        failing.add("A#1")
    if deed == "drain":
        guard.pause("P", actor="the test")
    if deed != "deliver":
        for n in (1, 2, 3):
            guard.publish(happened("A", n))
        failing.clear()
        make_due(bed)
    if deed == "drain":
        guard.resume("P", actor="the test")


@pytest.mark.parametrize("deed", ["deliver", "retry", "drain"])
@HANDLERS
def test_another_process_goes_on_where_one_was_killed_in_the_middle_of_a_handler(
    bed: Bed, tmp_path: Path, handler: str, deed: str
) -> None:
    """SIGKILL inside the handler of A#1: a delivery comes again, a retry and a drain are taken over; 1, 2, 3."""
    notes, failing = tmp_path / "notes", set[str]()
    guard = survivor(bed, handler, notes, failing)
    set_the_stage(bed, guard, deed, failing)
    order: dict[str, Any] = {"publish": [1]} if deed == "deliver" else {"rounds": 1}
    with Victim(
        url=bed.url, kind=bed.kind, handler=handler, notes=str(notes), ends_at="A#1", how="hang", **order
    ) as victim:
        assert victim.line() == "reached"
        victim.kill()
    if deed == "deliver":
        assert "A#1" not in states_of(bed, "P")
        for n in (1, 2, 3):
            guard.publish(happened("A", n))
    work_until(bed, guard, lambda: set(states_of(bed, "P").values()) == {"applied"})
    assert effects(bed, handler, notes) == [1, 2, 3]
    if handler == "joined":
        assert bed.count("A") == 3
    assert active_equals_open_rows(bed)


@HANDLERS
def test_immediate_retries_reserved_to_a_killed_process_are_made_by_another(
    bed: Bed, tmp_path: Path, handler: str
) -> None:
    """The row is born leased to the process that saw the failure; that one is gone, the lease ends by itself."""
    notes = tmp_path / "notes"
    order = {"publish": [1, 2, 3], "failing": ["A#1"], "immediate": 3, "rounds": 0, "ends_at": "A#4", "how": "hang"}
    order["publish"] = [1, 2, 3]
    with Victim(url=bed.url, kind=bed.kind, handler=handler, notes=str(notes), **order) as victim:
        assert [victim.line() for _ in range(3)] == ["failed", "parked", "parked"]
        victim.kill()
    guard = survivor(bed, handler, notes)
    work_until(bed, guard, lambda: set(states_of(bed, "P").values()) == {"applied"})
    assert effects(bed, handler, notes) == [1, 2, 3]


@pytest.mark.parametrize("deed", ["retry", "drain"])
@HANDLERS
def test_an_event_that_kills_its_process_ends_up_exhausted_not_in_a_crash_loop(
    bed: Bed, tmp_path: Path, handler: str, deed: str
) -> None:
    """Each process that tries A#1 is gone at once. Two retries are allowed; then a person is asked."""
    notes, failing = tmp_path / "notes", set[str]()
    guard = survivor(bed, handler, notes, failing)
    set_the_stage(bed, guard, deed, failing)
    bed.engine.dispose()
    died = 0
    for _ in range(12):
        with Victim(
            url=bed.url,
            kind=bed.kind,
            handler=handler,
            notes=str(notes),
            ends_at="A#1",
            how="exit",
            rounds=3,
        ) as victim:
            died += victim.process.wait(60) == DIED
        make_due(bed)
        expire(bed)
        open_failures = guard.failures("P").items
        if open_failures and open_failures[0].next_retry_at is None:
            break
    else:
        pytest.fail("it is tried again and again")
    assert 1 <= died <= 4
    (failure,) = guard.failures("P").items
    assert failure.next_retry_at is None
    assert failure.error_type.endswith("HandlerDied")
    assert states_of(bed, "P") == {"A#1": "failed", "A#2": "parked", "A#3": "parked"}
    assert effects(bed, handler, notes) == []
    assert guard.resolve(failure.id, "retry", actor="a person").status == "applied"
    work_until(bed, guard, lambda: set(states_of(bed, "P").values()) == {"applied"})
    assert effects(bed, handler, notes) == [1, 2, 3]


def expire(bed: Bed) -> None:
    """Let the leases of streams run out."""
    past = bed.in_seconds(-86_400)
    bed.change(f"UPDATE projection_streams SET lease_expires_at = {past} WHERE lease_owner IS NOT NULL")


def lease_is_over(bed: Bed) -> bool:
    """Return whether A's stream is lent no more."""
    held = f"SELECT 1 FROM projection_streams WHERE stream_id = 'A' AND lease_expires_at > {bed.in_seconds(0)}"
    return not bed.rows(held)


@pytest.mark.parametrize("event_goes_to_another", [True, False], ids=["redelivered", "overtaken"])
def test_an_apart_call_of_a_process_that_stood_still_settles_late_and_taints(
    bed: Bed, tmp_path: Path, event_goes_to_another: bool
) -> None:
    """SIGSTOP until its lease has run out, SIGCONT after others went on: what it records late is never silent."""
    notes = tmp_path / "notes"
    guard = survivor(bed, "apart", notes)
    with Victim(
        url=bed.url, kind=bed.kind, handler="apart", notes=str(notes), ends_at="A#1", how="hang", publish=[1]
    ) as victim:
        assert victim.line() == "reached"
        victim.stop(bed)
        bed.wait_until(lambda: lease_is_over(bed))
        numbers = (1, 2) if event_goes_to_another else (2,)
        assert [statuses(guard.publish(happened("A", n))) for n in numbers] == [["applied"]] * len(numbers)
        assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == ["A"]
        victim.process.send_signal(signal.SIGCONT)
        victim.go_on()
        assert victim.line() == "applied"
        assert victim.lines() == []
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied"}
    (tainted,) = guard.streams("P", state="tainted").items
    assert tainted.tainted_reason
    assert statuses(guard.publish(happened("A", 3))) == ["applied"]
    assert active_equals_open_rows(bed)


def test_a_joined_handler_of_a_process_that_stood_still_loses_its_transaction_and_its_work_is_redone(
    server_bed: Bed, tmp_path: Path
) -> None:
    """A stopped process cannot hold a stream: its transaction is ended, others go on, nothing is applied twice."""
    bed, notes = server_bed, tmp_path / "notes"
    guard = survivor(bed, "joined", notes)
    order = {"handler": "joined", "notes": str(notes), "ends_at": "A#1", "how": "hang", "publish": [1], "timeout": 1}
    with Victim(url=bed.url, kind=bed.kind, **order) as victim:
        assert victim.line() == "reached"
        victim.process.send_signal(signal.SIGSTOP)
        assert statuses(guard.publish(happened("A", 1))) == ["applied"]
        assert statuses(guard.publish(happened("A", 2))) == ["applied"]
        victim.process.send_signal(signal.SIGCONT)
        victim.go_on()
        assert victim.line() in ("applied", "duplicate")
        assert victim.lines() == []
    assert (bed.effects("P", "A"), bed.count("A")) == ([("A", 1), ("A", 2)], 2)
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied"}
    assert guard.failures("P", include_resolved=True).items == ()


def test_a_joined_handler_whose_event_nobody_else_took_is_a_failure_that_taints_if_a_later_one_slipped_in(
    server_bed: Bed, tmp_path: Path
) -> None:
    """The process stood still in A#1, its transaction was ended, A#2 was applied first: kept, healed, never silent."""
    bed, notes = server_bed, tmp_path / "notes"
    guard = survivor(bed, "joined", notes)
    order = {"handler": "joined", "notes": str(notes), "ends_at": "A#1", "how": "hang", "publish": [1], "timeout": 1}
    with Victim(url=bed.url, kind=bed.kind, **order) as victim:
        assert victim.line() == "reached"
        victim.process.send_signal(signal.SIGSTOP)
        assert statuses(guard.publish(happened("A", 2))) == ["applied"]
        victim.process.send_signal(signal.SIGCONT)
        victim.go_on()
        assert victim.line() == "failed"
        assert victim.lines() == []
    assert [stream.stream_id for stream in guard.streams("P", state="tainted").items] == ["A"]
    make_due(bed)
    work_until(bed, guard, lambda: set(states_of(bed, "P").values()) == {"applied"})
    assert sorted(bed.effects("P", "A")) == [("A", 1), ("A", 2)]
    assert bed.count("A") == 2
