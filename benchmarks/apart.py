"""A handler that does nothing and writes elsewhere, against a tracker that books every success in four statements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from projection_guard import AsyncProjectionGuard, ProjectionGuard

from ._bed import Counted, Run, bed, events
from ._harness import Block, measure, timed, timed_async
from ._report import Row

__all__ = ["on_postgresql"]

_WARM_UP = 20
_PER_ROUND = 600
_ROUNDS = 20
_TABLES = """
CREATE TABLE tracker_checkpoints (projection_name varchar(255) PRIMARY KEY, last_event_id varchar(255),
    last_event_type varchar(255), last_event_sequence bigint, checkpoint_at timestamptz, events_processed bigint);
CREATE TABLE tracker_metrics (projection_name varchar(255) PRIMARY KEY, total_events_processed bigint,
    active_failures bigint, last_success_at timestamptz, avg_processing_time_ms double precision,
    health_status varchar(32));
CREATE TABLE tracker_failures (id bigserial PRIMARY KEY, projection_name varchar(255), event_id varchar(255),
    resolved_at timestamptz);
CREATE UNIQUE INDEX ON tracker_failures (projection_name, event_id) WHERE resolved_at IS NULL;
"""
_ON_SUCCESS = tuple(
    text(statement)
    for statement in (
        """INSERT INTO tracker_checkpoints VALUES (:projection, :event_id, :event_type, :sequence, now(), 1)
           ON CONFLICT (projection_name) DO UPDATE SET last_event_id = excluded.last_event_id,
               last_event_type = excluded.last_event_type, last_event_sequence = excluded.last_event_sequence,
               checkpoint_at = now(), events_processed = tracker_checkpoints.events_processed + 1""",
        """INSERT INTO tracker_metrics VALUES (:projection, 1, 0, now(), 0.0, 'healthy')
           ON CONFLICT (projection_name) DO UPDATE SET
               total_events_processed = tracker_metrics.total_events_processed + 1, last_success_at = now()""",
        """UPDATE tracker_metrics SET health_status = CASE WHEN active_failures = 0 THEN 'healthy'
               WHEN active_failures < 10 THEN 'degraded' ELSE 'critical' END WHERE projection_name = :projection""",
        """UPDATE tracker_failures SET resolved_at = now()
           WHERE projection_name = :projection AND event_id = :event_id AND resolved_at IS NULL""",
    )
)


def on_postgresql(run: Run) -> list[Row]:
    """Measure on PostgreSQL, blocking and async, the worker in this process or elsewhere."""
    rows: list[Row] = []
    with bed(run) as url:
        for manner, variants_on in (("blocking", _blocking), ("async", _async)):
            with variants_on(url) as variants:
                samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=_PER_ROUND)
            for variant, suffix, target in (("auto", "", 0.25), ("external", ', worker="external"', None)):
                rows.append(
                    Row(
                        benchmark="apart",
                        measure=f"PostgreSQL, {manner}{suffix}",
                        ratio=samples.ratio(variant, "tracker"),
                        target=target,
                        microseconds=samples.microseconds(variant),
                        baseline_microseconds=samples.microseconds("tracker"),
                    )
                )
    return rows


def _handler(event: Counted) -> None:
    """Do nothing."""


async def _async_handler(event: Counted) -> None:
    """Do nothing."""


def _book(connection: Connection, event: Counted) -> None:
    parameters = {
        "projection": "tracked",
        "event_id": event.event_id,
        "event_type": type(event).__name__,
        "sequence": event.sequence,
    }
    for statement in _ON_SUCCESS:
        connection.execute(statement, parameters)


def _make_tables(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS tracker_checkpoints, tracker_metrics, tracker_failures")
        connection.exec_driver_sql(_TABLES)
    engine.dispose()


@contextmanager
def _blocking(url: str) -> Generator[dict[str, Block]]:
    _make_tables(url)
    engine = create_engine(url)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    def track(event: Counted) -> None:
        _handler(event)
        with autocommit.connect() as connection:
            _book(connection, event)

    with ProjectionGuard(engine, worker="external") as external:
        external.projection("external", handles=[Counted])(_handler)
        publish = external.publisher().publish
        yield {
            "tracker": _warm(track),
            "auto": lambda number: _with_worker(engine, number),
            "external": _warm(publish),
        }
    engine.dispose()


def _warm(do: Callable[[Counted], object]) -> Block:
    def block(number: int) -> float:
        timed(do, events(_WARM_UP))
        return timed(do, events(number))

    return block


def _with_worker(engine: Engine, number: int) -> float:
    with ProjectionGuard(engine) as guard:
        guard.projection("auto", handles=[Counted])(_handler)
        return _warm(guard.publisher().publish)(number)


@contextmanager
def _async(url: str) -> Generator[dict[str, Block]]:
    _make_tables(url)
    with asyncio.Runner() as runner:
        engine = create_async_engine(url)
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        external = AsyncProjectionGuard(engine, worker="external")
        external.projection("external", handles=[Counted])(_async_handler)
        publish = external.publisher().publish

        async def track(event: Counted) -> None:
            await _async_handler(event)
            async with autocommit.connect() as connection:
                await connection.run_sync(_book, event)

        async def tracker(number: int) -> float:
            await timed_async(track, events(_WARM_UP))
            return await timed_async(track, events(number))

        async def without_worker(number: int) -> float:
            await timed_async(publish, events(_WARM_UP))
            return await timed_async(publish, events(number))

        yield {
            "tracker": lambda number: runner.run(tracker(number)),
            "auto": lambda number: runner.run(_with_worker_async(engine, number)),
            "external": lambda number: runner.run(without_worker(number)),
        }
        runner.run(external.close())
        runner.run(engine.dispose())


async def _with_worker_async(engine: AsyncEngine, number: int) -> float:
    async with AsyncProjectionGuard(engine) as guard:
        guard.projection("auto", handles=[Counted])(_async_handler)
        publish = guard.publisher().publish
        await timed_async(publish, events(_WARM_UP))
        return await timed_async(publish, events(number))
