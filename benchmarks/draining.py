"""What an event costs that was parked, once nothing before it is unresolved: against the one that is published."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

from sqlalchemy import create_engine, text

from projection_guard import ProjectionGuard

from ._bed import Counted, Run, bed, events, insert
from ._harness import Block, measure, timed
from ._report import Row

__all__ = ["on_postgresql"]

_PROJECTION = "drained"
_ROUNDS = 8
_PER_ROUND = 500


def on_postgresql(run: Run) -> list[Row]:
    """Measure one stream's line, drained by a joined handler: as it is, and each event by itself."""
    with _ways(run) as blocks:
        samples = measure(blocks, rounds=run.rounds(_ROUNDS), per_round=_PER_ROUND)
    return [
        Row(
            benchmark="draining",
            measure=f"parked events are drained, {how}",
            ratio=samples.ratio(how, "published"),
            target=target,
            microseconds=samples.microseconds(how),
            baseline_microseconds=samples.microseconds("published"),
        )
        for how, target in (("as a line", 1.0), ("one by one", None))
    ]


@contextmanager
def _ways(run: Run) -> Generator[dict[str, Block]]:
    with bed(run) as url:
        engine = create_engine(url)
        with ProjectionGuard(engine, worker="external") as guard:
            guard.projection(_PROJECTION, handles=[Counted])(insert)
            publish = guard.publisher().publish

            def drained(number: int, *, alone: bool) -> float:
                guard.pause(_PROJECTION, actor="the benchmark")
                timed(publish, events(number, streams=1, prefix="line"))
                if alone:  # as after the death of a process: each is taken by itself
                    with engine.begin() as connection:
                        connection.execute(text("UPDATE projection_parked_events SET attempts = -1"))
                guard.resume(_PROJECTION, actor="the benchmark")
                worker, left, began = guard.worker(), number, perf_counter()
                while left:
                    left -= worker.run_once().drained
                return perf_counter() - began

            yield {
                "published": lambda number: timed(publish, events(number, streams=1, prefix="other")),
                "as a line": lambda number: drained(number, alone=False),
                "one by one": lambda number: drained(number, alone=True),
            }
        engine.dispose()
