"""A process is killed in the middle of a bulk action; another one goes on, ends nothing twice, and counts exactly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from tenacity import wait_fixed

from projection_guard import FailureFilter, RetryPolicy
from projection_guard._core import admin
from tests.bed import Bed, Happened, happened, noted
from tests.faults.processes import Victim
from tests.flow.acting import active_equals_open_rows, states_of

OF_P = FailureFilter(projection_name="P")
NUMBERS = range(1, 6)


def survivor(bed: Bed) -> tuple[Any, set[str]]:
    """Return a guard on which an event each of five streams has failed, and what its handler fails on."""
    retry = RetryPolicy(wait=wait_fixed(3600), breaker=None)
    guard, failing = bed.guard(lease=timedelta(seconds=1), retry=retry), {f"S{n}#1" for n in NUMBERS}
    note = noted("P")

    def body(event: Happened, connection: Connection) -> None:
        note(event, connection)
        if event.event_id in failing:
            raise ValueError("planned")

    bed.joined(guard, "P", body)
    for n in NUMBERS:
        guard.publish(happened(f"S{n}", 1))
    failing.clear()
    return guard, failing


def test_another_process_goes_on_where_one_was_killed_in_the_middle_of_a_retry(bed: Bed, tmp_path: Path) -> None:
    """SIGKILL in the handler of S3#1: it was begun once, and counts as failed; it is retried later, as ever."""
    guard, _ = survivor(bed)
    action = guard.confirm_bulk(guard.propose_bulk("retry", where=OF_P, actor="alice").id, actor="alice")
    order: dict[str, Any] = {"handler": "joined", "notes": str(tmp_path / "notes"), "how": "hang", "rounds": 1}
    with Victim(url=bed.url, kind=bed.kind, ends_at="S3#1", **order) as victim:
        assert victim.line() == "reached"
        victim.kill()
    seen = guard.bulk_action(action.id)
    assert (seen.status, seen.done, seen.succeeded) == ("running", 2, 2)

    def has_ended() -> bool:
        guard.work()
        return bool(guard.bulk_action(action.id).is_finished)

    bed.wait_until(has_ended)
    seen = guard.bulk_action(action.id)
    assert (seen.status, seen.count, seen.done, seen.succeeded, seen.failed) == ("completed", 5, 5, 4, 1)
    assert states_of(bed, "P") == {f"S{n}#1": "failed" if n == 3 else "applied" for n in NUMBERS}
    assert {n: bed.count(f"S{n}") for n in NUMBERS} == {1: 1, 2: 1, 3: 0, 4: 1, 5: 1}
    assert len(guard.audit(action="retry").items) == 5
    assert active_equals_open_rows(bed)


class Gone(BaseException):
    """The process is no more."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failure_in_hand_counts_once_whether_it_was_ended_or_not(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Broken off between two commits: before the third was ended, or after that and before it was counted."""
    guard, _ = survivor(bed)
    action = guard.confirm_bulk(guard.propose_bulk("manual_fix", where=OF_P, actor="alice").id, actor="alice")
    real: Callable[..., Any] = admin.resolve
    calls = list[object]()

    async def breaks_off(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3 and when == "before":
            raise Gone
        outcome = await real(*arguments)
        if len(calls) == 3:
            raise Gone
        return outcome

    monkeypatch.setattr(admin, "resolve", breaks_off)
    with pytest.raises(Gone):
        guard.work()
    assert guard.bulk_action(action.id).done == 2
    guard.work()
    seen = guard.bulk_action(action.id)
    assert (seen.status, seen.done, seen.succeeded, seen.failed) == ("completed", 5, 5, 0)
    assert len(guard.audit(action="manual_fix").items) == 5
    assert set(states_of(bed, "P").values()) == {"fixed"}
    assert active_equals_open_rows(bed)
