"""A handler that writes one row through the guard's connection, against the same one in its own `engine.begin()`."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from projection_guard import AsyncProjectionGuard, ProjectionGuard

from ._bed import Counted, Run, bed, events, insert, insert_async
from ._harness import Block, measure, timed, timed_async
from ._report import Row

__all__ = ["async_variants", "blocking_variants", "on_postgresql", "rows_of"]

_WARM_UP = 20
_PER_ROUND = 600
_ROUNDS = 20


def on_postgresql(run: Run) -> list[Row]:
    """Measure on PostgreSQL, blocking and async, the worker in this process or elsewhere."""
    rows: list[Row] = []
    with bed(run) as url:
        with blocking_variants(url) as variants:
            rows += rows_of("joined", "PostgreSQL, blocking", variants, run, target=1.8)
        with async_variants(url) as variants:
            rows += rows_of("joined", "PostgreSQL, async", variants, run, target=1.7)
    return rows


def rows_of(
    benchmark: str,
    measured: str,
    variants: dict[str, Block],
    run: Run,
    *,
    target: float | None,
    per_round: int = _PER_ROUND,
) -> list[Row]:
    """Measure guarded over unguarded: with the worker in this process, and with none."""
    samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=per_round)
    return [
        Row(
            benchmark=benchmark,
            measure=f"{measured}{suffix}",
            ratio=samples.ratio(variant, "unguarded"),
            target=wanted,
            microseconds=samples.microseconds(variant),
            baseline_microseconds=samples.microseconds("unguarded"),
        )
        for variant, suffix, wanted in (("auto", "", target), ("external", ', worker="external"', None))
    ]


@contextmanager
def blocking_variants(url: str) -> Generator[dict[str, Block]]:
    """Yield the unguarded handler, and the guarded one with and without a worker, on one engine of the host's."""
    engine = create_engine(url)

    def unguarded(number: int) -> float:
        def publish(event: Counted) -> None:
            with engine.begin() as connection:
                insert(event, connection)

        timed(publish, events(_WARM_UP))
        return timed(publish, events(number))

    with ProjectionGuard(engine, worker="external") as external:
        external.projection("external", handles=[Counted])(insert)

        def without_worker(number: int) -> float:
            publish = external.publisher().publish
            timed(publish, events(_WARM_UP))
            return timed(publish, events(number))

        yield {"unguarded": unguarded, "auto": lambda number: _with_worker(engine, number), "external": without_worker}
    engine.dispose()


def _with_worker(engine: Engine, number: int) -> float:
    """Let a guard and its worker live for one turn only: its worker must not run in the turns of others."""
    with ProjectionGuard(engine) as guard:
        guard.projection("auto", handles=[Counted])(insert)
        publish = guard.publisher().publish
        timed(publish, events(_WARM_UP))
        return timed(publish, events(number))


@contextmanager
def async_variants(url: str) -> Generator[dict[str, Block]]:
    """Yield the same for asyncio, on one loop."""
    with asyncio.Runner() as runner:
        engine = create_async_engine(url)
        external = AsyncProjectionGuard(engine, worker="external")
        external.projection("external", handles=[Counted])(insert_async)

        async def unguarded(number: int) -> float:
            async def publish(event: Counted) -> None:
                async with engine.begin() as connection:
                    await insert_async(event, connection)

            await timed_async(publish, events(_WARM_UP))
            return await timed_async(publish, events(number))

        async def without_worker(number: int) -> float:
            publish = external.publisher().publish
            await timed_async(publish, events(_WARM_UP))
            return await timed_async(publish, events(number))

        yield {
            "unguarded": lambda number: runner.run(unguarded(number)),
            "auto": lambda number: runner.run(_with_worker_async(engine, number)),
            "external": lambda number: runner.run(without_worker(number)),
        }
        runner.run(external.close())
        runner.run(engine.dispose())


async def _with_worker_async(engine: AsyncEngine, number: int) -> float:
    async with AsyncProjectionGuard(engine) as guard:
        guard.projection("auto", handles=[Counted])(insert_async)
        publish = guard.publisher().publish
        await timed_async(publish, events(_WARM_UP))
        return await timed_async(publish, events(number))
