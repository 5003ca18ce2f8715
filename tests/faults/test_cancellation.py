"""A task is cancelled at any of its awaits: no failure, no leaked connection, all exact when delivered again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.faults.scenes import Scene, guard_with, places
from tests.flow.acting import states_of


class CancelledAt:
    """Awaits a coroutine and cancels the task at its n-th suspension: as that begins, or in the moment it has ended."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, when: str) -> None:
        self._work = work
        self._at = at
        self._when = when
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        running = self._work.__await__()
        resume: Callable[[], Any] = partial(running.send, None)
        try:
            while True:
                try:
                    waits_for = resume()
                except StopIteration as finished:
                    return finished.value
                self._suspended(task, waits_for)
                try:
                    resume = partial(running.send, (yield waits_for))
                except BaseException as error:
                    resume = partial(running.throw, error)
        finally:
            del resume  # an error that its own frame holds would keep cursors alive

    def _suspended(self, task: asyncio.Task[Any], waits_for: Any) -> None:
        self.suspensions += 1
        if self.suspensions != self._at:
            return
        if self._when == "as it begins" or waits_for is None:
            task.cancel()
        else:
            waits_for.add_done_callback(lambda _: task.cancel())


def cancelled(bed: Bed, work: Coroutine[Any, Any, Any], at: int, when: str) -> tuple[bool, Any]:
    """Run work as a task of the bed's loop, cancelled at this suspension; return whether it was, and its result."""

    async def run() -> tuple[bool, Any]:
        at_await = CancelledAt(work, at, when)

        async def as_task() -> Any:
            return await at_await

        task = asyncio.ensure_future(as_task())
        await asyncio.wait([task])
        if task.cancelled():
            return True, None
        return at_await.suspensions >= at, task.result()

    return bed.run(run())  # type: ignore[no-any-return]


def nothing_is_checked_out(bed: Bed, guard: GuardOnBed) -> bool:
    """Return whether every connection has come back to its pool."""
    bed.run(asyncio.sleep(0))
    return bool(guard.real._engine.sync_engine.pool.checkedout() == 0)


@pytest.mark.parametrize("when", ["as it begins", "as it ends"])
@pytest.mark.parametrize("deed", ["deliver", "fail", "park", "redeliver", "retry by hand", "drain"])
@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_cancelled_at_any_await_it_is_cancelled_and_nothing_else(
    async_bed: Bed, kind: str, deed: str, when: str
) -> None:
    """What comes out is `CancelledError`; no failure is written, no connection stays out, no stream stays lent."""
    bed = async_bed
    guard, planned = guard_with(bed, kind)
    for place in places(bed, kind, deed, step=3, turn=when == "as it ends"):
        scene = Scene(bed, guard, planned, kind, deed=deed, stream=f"S{place}")
        scene.prepare()
        is_reached, _ = cancelled(bed, act(scene), place, when)
        scene.check()
        bed.wait_until(lambda: nothing_is_checked_out(bed, guard))
        check_for_traces(bed, scene)
        scene.finish()
        if not is_reached:
            assert place > 2
            return
    pytest.fail("the scene was not survived")


async def act(scene: Scene) -> Any:
    """Do what the scene does, as one coroutine."""
    guard = scene.guard.real
    match scene.deed:
        case "retry by hand":
            page = await guard.failures("P")
            (failure,) = [f for f in page.items if f.stream_id == scene.stream]
            return await guard.resolve(failure.id, "retry", actor="the test")
        case "drain":
            return await guard.worker().run_once()
        case _:
            return await scene.guard.publisher.publish(scene.event(2 if scene.deed == "park" else 1))


def check_for_traces(bed: Bed, scene: Scene) -> None:
    """Only the handler's own error may be on record, and nothing that is over holds a stream or a failure."""
    errors = bed.rows(
        "SELECT error_type FROM projection_failures WHERE stream_id = :stream", stream=scene.stream
    ) + bed.rows("SELECT error_type FROM projection_attempts WHERE gate = :stream", stream=scene.stream)
    expected = "ValueError" if scene.deed in ("fail", "park", "retry by hand") else None
    assert {row.error_type.rpartition(".")[2] for row in errors} <= {expected}, errors
    lent = bed.rows(
        "SELECT lease_owner FROM projection_streams WHERE stream_id = :stream AND lease_owner IS NOT NULL "
        "UNION ALL SELECT lease_owner FROM projection_failures WHERE stream_id = :stream AND lease_owner IS NOT NULL",
        stream=scene.stream,
    )
    assert not lent, "a stream or a failure stays lent to somebody who was cancelled"
    assert not bed.rows("SELECT 1 FROM projection_streams WHERE stream_id = :stream AND tainted", stream=scene.stream)


@pytest.mark.parametrize("when", ["as it begins", "as it ends"])
def test_a_reset_that_is_cancelled_leaves_no_projection_in_it(async_bed: Bed, when: str) -> None:
    """At any of its awaits: it has come about, or everything is as it was, and the projection goes on."""
    bed, guard = async_bed, async_bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.publish(happened("A", 1))
    for place in range(1, 200):
        is_reached, _ = cancelled(bed, guard.real.reset("P", actor="alice"), place, when)
        bed.wait_until(lambda: nothing_is_checked_out(bed, guard))
        assert bed.value("SELECT state FROM projection_states WHERE projection_name = 'P'") == "active"
        if not is_reached:
            assert place > 2
            return
    pytest.fail("the reset was not survived")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_retry", [False, True])
def test_cancelled_while_the_renewing_ends_what_the_handler_came_to_is_recorded(
    async_bed: Bed, fails: bool, is_retry: bool
) -> None:
    """A call that took so long that its lease was renewed is over: it is not made again for that."""
    bed, guard, calls = async_bed, async_bed.guard(lease=timedelta(seconds=1)), list[str]()
    deliveries: list[asyncio.Task[Any]] = []

    async def handler(event: Happened) -> None:
        calls.append(event.event_id)
        if is_retry and len(calls) == 1:
            raise ValueError("planned")
        await asyncio.sleep(0.5)  # renewed after a third of a second
        asyncio.get_running_loop().call_soon(deliveries[0].cancel)
        if fails:
            raise ValueError("planned")

    guard.real.projection("P", handles=[Happened])(handler)
    if is_retry:
        guard.publish(happened("A", 1))

    async def act() -> None:
        guard_acts = guard.real.worker().run_once() if is_retry else guard.publisher.publish(happened("A", 1))
        deliveries.append(asyncio.ensure_future(guard_acts))
        with pytest.raises(asyncio.CancelledError):
            await deliveries[0]

    bed.run(act())
    assert states_of(bed, "P") == {"A#1": "failed" if fails else "applied"}
    assert [row.retry_count for row in bed.rows("SELECT retry_count FROM projection_failures")] == (
        [1] if is_retry else [0] * fails
    )
