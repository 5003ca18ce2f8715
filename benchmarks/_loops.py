"""The loops that somebody would write for himself: what following is measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from ._bed import Counted
from ._log import page

__all__ = ["BATCH", "PAGE", "Share", "batches", "loop", "make_checkpoint"]

PAGE = 100
BATCH = 500
_CHECKPOINT = text("UPDATE checkpoint SET position = :position")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The streams that one of several workers takes."""

    number: int
    of: int


def loop(
    engine: Engine, handler: Callable[[Counted, Connection], object], *, after: int, share: Share | None = None
) -> None:
    """Call a handler for each event up to the log's head: a transaction a page, and nothing else."""
    events: list[Counted] | None = None
    while events is None or len(events) == PAGE:
        with engine.begin() as connection:
            events = page(connection, after, PAGE)
            for event in events:
                if share is None or int(event.stream_id.rpartition("-")[2]) % share.of == share.number:
                    handler(event, connection)
        after = events[-1].sequence if events else after


def make_checkpoint(engine: Engine) -> None:
    """Make the table in which `batches` keeps its position."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE checkpoint AS SELECT CAST(0 AS bigint) AS position")


def batches(engine: Engine, handler: Callable[[Sequence[Counted], Connection], object], *, after: int) -> None:
    """Call a handler for each batch up to the log's head: a transaction a batch, which moves the checkpoint."""
    events: list[Counted] | None = None
    while events is None or len(events) == BATCH:
        with engine.begin() as connection:
            events = page(connection, after, BATCH)
            if events:
                handler(events, connection)
                after = events[-1].sequence
                connection.execute(_CHECKPOINT, {"position": after})
