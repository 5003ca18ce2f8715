"""Samples of how projections stand: one a minute and projection, read in buckets, forgotten after a week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import BigInteger, Connection, Table, bindparam, case, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from .._dialect import PerDialect, deleted_among, this_minute, total
from .._history import KEPT_MINUTES, Bucket, Span
from .._model import Health, HealthStatus
from .._tables import ProjectionSample

__all__ = ["Sampled", "keep", "prune", "sampled"]

Z = ProjectionSample

_keep = PerDialect(lambda insert: insert(Z).on_conflict_do_nothing())


def keep(connection: Connection, minute: int, healths: Sequence[Health]) -> None:
    """Put samples of a minute on record, in one statement; those that are there stay as they are.

    They are given in the order of their names, so that two workers do not wait for each other.
    """
    if healths:
        connection.execute(_keep.of(connection), [_row(minute, health) for health in healths])


def _row(minute: int, health: Health) -> dict[str, object]:
    return {
        "projection_name": health.projection_name,
        "minute": minute,
        "events_processed": health.total_events_processed,
        "total_failures": health.total_failures,
        "active_failures": health.active_failures,
        "parked_events": health.parked_events,
        "lag_seconds": health.lag_seconds,
        "lag_events": health.lag_events,
        "avg_processing_time_ms": health.avg_processing_time_ms,
        "health_status": health.status.value,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The buckets of one projection, and which minute it is now."""

    minute: int
    buckets: tuple[Bucket, ...]


_STATUSES: Final[tuple[HealthStatus, ...]] = tuple(HealthStatus)
_SIZE: Final = bindparam("size", type_=BigInteger())
_first = (this_minute() - 1) // _SIZE - bindparam("buckets", type_=BigInteger()) + 1
"""The bucket with which the span begins."""


def _since_before(column: Any) -> ColumnElement[int]:
    before = func.lag(column).over(partition_by=Z.projection_name, order_by=Z.minute)
    since: ColumnElement[int] = column - before
    return since.label(column.key)


# One bucket more is read, so that the first sample of the span has one before it.
_each = (
    select(
        Z.projection_name,
        ((Z.minute - 1) // _SIZE).label("bucket"),
        _since_before(Z.minute),
        _since_before(Z.events_processed),
        _since_before(Z.total_failures),
        Z.active_failures,
        Z.parked_events,
        Z.lag_seconds,
        Z.lag_events,
        Z.avg_processing_time_ms,
        case({status.value: at for at, status in enumerate(_STATUSES)}, value=Z.health_status, else_=0).label("status"),
    )
    .where(Z.projection_name.in_(bindparam("names", expanding=True)), Z.minute > (_first - 1) * _SIZE)
    .subquery()
)


def _grown(column: Any) -> ColumnElement[int]:
    """Add up what a counter has grown by; where it was set back, it has not."""
    return total(case((column > 0, column), else_=0)).label(column.key)


_GAUGES: Final = ("active_failures", "parked_events", "lag_seconds", "lag_events", "avg_processing_time_ms", "status")
_buckets = (
    select(
        _each.c.projection_name,
        _each.c.bucket,
        this_minute().label("now"),
        total(_each.c.minute).label("minutes"),
        _grown(_each.c.events_processed),
        _grown(_each.c.total_failures),
        *(func.max(_each.c[gauge]).label(gauge) for gauge in _GAUGES),
    )
    .group_by(_each.c.projection_name, _each.c.bucket)
    .order_by(_each.c.projection_name, _each.c.bucket)
)


def sampled(connection: Connection, names: Sequence[str], span: Span) -> dict[str, Sampled]:
    """Read the buckets of a span and the one before it, of any number of projections in one query.

    Projections without samples are left out.
    """
    found: dict[str, list[Any]] = {}
    parameters = {"names": list(names), "size": span.bucket_minutes, "buckets": span.buckets}
    for row in connection.execute(_buckets, parameters):
        found.setdefault(row.projection_name, []).append(row)
    return {
        name: Sampled(minute=rows[0].now, buckets=tuple(_bucket(row) for row in rows)) for name, rows in found.items()
    }


def _bucket(row: Any) -> Bucket:
    return Bucket(
        number=row.bucket,
        minutes=None if row.minutes is None else int(row.minutes),
        events=int(row.events_processed),
        failures=int(row.total_failures),
        active_failures=row.active_failures,
        parked_events=row.parked_events,
        lag_seconds=row.lag_seconds,
        lag_events=row.lag_events,
        avg_processing_time_ms=row.avg_processing_time_ms,
        status=_STATUSES[int(row.status)],
    )


_IS_YET_TO_COME = Z.minute > this_minute() + 1
"""Taken while the clock was ahead: what is compared with it later would be wrong."""
_old = (
    select(Z.projection_name, Z.minute)
    .where(or_(Z.minute < this_minute() - KEPT_MINUTES, _IS_YET_TO_COME))
    .order_by(Z.minute)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)


def prune(connection: Connection, limit: int) -> int:
    """Forget up to `limit` samples that are older than a week, or of minutes yet to come; return how many."""
    return deleted_among(connection, cast("Table", Z.__table__), _old, {"limit": limit})
