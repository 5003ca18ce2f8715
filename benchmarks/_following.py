"""All that the benchmarks use of following: who changes its API changes this module and no other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection, Engine

from projection_guard import ProjectionGuard, SqlEventSource

from ._bed import Counted
from ._harness import Samples
from ._log import TABLE, decode
from ._report import Row

__all__ = ["Follower", "Handler", "compared", "following"]

Handler = Callable[[Counted, Connection], None] | Callable[[Sequence[Counted], Connection], None]


class Follower:
    """A guard over the log, with one projection."""

    def __init__(self, guard: ProjectionGuard, name: str) -> None:
        self._guard = guard
        self._name = name
        self._publisher = guard.publisher()

    def catch_up(self) -> None:
        """Read the log from the cursor to its head."""
        self._guard.catch_up(self._name)

    def publish(self, event: Counted) -> None:
        """Say that this event is in the log: wakes who follows."""
        self._publisher.publish(event)


@contextmanager
def following(
    engine: Engine,
    name: str,
    handler: Handler,
    *,
    batch: int | None = None,
    partitions: int | None = None,
    is_running: bool = False,
) -> Generator[Follower]:
    """Yield what follows the log that is in this database. `is_running`: in the background, in this process."""
    source = SqlEventSource(engine, TABLE, decode=decode)
    with ProjectionGuard(engine, source=source, worker="external") as guard:
        guard.projection(name, handles=[Counted], batch=batch, partitions=partitions or 1)(handler)
        with guard.worker() if is_running else nullcontext():
            yield Follower(guard, name)


def compared(
    samples: Samples, ours: str, baseline: str, *, benchmark: str, measure: str, target: float, remark: str = ""
) -> Row:
    """Make the row of one of ours against its baseline."""
    return Row(
        benchmark=benchmark,
        measure=measure,
        ratio=samples.ratio(ours, baseline),
        target=target,
        microseconds=samples.microseconds(ours),
        baseline_microseconds=samples.microseconds(baseline),
        remark=remark,
    )
