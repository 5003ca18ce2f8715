"""Which failures a `FailureFilter` means: conditions of a statement, pages, groups and numbers of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, case, exists, func, literal, null, or_, select, tuple_, union_all
from sqlalchemy.orm import aliased
from sqlalchemy.sql.elements import ColumnElement

from .._dialect import total
from .._model import Failure, FailureFilter, FailureGroup, Order, Page
from .._tables import ParkedEvent, ProjectionFailure, ProjectionHealthMetrics, ProjectionState
from .cursors import beyond, cursor, read_cursor, read_number, time_cursor
from .failures import failure_of

__all__ = ["conditions", "count", "failures_page", "groups_page", "in_order", "number_of_each", "search"]

F, P, T, M = ProjectionFailure, ParkedEvent, ProjectionState, ProjectionHealthMetrics
_ROW: Final = F.__table__.c
_LONG: Final = ("event_payload", "error_traceback")
_BARE_ROW: Final = [null().label(column.key) if column.key in _LONG else column for column in _ROW]
_IS_EXHAUSTED: Final = case((F.next_retry_at.is_(None), 1), else_=0)
_MERGED_AT_ONCE: Final = 200
_UNRESOLVED: Final = FailureFilter()
Conditions = list[ColumnElement[bool]]
_EQUAL = ("projection_name", "error_type", "fingerprint", "event_type", "stream_id")


def conditions(
    connection: Connection,
    where: FailureFilter,
    *,
    include_resolved: bool = False,
    of: type[ProjectionFailure] = ProjectionFailure,
) -> Conditions:
    """Say in SQL which failures are meant, of the table or an alias of it."""
    found: Conditions = [
        getattr(of, name) == getattr(where, name) for name in _EQUAL if getattr(where, name) is not None
    ]
    if where.failed_from is not None:
        found.append(of.failed_at >= bindparam("failed_from", where.failed_from, type_=F.failed_at.type))
    if where.failed_until is not None:
        found.append(of.failed_at < bindparam("failed_until", where.failed_until, type_=F.failed_at.type))
    return found + _of_state(connection, where.state, of, include_resolved=include_resolved)


def _of_state(
    connection: Connection, state: str | None, of: type[ProjectionFailure], *, include_resolved: bool
) -> Conditions:
    match state:
        case "resolved":
            return [of.resolved_at.is_not(None)]
        case "scheduled":
            return [of.resolved_at.is_(None), of.next_retry_at.is_not(None)]
        case "exhausted":
            return [of.resolved_at.is_(None), of.next_retry_at.is_(None)]
        case "parked":
            return [of.resolved_at.is_(None), _has_parked_behind_it(connection, of)]
        case _:
            return [] if include_resolved else [of.resolved_at.is_(None)]


def _has_parked_behind_it(connection: Connection, of: type[ProjectionFailure]) -> ColumnElement[bool]:
    """Say that events wait behind a failure: those of its stream, in one line those of the whole projection."""
    in_one_line = list(connection.execute(select(T.projection_name).where(T.ordering == Order.GLOBAL.value)).scalars())
    of_its_stream = exists(select(literal(1)).where(P.projection_name == of.projection_name, P.gate == of.stream_id))
    if not in_one_line:
        return of_its_stream
    waiting = select(P.projection_name).where(P.projection_name.in_(in_one_line), P.gate == "")
    return or_(
        and_(of.projection_name.not_in(in_one_line), of_its_stream),
        of.projection_name.in_(waiting.distinct()),
    )


def names(connection: Connection, where: FailureFilter) -> list[str]:
    """Name the projections whose failures are meant: the indexes are by projection first."""
    if where.projection_name is not None:
        return [where.projection_name]
    return list(connection.execute(select(T.projection_name).order_by(T.projection_name)).scalars())


def count(connection: Connection, where: FailureFilter) -> int:
    """Count failures, without `state` those that are unresolved."""
    meant = names(connection, where)
    if replace(where, projection_name=None) == _UNRESOLVED:  # that is counted already, in every snapshot
        known = select(func.coalesce(total(M.active_failures), 0)).where(M.projection_name.in_(meant))
        return int(connection.execute(known).scalar_one())
    statement = select(func.count()).select_from(F).where(F.projection_name.in_(meant), *conditions(connection, where))
    return int(connection.execute(statement).scalar_one())


def number_of_each(connection: Connection, where: FailureFilter, *, failed_by: datetime) -> dict[str, int]:
    """Count the failures of each projection that had failed by a moment."""
    bound = bindparam("failed_by", failed_by, type_=F.failed_at.type)
    meant = (F.projection_name.in_(names(connection, where)), *conditions(connection, where), F.failed_at <= bound)
    statement = select(F.projection_name, func.count().label("number")).where(*meant).group_by(F.projection_name)
    return {row.projection_name: row.number for row in connection.execute(statement)}


def in_order(
    connection: Connection,
    among: Sequence[str] | None,
    meant: Sequence[ColumnElement[bool]],
    *,
    limit: int,
    newest_first: bool,
    bare: bool = False,
) -> list[Failure]:
    """Read the first failures of some projections, by the time at which they failed; bare: as `failures_page` says.

    Each projection's first ones are found in the order of an index, and then merged: nothing is sorted or skipped. Of
    all (None) there is one such index, of those that are unresolved.
    """
    columns = _BARE_ROW if bare else _ROW
    order = (F.failed_at.desc(), F.id.desc()) if newest_first else (F.failed_at, F.id)
    if among is None or not 1 <= len(among) <= _MERGED_AT_ONCE:
        theirs = [] if among is None else [F.projection_name.in_(among)]
        rows = select(*columns).where(*theirs, *meant).order_by(*order).limit(limit)
        return [failure_of(row) for row in connection.execute(rows)]
    each = [
        select(F.id).where(F.projection_name == name, *meant).order_by(*order).limit(limit).subquery() for name in among
    ]
    first = union_all(*(select(found.c.id) for found in each)) if len(each) > 1 else select(each[0].c.id)
    rows = select(*columns).where(F.id.in_(first)).order_by(*order).limit(limit)
    return [failure_of(row) for row in connection.execute(rows)]


def failures_page(
    connection: Connection,
    where: FailureFilter,
    *,
    include_resolved: bool,
    limit: int,
    after: str | None,
    bare: bool = False,
) -> Page[Failure]:
    """Read failures, newest first; new ones do not shift the pages that follow. Bare: without events and tracebacks."""
    meant = conditions(connection, where, include_resolved=include_resolved)
    if after is not None:
        meant.append(beyond(F.failed_at, F.id, after))
    is_of_all = not include_resolved and replace(where, failed_from=None, failed_until=None) == _UNRESOLVED
    among = None if is_of_all else names(connection, where)
    found = in_order(connection, among, meant, limit=limit + 1, newest_first=True, bare=bare)
    items = tuple(found[:limit])
    more = time_cursor(items[-1].failed_at, items[-1].id) if len(found) > limit else None
    return Page(items=items, after=more)


def search(connection: Connection, wanted: str, *, limit: int) -> tuple[Failure, ...]:
    """Read the failure with an id, or else those of the event or stream with it, newest first; resolved ones too.

    They are bare: without their events and tracebacks.
    """
    for meant in (_with_id(wanted), [F.event_id == wanted], [F.stream_id == wanted]):
        if meant is None:
            continue
        rows = select(*_BARE_ROW).where(*meant).order_by(F.failed_at.desc(), F.id.desc()).limit(limit)
        found = tuple(failure_of(row) for row in connection.execute(rows))
        if found:
            return found
    return ()


def _with_id(wanted: str) -> Conditions | None:
    try:
        return [F.id == UUID(wanted)]
    except ValueError:
        return None


def groups_page(connection: Connection, where: FailureFilter, *, limit: int, after: str | None) -> Page[FailureGroup]:
    """Read failures that are alike as groups, the biggest first. A group whose number changes may move meanwhile."""
    number = func.count()
    statement = (
        select(
            F.projection_name,
            F.fingerprint,
            number.label("number"),
            (literal(0) if where.state == "resolved" else total(_IS_EXHAUSTED)).label("exhausted"),
            func.min(F.failed_at).label("first"),
            func.max(F.failed_at).label("last"),
        )
        .where(F.projection_name.in_(names(connection, where)), *conditions(connection, where))
        .group_by(F.projection_name, F.fingerprint)
    )
    if after is not None:
        seen, name, fingerprint = read_cursor(after, 3)
        bound = literal(read_number(seen))
        beyond = tuple_(F.projection_name, F.fingerprint) > tuple_(literal(name), literal(fingerprint))
        statement = statement.having(or_(number < bound, and_(number == bound, beyond)))
    biggest = statement.order_by(number.desc(), F.projection_name, F.fingerprint).limit(limit + 1).subquery()
    rows = connection.execute(_with_newest(connection, biggest, where)).all()
    items = tuple(_group(row) for row in rows[:limit])
    last = items[-1] if len(rows) > limit else None
    more = None if last is None else cursor(str(last.count), last.projection_name, last.fingerprint)
    return Page(items=items, after=more)


def _with_newest(connection: Connection, groups: Any, where: FailureFilter) -> Any:
    """Put beside each group the newest of its failures."""
    each, newest = aliased(F), aliased(F)
    of_group = (
        select(each.id)
        .where(each.projection_name == groups.c.projection_name, each.fingerprint == groups.c.fingerprint)
        .where(*conditions(connection, where, of=each))
        .order_by(each.failed_at.desc(), each.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(groups, newest.id.label("sample"), newest.error_type, newest.error_message)
        .join(newest, newest.id == of_group)
        .order_by(groups.c.number.desc(), groups.c.projection_name, groups.c.fingerprint)
    )


def _group(row: Any) -> FailureGroup:
    return FailureGroup(
        projection_name=row.projection_name,
        fingerprint=row.fingerprint,
        error_type=row.error_type,
        error_message=row.error_message,
        count=row.number,
        exhausted=row.exhausted,
        first_failed_at=row.first,
        last_failed_at=row.last,
        sample_failure_id=row.sample,
    )
