"""An application of `eventsourcing`, its own runner and ours on the same log; the projection and its view unchanged.

Its `ProjectionRunner` is measured as the peers are, from its first event to its last. Ours is a whole `catch_up`, with
what begins and ends it. "guarded" is the same projection with a view of its own; "joined" a handler that writes the
same row in the guard's transaction.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, create_engine, text

from ._bed import STREAMS, Run, bed
from ._harness import Block, Samples, measure
from ._log import applied_once
from ._report import Row
from ._stored import tidy

__all__ = ["on_postgresql"]

_ROUNDS = 10
_PER_ROUND = 2_000
_NATIVE, _GUARDED, _JOINED = "native", "guarded", "joined"
_INSERT = text("INSERT INTO read_model (event_id, stream_id, amount) VALUES (:event_id, :stream_id, :amount)")


def on_postgresql(run: Run) -> list[Row]:
    """Measure the three in turns; where the library is not installed, say so."""
    if find_spec("eventsourcing") is None:
        return [
            Row(benchmark="eventsourcing", measure="all", remark='not measured: pip install "eventsourcing[postgres]"')
        ]
    with bed(run) as url, _variants(url) as variants:
        samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=run.size(_PER_ROUND))
    return [
        _row(samples, _GUARDED, "its projection and view, guarded, over its ProjectionRunner"),
        _row(samples, _JOINED, "a joined handler that writes the same row, over its ProjectionRunner"),
    ]


def _row(samples: Samples, ours: str, what: str) -> Row:
    return Row(
        benchmark="eventsourcing",
        measure=what,
        ratio=samples.ratio(ours, _NATIVE),
        microseconds=samples.microseconds(ours),
        baseline_microseconds=samples.microseconds(_NATIVE),
        remark="time, ours over theirs",
    )


@contextmanager
def _variants(url: str) -> Generator[dict[str, Block]]:
    from eventsourcing.application import Application
    from eventsourcing.persistence import InfrastructureFactory
    from eventsourcing.utils import Environment

    from projection_guard import ProjectionGuard
    from projection_guard.eventsourcing import ApplicationSource, guard_projection

    from ._peer_eventsourcing import Counter, Rows, View, count, environment_of, run

    settings = environment_of(url)
    with ExitStack() as stack:
        engine = create_engine(url)
        stack.callback(engine.dispose)
        application = stack.enter_context(Application[UUID](env=settings))
        counters = [Counter(event_id=str(uuid4())) for _ in range(STREAMS)]
        application.save(*counters)
        run(settings, 0)
        factory: Any = InfrastructureFactory.construct(Environment(_GUARDED, settings))
        stack.callback(factory.close)
        guard = ProjectionGuard(engine, source=ApplicationSource(application), worker="external")
        stack.enter_context(guard)
        guard_projection(guard, Rows(factory.tracking_recorder(View)), _GUARDED)
        guard.projection(_JOINED, handles=[Counter.Counted])(_insert)
        guard.catch_up()
        log = _Log(engine, lambda number: count(application, counters, number))
        yield {
            _NATIVE: log.turns(lambda number: run(settings, number)),
            _GUARDED: log.turns(lambda _: _caught_up(guard, _GUARDED)),
            _JOINED: log.turns(lambda _: _caught_up(guard, _JOINED)),
        }


def _insert(counted: Any, connection: Connection) -> None:
    row = {"event_id": counted.event_id, "stream_id": str(counted.originator_id), "amount": counted.amount}
    connection.execute(_INSERT, row)


def _caught_up(guard: Any, name: str) -> float:
    started = perf_counter()
    guard.catch_up(name)
    return perf_counter() - started


class _Log:
    """The application's log: whoever comes first appends what a round lacks, the others find it there."""

    def __init__(self, engine: Engine, append: Any) -> None:
        self._engine = engine
        self._append = append
        self._length = 0

    def turns(self, apply: Any) -> Block:
        """Return what has so many events applied, each of them once."""
        done = 0

        def block(number: int) -> float:
            nonlocal done
            done += number
            if done > self._length:
                self._append(done - self._length)
                self._length = done
                tidy(self._engine)
            with applied_once(self._engine, number):
                seconds: float = apply(number)
            return seconds

        return block
