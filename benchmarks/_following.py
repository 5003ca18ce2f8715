"""All that the benchmarks use of following: who changes its API changes this module and no other.

Until it is there, `IS_BUILT` is false and its rows say so: baselines and peers are measured all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from sqlalchemy import Connection, Engine

from projection_guard import ProjectionGuard
from projection_guard._sql_source import SqlEventSource  # not exported yet

from ._bed import Counted
from ._harness import Samples
from ._log import TABLE, decode
from ._report import Row

__all__ = ["CAN_SHARE", "IS_BUILT", "NOT_BUILT", "Follower", "Handler", "compared", "following"]

Handler = Callable[[Counted, Connection], None] | Callable[[Sequence[Counted], Connection], None]

IS_BUILT: Final = hasattr(ProjectionGuard, "catch_up")
CAN_SHARE: Final = False
"""Whether `following(partitions=...)` lets several processes share a projection."""
NOT_BUILT: Final = "not measured: following is not built yet"


class Follower:
    """A guard over the log, with one projection."""

    def __init__(self, guard: Any, name: str) -> None:
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
    if not IS_BUILT or (partitions is not None and not CAN_SHARE):
        raise NotImplementedError(NOT_BUILT)
    make: Any = ProjectionGuard
    options: dict[str, Any] = {"batch": batch, "partitions": partitions}
    given = {option: value for option, value in options.items() if value is not None}
    source = SqlEventSource(engine, TABLE, decode=decode)
    with make(engine, source=source, worker="external") as guard:
        guard.projection(name, handles=[Counted], **given)(handler)
        with guard.worker() if is_running else nullcontext():
            yield Follower(guard, name)


def compared(
    samples: Samples, ours: str, baseline: str, *, benchmark: str, measure: str, target: float, remark: str = ""
) -> Row:
    """Make the row of one of ours against its baseline; of the baseline alone where ours is not there."""
    is_there = ours in samples.seconds
    return Row(
        benchmark=benchmark,
        measure=measure,
        ratio=samples.ratio(ours, baseline) if is_there else None,
        target=target,
        microseconds=samples.microseconds(ours) if is_there else None,
        baseline_microseconds=samples.microseconds(baseline),
        remark=remark if is_there else NOT_BUILT,
    )
