"""Workers and their signs of life, by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, delete, func, select, update

from .._dialect import PerDialect, later, seconds_between, total, utc_now
from .._records import SILENT_AFTER_SECONDS, WorkerKind, WorkerState
from .._tables import ProjectionWorker

__all__ = ["Headcount", "Introduction", "beat", "forget", "headcount", "leave", "seen", "stopping"]

W = ProjectionWorker
_KEPT_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a worker says of itself."""

    worker_id: str
    kind: WorkerKind
    host: str
    process_id: int
    library_version: str
    projections: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headcount:
    """How many workers are at work, and of how many nothing was heard for a minute."""

    at_work: int
    silent: int


_ITSELF: Final = W.worker_id == bindparam("itself")
_beat = PerDialect(
    lambda insert: (
        insert(W)
        .values(
            worker_id=bindparam("itself"),
            kind=bindparam("what"),
            host=bindparam("where"),
            process_id=bindparam("process"),
            library_version=bindparam("version"),
            projections=bindparam("named", type_=W.projections.type),
            started_at=utc_now(),
            seen_at=utc_now(),
        )
        .on_conflict_do_update(
            index_elements=[W.worker_id],
            set_={"seen_at": utc_now(), "projections": bindparam("named", type_=W.projections.type)},
        )
    )
)
_stopping = update(W).where(_ITSELF).values(stopping_at=utc_now(), seen_at=utc_now())
_leave = delete(W).where(_ITSELF)
_forget = delete(W).where(W.seen_at < later(bindparam("kept")))
_seen = select(W, seconds_between(W.seen_at, utc_now()).label("silent")).order_by(W.started_at, W.worker_id)
_SILENT_FOR: Final = seconds_between(W.seen_at, utc_now())
_headcount = select(
    func.coalesce(total(case((and_(_SILENT_FOR <= SILENT_AFTER_SECONDS, W.stopping_at.is_(None)), 1), else_=0)), 0),
    func.coalesce(total(case((_SILENT_FOR > SILENT_AFTER_SECONDS, 1), else_=0)), 0),
)


def beat(connection: Connection, itself: Introduction) -> None:
    """Write down that a worker is at work."""
    connection.execute(
        _beat.of(connection),
        {
            "itself": itself.worker_id,
            "what": itself.kind,
            "where": itself.host,
            "process": itself.process_id,
            "version": itself.library_version,
            "named": list(itself.projections),
        },
    )


def stopping(connection: Connection, worker_id: str) -> None:
    """Write down that a worker takes nothing up any more, and ends what it has in hand."""
    connection.execute(_stopping, {"itself": worker_id})


def leave(connection: Connection, worker_id: str) -> None:
    """Take a worker's row away: it has stopped."""
    connection.execute(_leave, {"itself": worker_id})


def forget(connection: Connection) -> None:
    """Take away the rows of those that were not heard of for a day."""
    connection.execute(_forget, {"kept": -_KEPT_SECONDS})


def seen(connection: Connection) -> tuple[WorkerState, ...]:
    """Return all workers that are on record, the oldest first."""
    return tuple(_state(row) for row in connection.execute(_seen))


def headcount(connection: Connection) -> Headcount:
    """Count the workers, without reading what each says of itself."""
    at_work, silent = connection.execute(_headcount).one()
    return Headcount(at_work=int(at_work), silent=int(silent))


def _state(row: Any) -> WorkerState:
    worker: ProjectionWorker = row
    return WorkerState(
        worker_id=worker.worker_id,
        kind="service" if worker.kind == "service" else "embedded",
        host=worker.host,
        process_id=worker.process_id,
        library_version=worker.library_version,
        projections=tuple(worker.projections),
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        stopping_at=worker.stopping_at,
        silent_seconds=max(float(row.silent), 0.0),
    )
