"""Rebuilds that are spread over an executor: slices of the streams, each replayed in order, as one alone would."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar
from uuid import UUID

import pytest
from sqlalchemy import text

from projection_guard import (
    ConfigurationError,
    ExecutorLost,
    FailureBusy,
    InvalidArgument,
    Replay,
    UnknownProjection,
)
from projection_guard._core.asked import Asked
from projection_guard._core.slicing import SliceDone, SliceOrder
from projection_guard._core.spreading import dealt, task_seconds
from projection_guard._io.protocol import drive
from tests.bed import Bed, GuardOnBed
from tests.flow.acting import active_equals_open_rows, going, states_of, work_until_done
from tests.following.beside import run_for
from tests.following.sliced import Chains, body, pool_of, register


@pytest.fixture(scope="module")
def processes() -> Generator[ProcessPoolExecutor]:
    """A pool of processes, used by one test after the other."""
    with pool_of(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def threads() -> Generator[ThreadPoolExecutor]:
    """A pool of threads."""
    with ThreadPoolExecutor(3) as pool:
        yield pool


def came_to(chains: Chains, job: Replay) -> dict[str, object]:
    """Return all that a rebuild came to, for people and programs."""
    checkpoint, health = chains.guard.checkpoint("P"), chains.guard.health("P")
    return {
        "job": (job.status, job.events_replayed, job.events_skipped, job.events_failed, job.progress, job.position),
        "model": chains.model(),
        "states": states_of(chains.bed, "P"),
        "checkpoint": (checkpoint.last_event_sequence, checkpoint.last_event_id, checkpoint.events_processed),
        "health": (health.active_failures, health.lag_events, health.status),
        "failures": sorted(each.event_id for each in chains.guard.failures("P").items),
    }


@pytest.mark.parametrize("seed", range(2))
def test_it_comes_to_what_a_rebuild_in_one_piece_comes_to(
    diagonal_bed: Bed, threads: ThreadPoolExecutor, processes: ProcessPoolExecutor, seed: int
) -> None:
    """The read model, whose chains tell any other order, all counters, and what failed and waits (P1, P2, P3)."""
    chance = random.Random(seed)
    streams = [f"S{number}" for number in range(chance.choice([1, 3, 9]))]
    failing = [f"{streams[0]}#2", f"{streams[-1]}#5"] if seed else []
    drawn = [chance.choice(streams) for _ in range(chance.choice([40, 130]))]
    chains = Chains(diagonal_bed, failing=failing, partitions=chance.choice([1, 2]))
    chains.log.append(*drawn)
    alone = came_to(chains, chains.guard.rebuild("P", actor="alice"))
    assert alone["model"] == chains.expected(*failing)
    slices = chance.choice([2, 5])
    spread = chains.guard.rebuild("P", executor=threads, slices=slices, actor="alice")
    assert came_to(chains, spread) == alone
    spread = chains.guard.rebuild("P", executor=processes, guard_factory=chains.factory(), actor="alice")
    assert came_to(chains, spread) == alone
    assert chains.log.cursors() == [len(drawn)] * chains.order["partitions"]
    assert active_equals_open_rows(diagonal_bed)


def test_a_failure_holds_its_stream_and_no_other(diagonal_bed: Bed, threads: ThreadPoolExecutor) -> None:
    """One poison event in one of 20 streams; mended, the stream is completed in order."""
    chains = Chains(diagonal_bed, failing=["S3#2"])
    chains.log.append_many(80, 20)
    job = chains.guard.rebuild("P", executor=threads, actor="alice")
    assert (job.status, job.events_replayed, job.events_failed, job.events_skipped) == ("completed", 77, 1, 2)
    assert chains.model() == chains.expected("S3#2")
    chains.order["failing"].clear()
    (failure,) = chains.guard.failures("P").items
    chains.guard.resolve(failure.id, "retry", actor="alice")
    work_until_done(diagonal_bed, chains.guard, "P")
    assert chains.model() == chains.expected()


@contextmanager
def wanted_meanwhile(chains: Chains, wanted: str, when: str) -> Generator[None]:
    """Say what is wanted of the job as soon as a condition on its slices holds."""
    stop = threading.Event()

    def watch() -> None:
        with chains.bed.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            while not stop.wait(0.005):
                holds = f"SELECT {when} FROM projection_partitions WHERE projection_name = 'P' AND partition < -1"
                change = f"UPDATE projection_replays SET wanted = '{wanted}' WHERE finished_at IS NULL"
                if connection.execute(chains.bed._text(holds)).scalar() and connection.execute(text(change)).rowcount:
                    return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class InTurn(ThreadPoolExecutor):
    """One with two workers, of which one waits until the other has come to the end with the first slice."""

    def __init__(self, bed: Bed, end: int) -> None:
        super().__init__(2)
        self._bed, self._end = bed, end

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it in its turn."""
        (order,) = args

        def in_turn() -> Any:
            while order.numbers == (1,) and not self._first_is_done():
                time.sleep(0.01)
            return fn(order)

        return super().submit(in_turn)

    def _first_is_done(self) -> bool:
        with self._bed.engine.connect() as connection:
            high = "SELECT max(p.cursor) FROM projection_partitions p WHERE p.partition < -1"
            return bool(connection.execute(self._bed._text(high)).scalar() == self._end)


def one_by_one(chains: Chains, wanted: str) -> Replay:
    """Rebuild two slices, one after the other, until the first is done and the second has begun."""
    with InTurn(chains.bed, 60) as pool, wanted_meanwhile(chains, wanted, "max(cursor) = 60 AND min(cursor) > 5"):
        job: Replay = chains.guard.rebuild("P", executor=pool, slices=2, events_per_second=80, actor="alice")
    return job


def test_cancelled_its_slices_stand_where_they_are_and_nothing_is_applied_twice(diagonal_bed: Bed) -> None:
    """Following passes over what slices have applied beyond the checkpoint; what failed there heals in order."""
    chains = Chains(diagonal_bed, failing=["S1#9"])
    chains.log.append_many(60, 5)
    job = one_by_one(chains, "cancel")
    assert job.status == "cancelled"
    low = chains.guard.checkpoint("P").last_event_sequence
    assert 5 < low < 60
    with pytest.raises(FailureBusy, match="has brought to sequence 60"):
        chains.guard.replay("P", stream_id="S1", actor="alice")
    chains.guard.pause("P", actor="alice")
    with pytest.raises(InvalidArgument, match="sequence 60, which would be applied again"):
        chains.guard.follow_from("P", low, actor="alice")
    chains.guard.resume("P", actor="alice")
    caught_up = chains.guard.catch_up("P")
    assert caught_up.position == 60
    assert chains.model() == chains.expected("S1#9")
    chains.log.append("S1", "S2")
    chains.order["failing"].clear()
    chains.guard.replay("P", actor="alice")
    assert chains.model() == chains.expected()
    assert chains.guard.checkpoint("P").events_processed == 62 - 4  # what a replay heals is not counted


def test_paused_it_rests_and_goes_on_with_another_executor(diagonal_bed: Bed, threads: ThreadPoolExecutor) -> None:
    """Nothing is applied while it rests; its counts go on where they were."""
    chains = Chains(diagonal_bed)
    chains.log.append_many(60, 5)
    job = one_by_one(chains, "pause")
    assert (job.status, job.finished_at) == ("paused", None)
    assert chains.model() != chains.expected()
    job = chains.guard.resume_replay(job.id, executor=threads, actor="bob")
    assert (job.status, job.events_replayed, job.position) == ("completed", 60, 60)
    assert chains.model() == chains.expected()


def test_a_worker_without_an_executor_takes_it_up(diagonal_bed: Bed) -> None:
    """It replays all slices by itself, each from where it is."""
    chains = Chains(diagonal_bed, failing=["S1#9"])
    chains.log.append_many(60, 5)
    job = one_by_one(chains, "pause")
    chains.guard.resume_replay(job.id, actor="bob")
    worker = chains.guard.real.worker(poll_seconds=0.05)
    work = going(diagonal_bed, worker.run)
    diagonal_bed.wait_until(lambda: chains.guard.replay_of(job.id).is_finished)
    diagonal_bed.run(worker.stop())
    diagonal_bed.wait_until(lambda: work.is_done)
    job = chains.guard.replay_of(job.id)
    assert (job.status, job.events_replayed, job.events_failed, job.events_skipped) == ("completed", 56, 1, 3)
    assert chains.model() == chains.expected("S1#9")


class Twice(ThreadPoolExecutor):
    """An executor that runs each task twice at once, as one may that takes the first for lost."""

    both: ClassVar[list[Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it twice."""
        self.both.extend([super().submit(fn, *args, **kwargs), super().submit(fn, *args, **kwargs)])
        return self.both[-1]


def test_a_task_that_runs_twice_applies_nothing_twice(diagonal_bed: Bed) -> None:
    """A slice has one lease: the second task finds it taken, nothing left to do, or the rebuild over."""
    chains = Chains(diagonal_bed)
    chains.log.append_many(200, 8)
    Twice.both.clear()
    with Twice(4) as twice:
        job = chains.guard.rebuild("P", executor=twice, slices=2, actor="alice")
        diagonal_bed.wait_until(lambda: all(each.done() for each in twice.both))
    assert (job.status, job.events_replayed) == ("completed", 200)
    assert {each.result().waits for each in twice.both} <= {"another task has it", "active", None}
    assert chains.model() == chains.expected()


def test_a_task_that_stood_still_cannot_write_any_more(bed: Bed, threads: ThreadPoolExecutor) -> None:
    """Its lease ended before its transaction began, and another task has replayed the slice: it lacks the row."""
    chains = Chains(bed)
    chains.log.append_many(40, 3)
    io, others = chains.guard.real._service.context.io, list[SliceDone]()
    begin = io.begin

    async def stands_still() -> Any:
        in_hand = bed.rows("SELECT 1 FROM projection_partitions WHERE partition < -1 AND hand_first IS NOT NULL")
        if in_hand and not others:
            others.append(SliceDone())
            bed.change("UPDATE projection_partitions SET lease_expires_at = '2000-01-01 00:00:00.000000'")
            (job,) = bed.rows("SELECT id, lease_owner FROM projection_replays")
            done = chains.guard.real.run_slice(
                SliceOrder(
                    projection="P",
                    job=UUID(str(job.id)),
                    token=job.lease_owner,
                    numbers=(0,),
                    of=1,
                    until=40,
                    seconds=60.0,
                )
            )
            others.append(await done if bed.is_async else done)
        return await begin()

    io.begin = stands_still
    job = chains.guard.rebuild("P", executor=threads, slices=1, actor="alice")
    assert others[-1].applied == 40
    assert (job.status, job.events_replayed) == ("completed", 40)
    assert chains.model() == chains.expected()


class Late(ThreadPoolExecutor):
    """One that mislays the first task for a slice; the next one of its kind runs it before any other."""

    mislaid: ClassVar[list[tuple[Callable[..., Any], SliceOrder]]] = []
    done: ClassVar[list[SliceDone]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it, or mislay it."""
        (order,) = args
        if 0 in order.numbers and not self.mislaid:
            self.mislaid.append((fn, order))
            lost = Future[Any]()
            lost.cancel()
            return lost
        if order.numbers and self.mislaid and not self.done and order.job != self.mislaid[0][1].job:
            run, late = self.mislaid[0]
            self.done.append(run(late))
        return super().submit(fn, *args, **kwargs)


def test_a_task_that_stood_still_leaves_the_slices_of_a_later_rebuild_alone(bed: Bed) -> None:
    """It stood still until its rebuild was over: those are other slices, of another job."""
    chains = Chains(bed)
    chains.log.append_many(60, 9)
    Late.mislaid.clear()
    Late.done.clear()
    with Late(2) as late:
        chains.guard.rebuild("P", executor=late, slices=2, actor="alice")
        job = chains.guard.rebuild("P", executor=late, slices=3, actor="alice")
    assert [each.applied for each in Late.done] == [0]
    assert (job.status, job.events_replayed) == ("completed", 60)
    assert chains.model() == chains.expected()


def test_slices_are_dealt_out_to_whoever_has_none() -> None:
    """In turn, beginning with those that are furthest behind; nobody waits long for what others have left."""
    assert dealt([3, 1, 2, 0, 4], 2) == [(3, 2, 4), (1, 0)]
    assert dealt([3, 1], 5) == [(3,), (1,)]
    assert dealt([3, 1], 0) == dealt([3, 1], -1) == dealt([], 2) == []
    assert [task_seconds(gone_on) for gone_on in (0, 8, 3600)] == [0.25, 1.0, 5.0]


def test_it_is_built_beside_the_live_read_model(diagonal_bed: Bed, threads: ThreadPoolExecutor) -> None:
    """Slices build the tables beside; the end, with what came meanwhile, is as that of one in one piece."""
    if diagonal_bed.database == "mariadb":
        pytest.skip("nothing is built beside on MariaDB")
    chains = Chains(diagonal_bed, tables=["chains"], failing=["S1#4"])
    chains.log.append_many(60, 5)
    chains.guard.catch_up("P")
    diagonal_bed.change("UPDATE chains SET digest = 'spoilt' WHERE stream = 'S2'")
    alone = chains.guard.rebuild("P", into="next", max_failures=1, actor="alice")
    assert chains.model() == chains.expected("S1#4")
    diagonal_bed.change("UPDATE chains SET digest = 'spoilt' WHERE stream = 'S2'")
    job = chains.guard.rebuild("P", into="next", max_failures=1, executor=threads, actor="alice")
    assert (job.status, job.events_replayed, job.events_failed, job.events_skipped) == ("completed", 48 + 3, 1, 8)
    assert chains.model() == chains.expected("S1#4")
    assert [each["only_before"] for each in job.compared] == [each["only_before"] for each in alone.compared] == [1]
    assert states_of(diagonal_bed, "P")["S1#4"] == "failed"


def test_what_is_built_beside_says_nothing_of_the_live_read_model(diagonal_bed: Bed) -> None:
    """Where the log is still compared with what was pushed, slices that are ahead have not applied it there (P1)."""
    bed = diagonal_bed
    if bed.database == "mariadb":
        pytest.skip("nothing is built beside on MariaDB")
    chains = Chains(bed, tables=["chains"])
    chains.log.append_many(60, 5)
    old = bed.guard()
    register(old.real, body({}), chains.order, is_async=bed.is_async)
    old.publish(chains.log.appended[0])
    asked = Asked(actor="alice", is_rebuild=True, into="next", slices=2, events_per_second=20)
    job = bed.run(started(chains.guard, asked))
    high = "SELECT max(p.cursor) FROM projection_partitions p WHERE p.partition < -1"
    bed.wait_until(lambda: run_for(bed, chains.guard, job, steps=1).id == job.id and (bed.value(high) or 0) > 5)
    chains.guard.catch_up("P")
    chains.guard.cancel_replay(job.id, actor="alice")
    assert chains.model() == chains.expected()


def started(guard: GuardOnBed, asked: Asked) -> Any:
    """Begin a job in slices that nobody runs yet."""
    starting = guard.real._service.on_log.start_replay("P", asked)
    return starting if guard.bed.is_async else drive(starting)


def test_what_cannot_be_spread_is_refused(blocking_bed: Bed, processes: ProcessPoolExecutor) -> None:
    """In a sentence, before anything is cleared."""
    chains = Chains(blocking_bed)
    chains.log.append("A", "B")
    chains.guard.catch_up("P")

    def refused(error: type[Exception], words: str, **options: Any) -> None:
        with pytest.raises(error, match=words):
            chains.guard.rebuild("P", actor="alice", **options)

    refused(InvalidArgument, "go with executor=", slices=2)
    refused(InvalidArgument, "how they come by their guard", executor=processes)
    refused(InvalidArgument, "takes a concurrent.futures.Executor", executor=4)
    refused(InvalidArgument, "no lambda", executor=processes, guard_factory=lambda: None)
    refused(InvalidArgument, "takes module:attribute", executor=processes, guard_factory="shop")
    refused(ConfigurationError, "No module named 'nowhere'", executor=processes, guard_factory="nowhere:made")
    refused(ConfigurationError, "gave a str, not a", executor=processes, guard_factory="os:getcwd")
    refused(UnknownProjection, "'P'", executor=processes, guard_factory=chains.factory(name="Q"))
    with ThreadPoolExecutor(1) as ended:
        refused(InvalidArgument, "slices= takes a number from 1 to 256", executor=ended, slices=0)
    refused(ExecutorLost, "runs nothing", executor=ended)
    assert chains.guard.replays("P").items == ()
    assert chains.model() == chains.expected()


def test_one_line_has_no_slices(blocking_bed: Bed, threads: ThreadPoolExecutor) -> None:
    """With order="global" nothing can be done beside the rest."""
    chains = Chains(blocking_bed, order="global")
    with pytest.raises(InvalidArgument, match="all its events are one line"):
        chains.guard.rebuild("P", executor=threads, actor="alice")
    job = chains.guard.start_replay("P", rebuild=True, actor="alice")
    with pytest.raises(InvalidArgument, match="in one piece"):
        chains.guard.resume_replay(job.id, executor=threads, actor="alice")
