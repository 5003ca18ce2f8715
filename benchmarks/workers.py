"""Two processes that share a log by partitions, against one: the speed-up, where the server has the same two cores."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter

from sqlalchemy import create_engine

from ._bed import Run, bed
from ._child import Task, begun
from ._harness import Block, Samples, measure
from ._log import Log, applied_once, log_in
from ._report import Row

__all__ = ["on_postgresql"]

_WORKERS = 2
_PARTITIONS = 2
_ROUNDS = 5
_PER_ROUND = 20_000


def on_postgresql(run: Run) -> list[Row]:
    """Measure one and two workers, by loops of their own and guarded, on PostgreSQL."""
    with ExitStack() as stack:
        variants: dict[str, Block] = {}
        for is_guarded in (False, True):
            for workers in (1, _WORKERS):
                url = stack.enter_context(bed(run))
                engine = create_engine(url)
                stack.callback(engine.dispose)
                variants[_name(workers, is_guarded=is_guarded)] = _workers(
                    log_in(engine), url, workers, is_guarded=is_guarded
                )
        samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=run.size(_PER_ROUND))
    return [_row(samples)]


def _name(workers: int, *, is_guarded: bool) -> str:
    return f"{'guarded' if is_guarded else 'unguarded'} {workers}"


def _workers(log: Log, url: str, workers: int, *, is_guarded: bool) -> Block:
    """Return what has so many events worked off by so many processes; their start is not in its time."""

    def block(number: int) -> float:
        after = log.last
        log.up_to(after + number)
        tasks = [
            Task(
                url=url,
                is_guarded=is_guarded,
                after=after,
                worker=worker,
                workers=workers,
                partitions=_PARTITIONS if is_guarded else None,
            )
            for worker in range(workers)
        ]
        with applied_once(log.engine, number), begun(*tasks) as children:
            started = perf_counter()
            for child in children:
                child.begin()
            for child in children:
                child.done()
            return perf_counter() - started

    return block


def _row(samples: Samples) -> Row:
    one, two = (_name(workers, is_guarded=False) for workers in (1, _WORKERS))
    bare = f"unguarded loops: {samples.ratio(one, two):.2f}, {samples.microseconds(two):.0f} us"
    one, two = (_name(workers, is_guarded=True) for workers in (1, _WORKERS))
    return Row(
        benchmark="workers",
        measure=f"speed-up of {_WORKERS} workers over {_PARTITIONS} partitions",
        ratio=samples.ratio(one, two),
        target=1.6,
        target_is="at least",
        microseconds=samples.microseconds(two),
        baseline_microseconds=samples.microseconds(one),
        remark=bare,
    )
