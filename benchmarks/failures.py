"""What an event costs where failures of other streams are stored: nothing more, however many they are."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from time import perf_counter

from sqlalchemy import Connection, Engine, create_engine, text

from projection_guard import ProjectionGuard

from ._bed import Counted, Run, bed, events, insert
from ._harness import Block, measure, timed
from ._report import Row
from ._stored import add_open, tidy

__all__ = ["on_postgresql"]

_STORED = (0, 1_000, 100_000)
_PROJECTION = "stored"
_ROUNDS = 12
_PER_ROUND = 400
_FAIL_PER_ROUND = 20
_WARM_UP = 20
_SETTLING_SECONDS = 1.2


class _Broken(Exception):
    """What the failing handler raises."""


def on_postgresql(run: Run) -> list[Row]:
    """Measure an event that is applied, and one that fails, beside stored failures."""
    rows: list[Row] = []
    with ExitStack() as stack:
        variants = {stored: stack.enter_context(_beside(run, stored)) for stored in _STORED}
        for manner, per_round in (
            ("applied", _PER_ROUND),
            ('applied, worker="external"', _PER_ROUND),
            ("failed", _FAIL_PER_ROUND),
        ):
            blocks = {str(stored): variants[stored][manner] for stored in _STORED}
            samples = measure(blocks, rounds=run.rounds(_ROUNDS), per_round=per_round)
            rows += [
                Row(
                    benchmark="failures",
                    measure=f"an event is {manner}, {stored:,} stored",
                    ratio=samples.ratio(str(stored), "0"),
                    target=1.1 if manner == "applied" else None,
                    microseconds=samples.microseconds(str(stored)),
                    baseline_microseconds=samples.microseconds("0"),
                )
                for stored in _STORED[1:]
            ]
    return rows


def _handler(event: Counted, connection: Connection) -> None:
    insert(event, connection)
    if event.stream_id.startswith("broken"):
        raise _Broken("it did not work out")


@contextmanager
def _beside(run: Run, stored: int) -> Generator[dict[str, Block]]:
    """Yield the ways of publishing in a database where so many failures are stored."""
    with bed(run) as url:
        engine = create_engine(url)
        with ProjectionGuard(engine, worker="external") as external:
            external.projection(_PROJECTION, handles=[Counted])(_handler)
            external.health(_PROJECTION)
            if stored:
                add_open(engine, _PROJECTION, stored)
            tidy(engine)
            publish = external.publisher().publish

            def applied(number: int) -> float:
                timed(publish, events(_WARM_UP))
                return timed(publish, events(number))

            def failed(number: int) -> float:
                timed(publish, events(_WARM_UP))  # a success: what fails is an event, not the whole projection
                taken = timed(publish, events(number, streams=number, prefix="broken"))
                _forget(engine)
                return taken

            yield {
                "applied": lambda number: _with_worker(engine, number),
                'applied, worker="external"': applied,
                "failed": failed,
            }
        engine.dispose()


def _with_worker(engine: Engine, number: int) -> float:
    with ProjectionGuard(engine) as guard:
        guard.projection(_PROJECTION, handles=[Counted])(_handler)
        publish = guard.publisher().publish
        # What a worker does once, when it starts, is no event's cost; what it does every second is.
        settled = perf_counter() + _SETTLING_SECONDS
        while perf_counter() < settled:
            timed(publish, events(_WARM_UP))
        return timed(publish, events(number))


def _forget(engine: Engine) -> None:
    """Take back what the failed events left, so that as many are stored as before."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM projection_attempts WHERE gate LIKE 'broken%%'")
        forgotten = connection.exec_driver_sql(
            "DELETE FROM projection_failures WHERE resolved_at IS NULL AND stream_id LIKE 'broken%%'"
        ).rowcount
        connection.exec_driver_sql("DELETE FROM projection_streams WHERE stream_id LIKE 'broken%%'")
        connection.execute(
            text("UPDATE projection_health_metrics SET active_failures = active_failures - :forgotten"),
            {"forgotten": forgotten},
        )
