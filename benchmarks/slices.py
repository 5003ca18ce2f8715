"""A rebuild over a pool of two processes, against one in one piece, where the handler has something to compute.

Two processes of a handler and the server share the machine's cores: with two of them the ratio says what is left of a
speed-up there, not what a cluster has. The processor time of an event, beside it, is that of all processes of ours,
so that of two runs beside other work it is the more alike. Where the handler waits for something else, only how evenly
the streams are dealt out counts: two threads can gain 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from statistics import median
from time import perf_counter, process_time, sleep

from sqlalchemy import Connection, Engine, create_engine, text

from projection_guard import ProjectionGuard, Replay, SqlEventSource

from ._bed import Counted, Run, bed, insert
from ._harness import Block, measure
from ._log import TABLE, decode, log_in
from ._report import Row

__all__ = ["guard_here", "on_postgresql", "spent_here"]

_PROCESSES = 2
_PER_ROUND = 8_000
_FEWEST = 2_000
"""To begin and to end a rebuild in slices takes a fifth of a second: of a shorter log that would be the figure."""
_ROUNDS = 5
_WORK = 12_000
_WAITING = 1_000
_WAIT_SECONDS = 0.005
_URL = "PROJECTION_GUARD_BENCHMARK_URL"
_NAME = "slices"


def computed(event: Counted, connection: Connection) -> None:
    """Compute for half a millisecond or so, and write one row."""
    total = event.amount
    for number in range(_WORK):
        total ^= number
    insert(event, connection)


def waited(event: Counted, connection: Connection) -> None:
    """Wait for something else, and write one row."""
    sleep(_WAIT_SECONDS)
    insert(event, connection)


def clear(connection: Connection) -> None:
    """Clear the read model."""
    connection.execute(text("DELETE FROM read_model"))


def guard_here() -> ProjectionGuard:
    """Make the guard of this process; each of the pool's has its own."""
    return _guard(create_engine(os.environ[_URL]), computed)


def _guard(engine: Engine, handler: Callable[[Counted, Connection], None]) -> ProjectionGuard:
    guard = ProjectionGuard(engine, source=SqlEventSource(engine, TABLE, decode=decode), worker="external")
    guard.projection(_NAME, handles=[Counted], on_reset=clear)(handler)
    return guard


def on_postgresql(run: Run) -> list[Row]:
    """Measure a rebuild by two processes, and one by two threads, over one in one piece, on PostgreSQL."""
    return [_computing(run), _waiting(run)]


def _waiting(run: Run) -> Row:
    number = max(run.size(_WAITING), _WAITING // 2)
    with bed(run) as url, ExitStack() as stack:
        engine = create_engine(url)
        stack.callback(engine.dispose)
        log_in(engine).up_to(number)
        guard = stack.enter_context(_guard(engine, waited))
        pool = stack.enter_context(ThreadPoolExecutor(_PROCESSES))
        spent = Spent(process_time)
        variants: dict[str, Block] = {
            "in one piece": _block(engine, spent, lambda: guard.rebuild(_NAME, actor="benchmark")),
            "in slices": _block(engine, spent, lambda: guard.rebuild(_NAME, executor=pool, actor="benchmark")),
        }
        samples = measure(variants, rounds=run.rounds(_ROUNDS - 2), per_round=number)
    return Row(
        benchmark="slices",
        measure=f"speed-up of a rebuild over a pool of {_PROCESSES} threads, over one in one piece",
        ratio=samples.ratio("in one piece", "in slices"),
        microseconds=samples.microseconds("in slices"),
        baseline_microseconds=samples.microseconds("in one piece"),
        remark=f"the handler waits for {_WAIT_SECONDS * 1000:.0f} ms, then writes one row",
    )


def _computing(run: Run) -> Row:
    number = max(run.size(_PER_ROUND), _FEWEST)
    with bed(run) as url, ExitStack() as stack:
        os.environ[_URL] = url
        stack.callback(os.environ.pop, _URL)
        engine = create_engine(url)
        stack.callback(engine.dispose)
        log_in(engine).up_to(number)
        guard = stack.enter_context(_guard(engine, computed))
        pool = stack.enter_context(ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")))
        alone, spread = Spent(process_time), Spent(lambda: process_time() + _spent_by(pool))
        variants: dict[str, Block] = {
            "in one piece": _block(engine, alone, lambda: guard.rebuild(_NAME, actor="benchmark")),
            "in slices": _block(
                engine, spread, lambda: guard.rebuild(_NAME, executor=pool, guard_factory=guard_here, actor="benchmark")
            ),
        }
        samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=number)
    return Row(
        benchmark="slices",
        measure=f"speed-up of a rebuild over a pool of {_PROCESSES} processes, over one in one piece",
        ratio=samples.ratio("in one piece", "in slices"),
        microseconds=samples.microseconds("in slices"),
        baseline_microseconds=samples.microseconds("in one piece"),
        remark=(
            "the handler computes, then writes one row; the server has the same cores. Processor time an event: "
            f"{spread.microseconds():.0f} us, in one piece {alone.microseconds():.0f} us"
        ),
    )


class Spent:
    """Sums up the processor time of our processes, by what reads it."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read
        self._each: list[float] = []

    def note(self, seconds: float, number: int) -> None:
        """Note what so many events have taken."""
        self._each.append(seconds / number)

    def microseconds(self) -> float:
        """Return the median of the rounds, but for the first, in which processes begin."""
        return median(self._each[1:]) * 1e6


def spent_here() -> tuple[int, float]:
    """Return which process of the pool this is, and its processor time; slowly, so that the others are asked, too."""
    sleep(0.02)
    return os.getpid(), process_time()


def _spent_by(pool: ProcessPoolExecutor) -> float:
    found: dict[int, float] = {}
    while len(found) < _PROCESSES:
        found.update(each.result() for each in [pool.submit(spent_here) for _ in range(_PROCESSES)])
    return sum(found.values())


def _block(engine: Engine, spent: Spent, rebuild: Callable[[], Replay]) -> Block:
    def block(number: int) -> float:
        before, started = spent.read(), perf_counter()
        job = rebuild()
        taken = perf_counter() - started
        spent.note(spent.read() - before, number)
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT count(*), count(DISTINCT event_id) FROM read_model")).one()
        assert (job.status, *rows) == ("completed", number, number)
        return taken

    return block
