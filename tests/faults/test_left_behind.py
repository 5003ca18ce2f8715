"""Blocking handlers that nobody can end: they overran their time, or their caller was cancelled, and run on.

What they still do comes at its own time, beside retries and later events: the stream says so (P2), whoever the caller.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from tenacity import wait_fixed

from projection_guard import RetryPolicy
from tests.bed import Bed, Happened, happened, noted
from tests.flow.acting import active_equals_open_rows, going, make_due, one_failure, shift, states_of, statuses

HOURS = RetryPolicy(wait=wait_fixed(3600), breaker=None)


def tainted(bed: Bed) -> list[str]:
    """Return why streams are tainted."""
    found = bed.rows("SELECT tainted_reason FROM projection_streams WHERE tainted")
    return [row.tainted_reason for row in found]


def leases(bed: Bed) -> int:
    """Count the leases that somebody holds, or has forgotten."""
    streams = bed.value("SELECT count(*) FROM projection_streams WHERE lease_owner IS NOT NULL")
    return int(streams + bed.value("SELECT count(*) FROM projection_failures WHERE lease_owner IS NOT NULL"))


class Hanging:
    """A blocking apart handler that hangs in its first call of an event, until the test lets it go on."""

    def __init__(self, event_id: str) -> None:
        self.done: list[str] = []
        self.calls: list[str] = []
        self.mode = "hang"
        self.go_on, self.hangs, self.ended = threading.Event(), threading.Event(), threading.Event()
        self._event_id = event_id

    def __call__(self, event: Happened) -> None:
        """Fail, hang or do it."""
        self.calls.append(event.event_id)
        if event.event_id == self._event_id and self.mode == "fail":
            raise ValueError("planned")
        if event.event_id == self._event_id and self.mode == "hang":
            self.mode = "well"
            self.hangs.set()
            assert self.go_on.wait(60)
            self.done.append(event.event_id)
            self.ended.set()
            return
        self.done.append(event.event_id)

    def let_go(self) -> None:
        """Let the call that hangs come to its end."""
        self.go_on.set()
        assert self.ended.wait(30)


def test_a_delivery_left_behind_taints_its_stream(async_bed: Bed) -> None:
    """Its failure is kept and retried, A#2 follows; what the first call still does is not silent."""
    guard, handler = async_bed.guard(), Hanging("A#1")
    guard.real.projection("P", handles=[Happened], timeout=1.0)(handler)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert one_failure(guard).error_type.endswith("HandlerTimeout")
    assert len(tainted(async_bed)) == 1
    assert "left running" in tainted(async_bed)[0]
    guard.publish(happened("A", 2))
    guard.work()
    handler.let_go()
    assert handler.done == ["A#1", "A#2", "A#1"]
    assert states_of(async_bed, "P") == {"A#1": "applied", "A#2": "applied"}
    assert active_equals_open_rows(async_bed)


def test_a_retry_left_behind_taints_its_stream(bed: Bed) -> None:
    """A worker's call as well, of either guard."""
    notices: list[str] = []
    guard, handler = bed.guard(observers=[lambda notice: notices.append(str(notice.kind))]), Hanging("A#1")
    handler.mode = "fail"
    guard.real.projection("P", handles=[Happened], timeout=1.0, retry=HOURS)(handler)
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert tainted(bed) == []
    handler.mode = "hang"
    make_due(bed)
    guard.work()
    assert len(tainted(bed)) == 1
    assert "tainted" in notices
    handler.let_go()
    make_due(bed)
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied"}


def test_a_drained_event_left_behind_taints_its_stream(bed: Bed) -> None:
    """The parked event whose handler hangs becomes a failure, and its stream says what happened."""
    guard, handler = bed.guard(), Hanging("A#1")
    guard.real.projection("P", handles=[Happened], timeout=1.0, retry=HOURS)(handler)
    guard.pause("P", actor="alice")
    assert statuses(guard.publish(happened("A", 1))) == ["parked"]
    guard.resume("P", actor="alice")
    guard.work()
    assert states_of(bed, "P") == {"A#1": "failed"}
    assert len(tainted(bed)) == 1
    handler.let_go()


def test_a_blocking_handler_on_the_callers_own_thread_is_not_left_behind(blocking_bed: Bed) -> None:
    """It overran and has ended: nothing of it comes later, nothing is tainted."""
    guard = blocking_bed.guard(retry=HOURS)
    guard.real.projection("P", handles=[Happened], timeout=0.05)(lambda event: time.sleep(0.1))
    assert statuses(guard.publish(happened("A", 1))) == ["failed"]
    assert tainted(blocking_bed) == []


@pytest.mark.parametrize("ends", ["well", "failing"])
def test_cancelled_the_stream_stays_lent_until_the_thread_has_ended(async_bed: Bed, ends: str) -> None:
    """A cancelled `publish` waits for what it cannot end; what the handler came to is on record, and order is kept."""
    bed, order, go_on, begun = async_bed, list[str](), threading.Event(), threading.Event()
    guard = bed.guard(retry=HOURS)

    def handler(event: Happened) -> None:
        if event.n == 1 and not begun.is_set():
            begun.set()
            assert go_on.wait(30)
            if ends == "failing":
                raise ValueError("planned")
        order.append(event.event_id)

    guard.real.projection("P", handles=[Happened])(handler)
    first = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(begun.is_set)
    cancel_all(bed)
    assert statuses(guard.publish(happened("A", 2))) == ["parked"]
    go_on.set()
    bed.wait_until(lambda: first.is_done)
    assert isinstance(first.error, asyncio.CancelledError)
    make_due(bed)
    guard.work()
    guard.work()
    assert order == ["A#1", "A#2"]
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied"}
    assert (tainted(bed), leases(bed)) == ([], 0)


def test_cancelled_twice_it_waits_no_longer_and_still_records(async_bed: Bed) -> None:
    """Whoever is in a hurry is let go; the lease is renewed, and what the handler came to is recorded all the same."""
    bed, go_on, begun = async_bed, threading.Event(), threading.Event()
    guard = bed.guard(retry=HOURS)

    def handler(event: Happened) -> None:
        begun.set()
        assert go_on.wait(30)

    guard.real.projection("P", handles=[Happened])(handler)
    first = going(bed, lambda: guard.publisher.publish(happened("A", 1)))
    bed.wait_until(begun.is_set)
    cancel_all(bed)
    assert not first.is_done
    cancel_all(bed)
    bed.wait_until(lambda: first.is_done)
    assert isinstance(first.error, asyncio.CancelledError)
    assert states_of(bed, "P") == {}
    go_on.set()
    bed.wait_until(lambda: states_of(bed, "P") == {"A#1": "applied"})
    assert (tainted(bed), leases(bed)) == ([], 0)


def cancel_all(bed: Bed) -> None:
    """Cancel the publishers under way, as a server does with its requests."""

    async def cancel() -> None:
        for task in asyncio.all_tasks():
            if task.get_coro().__qualname__.startswith("going."):  # type: ignore[union-attr]
                task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)

    bed.run(cancel())


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("deed", ["retry", "drain"])
def test_a_cancelled_attempt_is_given_back_uncounted(async_bed: Bed, kind: str, deed: str) -> None:
    """An async handler ends when it is cancelled: nobody has to wait for its lease, and no try is lost."""
    bed, mode, begun = async_bed, ["fail"], asyncio.Event()
    guard = bed.guard(retry=HOURS)

    async def work(event: Happened) -> None:
        if mode[0] == "fail":
            raise ValueError("planned")
        if mode[0] == "hang":
            begun.set()
            await asyncio.Event().wait()

    async def joined(event: Happened, connection: Any) -> None:
        await work(event)

    guard.real.projection("P", handles=[Happened])(joined if kind == "joined" else work)
    if deed == "retry":
        guard.publish(happened("A", 1))
    else:
        guard.pause("P", actor="alice")
        guard.publish(happened("A", 1))
        guard.resume("P", actor="alice")
    mode[0] = "hang"
    make_due(bed)
    before = [row.tries for row in tries_of(bed)]
    round_ = going(bed, guard.real.worker().run_once)
    bed.wait_until(begun.is_set)
    cancel_all(bed)
    bed.wait_until(lambda: round_.is_done)
    assert isinstance(round_.error, asyncio.CancelledError)
    assert leases(bed) == 0
    assert [row.tries for row in tries_of(bed)] == before
    mode[0] = "well"
    guard.work()
    assert states_of(bed, "P") == {"A#1": "applied"}
    assert tainted(bed) == []


def tries_of(bed: Bed) -> list[Any]:
    """Return how often what is open was tried."""
    return bed.rows(
        "SELECT retry_count AS tries FROM projection_failures WHERE resolved_at IS NULL "
        "UNION ALL SELECT attempts FROM projection_parked_events"
    )


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_cancellation_from_within_the_handler_is_its_failure(async_bed: Bed, kind: str) -> None:
    """It awaited something that had been cancelled; nobody cancelled the publisher, who goes on with the others."""
    bed = async_bed
    guard = bed.guard(retry=HOURS)

    async def awaits_the_cancelled() -> None:
        task = asyncio.ensure_future(asyncio.sleep(30))
        task.cancel()
        await task

    async def joined(event: Happened, connection: Any) -> None:
        await awaits_the_cancelled()

    async def apart(event: Happened) -> None:
        await awaits_the_cancelled()

    guard.real.projection("P", handles=[Happened])(joined if kind == "joined" else apart)
    bed.apart(guard, "Q", lambda event: None)
    assert statuses(guard.publish(happened("A", 1))) == ["failed", "applied"]
    assert "cancelled" in one_failure(guard, "P").error_message


def test_handlers_that_hang_take_nobody_elses_thread(async_bed: Bed) -> None:
    """More calls hang than the loop has threads for: another projection's handler is called all the same."""
    bed, go_on = async_bed, threading.Event()
    guard, begun, many = bed.guard(retry=HOURS), list[str](), min(32, (os.cpu_count() or 1) + 4) + 2

    def hangs(event: Happened) -> None:
        begun.append(event.event_id)
        assert go_on.wait(60)

    guard.real.projection("slow", handles=[Happened])(hangs)
    stuck = [going(bed, lambda n=n: guard.real.apply("slow", happened(f"S{n}", 1))) for n in range(many)]  # type: ignore[misc]
    bed.wait_until(lambda: len(begun) == many)
    guard.real.projection("quick", handles=[Happened])(lambda event: None)
    assert guard.apply("quick", happened("A", 1)).status == "applied"
    go_on.set()
    bed.wait_until(lambda: all(call.is_done for call in stuck))
    assert [call.answer().status for call in stuck] == ["applied"] * many


def test_a_retry_that_ran_past_its_lease_taints_its_stream(bed: Bed) -> None:
    """Somebody took the failure over while its handler was at work: the effects may come in any order."""
    order: list[str] = []
    guard, calls = bed.guard(retry=HOURS), list[str]()

    def slow(event: Happened) -> None:
        calls.append(event.event_id)
        if len(calls) == 1:
            raise ValueError("planned")
        shift(bed, "projection_failures", "lease_expires_at", -3600)
        take_over()
        order.append("late")

    def take_over() -> None:
        taker = Bed("blocking", bed.database, bed.url)
        another = taker.guard(retry=HOURS)
        taker.apart(another, "P", lambda event: order.append("taken over"))
        thread = threading.Thread(target=another.work)
        thread.start()
        thread.join(30)
        taker.close()

    bed.apart(guard, "P", slow)
    guard.publish(happened("A", 1))
    make_due(bed)
    guard.work()
    assert order == ["taken over", "late"]
    assert states_of(bed, "P") == {"A#1": "applied"}
    assert len(tainted(bed)) == 1


def test_a_transaction_whose_statement_cannot_be_cancelled_is_cut_all_the_same(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not answer the cancel request: the connection is thrown away, and what comes late fails."""
    bed, late = Bed("blocking", "postgresql", postgres_url), list[object]()
    guard, mode = bed.guard(retry=HOURS), ["fail"]
    go_on, ended = threading.Event(), threading.Event()

    def refuse(connection: object, **options: object) -> None:
        raise OSError("the server cannot be reached")

    monkeypatch.setattr(psycopg.Connection, "cancel_safe", refuse)
    monkeypatch.setattr(psycopg.Connection, "cancel", refuse)

    def handler(event: Happened, connection: Connection) -> None:
        if mode[0] == "fail":
            raise ValueError("planned")
        assert go_on.wait(30)
        try:
            noted("P")(event, connection)
            late.append("written")
        except Exception as error:
            late.append(error)
        ended.set()

    guard.real.projection("P", handles=[Happened], timeout=1.0)(handler)
    guard.publish(happened("A", 1))
    mode[0] = "hang"
    make_due(bed)
    guard.work()
    assert guard.attempts(one_failure(guard).id)[-1].error_type.endswith("HandlerTimeout")
    go_on.set()
    assert ended.wait(30)
    assert isinstance(late[0], Exception)
    assert bed.effects("P") == []
    assert tainted(bed) == []
    bed.close()
