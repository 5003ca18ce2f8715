"""Eight threads publish different streams to one projection: what the guard leaves of the speed-up they have alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from time import perf_counter

from sqlalchemy import Engine, create_engine

from projection_guard import ProjectionGuard

from ._bed import Counted, Run, bed, events, insert
from ._harness import Block, measure, timed
from ._report import Row

__all__ = ["on_postgresql"]

_THREADS = 8
_PER_ROUND = 400
_ROUNDS = 16
_WARM_UP = 20
_STREAMS_PER_THREAD = 20
Publish = Callable[[Counted], object]


def on_postgresql(run: Run) -> list[Row]:
    """Measure the speed-up of eight threads over one, unguarded and guarded, on PostgreSQL."""
    with bed(run) as url:
        # A pool of the default five would open and close three connections all the time.
        engine = create_engine(url, pool_size=_THREADS + 2)
        with ProjectionGuard(engine, worker="external") as external, ThreadPoolExecutor(_THREADS) as pool:
            external.projection("external", handles=[Counted])(insert)

            def by(threads: int, publish: Publish) -> Block:
                return lambda number: _spread(pool, threads, publish, number)

            variants: dict[str, Block] = {}
            for threads in (1, _THREADS):
                variants[f"unguarded {threads}"] = by(threads, lambda event: _unguarded(engine, event))
                variants[f"external {threads}"] = by(threads, external.publisher().publish)
                variants[f"auto {threads}"] = partial(_with_worker, engine, pool, threads)
            samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=_PER_ROUND)
        engine.dispose()

    def speed_ups(variant: str) -> list[float]:
        return samples.ratios(f"{variant} 1", f"{variant} {_THREADS}")

    rows: list[Row] = []
    for variant, suffix, target in (("auto", "", 0.85), ("external", ', worker="external"', None)):
        kept = [ours / theirs for ours, theirs in zip(speed_ups(variant), speed_ups("unguarded"), strict=True)]
        rows.append(
            Row(
                benchmark="threads",
                measure=f"PostgreSQL, speed-up of {_THREADS} threads{suffix}",
                ratio=median(kept),
                target=target,
                target_is="at least",
                microseconds=samples.microseconds(f"{variant} {_THREADS}"),
                baseline_microseconds=samples.microseconds(f"unguarded {_THREADS}"),
                remark=f"speed-up {median(speed_ups(variant)):.2f}, unguarded {median(speed_ups('unguarded')):.2f}",
            )
        )
    return rows


def _unguarded(engine: Engine, event: Counted) -> None:
    with engine.begin() as connection:
        insert(event, connection)


def _with_worker(engine: Engine, pool: ThreadPoolExecutor, threads: int, number: int) -> float:
    with ProjectionGuard(engine) as guard:
        guard.projection("auto", handles=[Counted])(insert)
        return _spread(pool, threads, guard.publisher().publish, number)


def _spread(pool: ThreadPoolExecutor, threads: int, publish: Publish, number: int) -> float:
    """Publish `number` events by so many threads, each with streams of its own; return the seconds it took in all."""
    shares = [events(number // threads, streams=_STREAMS_PER_THREAD, prefix=f"thread-{t}") for t in range(threads)]
    warm_ups = [events(_WARM_UP, streams=_STREAMS_PER_THREAD, prefix=f"thread-{t}") for t in range(threads)]
    list(pool.map(lambda share: timed(publish, share), warm_ups))
    started = perf_counter()
    list(pool.map(lambda share: timed(publish, share), shares))
    return perf_counter() - started
