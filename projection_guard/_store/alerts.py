"""Alerts as they are on record, and who looks.

Whoever looks holds the row of what he looks at (`take_looks`), and writes what he found in the same transaction: one
looks at a time, and a message comes about once. What is still to be given to receivers is in `messages`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)

from .._alert_rules import LeftJob, Standing
from .._alerts import AlertKind, OpenAlert
from .._dialect import Insert, PerDialect, later, seconds_between, statement_start, utc_now
from .._tables import (
    ProjectionAlert,
    ProjectionAlertDelivery,
    ProjectionAlertLook,
    ProjectionFailure,
    ProjectionReplay,
    ProjectionSkippedRange,
)

__all__ = [
    "WORKERS",
    "Place",
    "due_looks",
    "errors_met",
    "forget",
    "go_on",
    "holes",
    "left_jobs",
    "make_looks",
    "open_alerts",
    "put",
    "standing",
    "standing_of_workers",
    "take_looks",
]

A, D, L = ProjectionAlert, ProjectionAlertDelivery, ProjectionAlertLook
F, R, K = ProjectionFailure, ProjectionReplay, ProjectionSkippedRange
WORKERS: Final = ""
"""What is looked at beside the projections."""
_MOST_OPEN: Final = 10_000
_MOST_RANGES: Final = 10_000
_NEWEST_FAILURES: Final = 100
_SUBJECTS: Final[BindParameter[Any]] = bindparam("subjects", expanding=True)

# -- looking

_NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_make_looks = PerDialect(
    lambda insert: (
        insert(L)
        .values(subject=bindparam("subject"), looked_at=bindparam("never", type_=L.looked_at.type))
        .on_conflict_do_nothing()
    )
)
_due_looks = (
    select(L.subject).where(L.subject.in_(_SUBJECTS), L.looked_at <= later(bindparam("ago"))).order_by(L.subject)
)
_take_looks = _due_looks.with_for_update(skip_locked=True)
_looked = update(L).where(L.subject.in_(_SUBJECTS)).values(looked_at=utc_now())


def make_looks(connection: Connection, subjects: Sequence[str]) -> None:
    """Make the rows that are held while somebody looks, where they are not there."""
    statement = _make_looks.of(connection)
    for subject in sorted(subjects):
        connection.execute(statement, {"subject": subject, "never": _NEVER})


def due_looks(connection: Connection, subjects: Sequence[str], every_seconds: float) -> list[str]:
    """Name those at which nobody has looked for so long."""
    return list(connection.execute(_due_looks, {"subjects": subjects, "ago": -every_seconds}).scalars())


def take_looks(connection: Connection, subjects: Sequence[str], every_seconds: float) -> list[str]:
    """Hold those of them at which nobody looks just now, to the end of the transaction, and name them."""
    taken = list(connection.execute(_take_looks, {"subjects": subjects, "ago": -every_seconds}).scalars())
    if taken:
        connection.execute(_looked, {"subjects": taken})
    return taken


# -- facts beside those of the health


def holes(connection: Connection, projection: str) -> int:
    """Count the ranges in which there was nothing and nothing can come, up to 10,000."""
    some = select(literal(1)).where(K.projection_name == projection, ~K.given_up).limit(_MOST_RANGES).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


_left_jobs = select(
    R.projection_name,
    R.id,
    R.kind,
    seconds_between(func.coalesce(R.lease_expires_at, R.updated_at), utc_now()).label("left_for"),
).where(
    R.projection_name.in_(_SUBJECTS),
    R.finished_at.is_(None),
    R.wanted == "run",
    or_(R.lease_expires_at.is_(None), R.lease_expires_at <= statement_start()),
)


def left_jobs(connection: Connection, projections: Sequence[str]) -> dict[str, LeftJob]:
    """Return the replays and rebuilds that are to run, and that nobody runs."""
    rows = connection.execute(_left_jobs, {"subjects": projections})
    return {row.projection_name: LeftJob(id=row.id, kind=row.kind, for_seconds=float(row.left_for)) for row in rows}


def errors_met(connection: Connection, projection: str) -> list[dict[str, Any]]:
    """Count the types of errors among the newest unresolved failures; the three met most."""
    newest = (
        select(F.error_type, F.fingerprint)
        .where(F.projection_name == projection, F.resolved_at.is_(None))
        .order_by(F.failed_at.desc(), F.id.desc())
        .limit(_NEWEST_FAILURES)
    )
    met = Counter((row.error_type, row.fingerprint) for row in connection.execute(newest))
    return [
        {"error_type": kind, "fingerprint": fingerprint, "count": count}
        for (kind, fingerprint), count in met.most_common(3)
    ]


# -- what is on record

_STANDING: Final = Standing.__slots__


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose condition it is: a projection's, by its name, or a worker's, by its id; and which one."""

    subject: str
    kind: AlertKind


def standing(connection: Connection, subjects: Sequence[str]) -> dict[Place, Standing]:
    """Read what is on record of projections."""
    return _read(connection, A.subject.in_(subjects) & (A.kind != AlertKind.WORKER_GONE.value))


def standing_of_workers(connection: Connection) -> dict[Place, Standing]:
    """Read what is on record of workers."""
    return _read(connection, A.kind == AlertKind.WORKER_GONE.value)


def _read(connection: Connection, where: ColumnElement[bool]) -> dict[Place, Standing]:
    columns = [getattr(A, name) for name in _STANDING]
    rows = connection.execute(select(A.subject, A.kind, *columns).where(where).limit(_MOST_OPEN))
    return {
        Place(subject=row.subject, kind=AlertKind(row.kind)): Standing(
            **{name: getattr(row, name) for name in _STANDING}
        )
        for row in rows
    }


def _upsert(insert: Callable[[Any], Insert]) -> Insert:
    written = (*_STANDING, "severity", "title")
    values = {name: bindparam(name, type_=getattr(A, name).type) for name in ("subject", "kind", *written)}
    statement = insert(A).values(**values)
    return statement.on_conflict_do_update(
        index_elements=[A.subject, A.kind], set_={name: statement.excluded[name] for name in written}
    )


_put = PerDialect(_upsert)


def put(connection: Connection, place: Place, standing: Standing, *, severity: str, title: str) -> None:
    """Write what is on record of a condition from now on. Hold the look."""
    values = {name: getattr(standing, name) for name in _STANDING}
    named = {"subject": place.subject, "kind": place.kind.value, "severity": severity, "title": title}
    connection.execute(_put.of(connection), values | named)


def go_on(connection: Connection, place: Place, standing: Standing) -> None:
    """Write when a condition was seen to be lower, or will be told again: what was told of it stays. Hold the look."""
    values = {name: getattr(standing, name) for name in _STANDING}
    connection.execute(update(A).where(A.subject == place.subject, A.kind == place.kind.value).values(values))


def forget(connection: Connection, place: Place) -> None:
    """A condition is over, and was told to be. Hold the look."""
    connection.execute(delete(A).where(A.subject == place.subject, A.kind == place.kind.value))


def open_alerts(connection: Connection) -> list[OpenAlert]:
    """Return what people were told of and is not over, the oldest first, and who has not been given all of it."""
    undelivered: dict[tuple[str, str], set[str]] = {}
    for row in connection.execute(select(D.subject, D.kind, D.receiver).distinct().limit(_MOST_OPEN)):
        undelivered.setdefault((row.subject, row.kind), set()).add(row.receiver)
    rows = connection.execute(select(A).where(A.told_at.is_not(None)).order_by(A.since, A.subject).limit(_MOST_OPEN))
    return [_open(row, undelivered.get((row.subject, row.kind), set())) for row in rows]


def _open(row: Any, undelivered: set[str]) -> OpenAlert:
    is_worker = row.kind == AlertKind.WORKER_GONE.value
    return OpenAlert(
        incident=row.incident,
        kind=AlertKind(row.kind),
        severity=row.severity,
        projection=None if is_worker else row.subject,
        worker=row.subject if is_worker else None,
        title=row.title,
        facts=row.facts,
        since=row.since,
        told_at=row.told_at,
        next_reminder_at=row.next_reminder_at,
        undelivered=tuple(sorted(undelivered)),
    )
