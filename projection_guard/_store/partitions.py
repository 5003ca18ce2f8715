"""The partitions of followed projections: who follows where, how far he has come, what he has in hand.

The row of a partition is the lease on it. A follower holds the rows of his partitions while he applies a batch
(`FollowStatements.hold`), so that nobody can take one over in the middle, and writes their cursors in the same
transaction; between two batches the lease's end protects them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from .._dialect import PerDialect, later, statement_start, total, utc_now
from .._tables import (
    ParkedEvent,
    ProjectionAppliedEvent,
    ProjectionFailure,
    ProjectionPartition,
    ProjectionReplay,
    ProjectionSkippedRange,
)

__all__ = [
    "REPLAY",
    "PartitionRow",
    "Reached",
    "applied_beyond",
    "begin_at",
    "ensure",
    "ensure_row",
    "known",
    "place",
    "reached",
    "record_skipped",
    "release",
    "release_all",
    "rows",
    "rows_where",
    "set_hand",
    "take",
    "want",
]

REPLAY: Final = -1
"""The row that a replay stands on: a cursor and a lease of its own, beside those of the partitions."""

W, A, F, P, K = ProjectionPartition, ProjectionAppliedEvent, ProjectionFailure, ParkedEvent, ProjectionSkippedRange
R = ProjectionReplay
_NAME: BindParameter[str] = bindparam("projection")
_TOKEN: BindParameter[str] = bindparam("token")
_FREE = or_(W.lease_owner.is_(None), W.lease_expires_at <= statement_start())
_WANTED = and_(W.wanted_by.is_not(None), W.wanted_until > statement_start())


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """A partition as it is on record. `owner` and `wanted_by` are live ones only.

    `taken_by`: who took it last and did not give it up, also where his lease has ended; what is in hand is his.
    """

    partition: int
    cursor: int
    owner: str | None
    taken_by: str | None
    wanted_by: str | None
    hand_first: int | None
    hand_last: int | None
    hand_is_lone: bool


_ensure = PerDialect(
    lambda insert: (
        insert(W)
        .values(
            projection_name=_NAME,
            partition=bindparam("number"),
            cursor=bindparam("begin"),
            fence=bindparam("fence"),
            moved_at=utc_now(),
        )
        .on_conflict_do_nothing()
    )
)
_rows = (
    select(
        W.partition,
        W.cursor,
        case((_FREE, null()), else_=W.lease_owner).label("owner"),
        W.lease_owner.label("taken_by"),
        case((_WANTED, W.wanted_by), else_=null()).label("wanted_by"),
        W.hand_first,
        W.hand_last,
        W.hand_is_lone,
    )
    .where(W.projection_name == _NAME)
    .order_by(W.partition)
)
_of_partitions = _rows.where(W.partition >= 0)


def ensure(connection: Connection, projection: str, number: int, begin: int = 0, fence: int = 0) -> None:
    """Make the rows of a projection's partitions, where they are not there; they begin after `begin`."""
    for each in range(number):
        ensure_row(connection, projection, each, begin, fence)


def ensure_row(connection: Connection, projection: str, number: int, begin: int, fence: int = 0) -> None:
    """Make one row, where it is not there."""
    parameters = {"projection": projection, "number": number, "begin": begin, "fence": fence}
    connection.execute(_ensure.of(connection), parameters)


def rows(connection: Connection, projection: str) -> list[PartitionRow]:
    """Read the partitions of a projection."""
    return [_row(row) for row in connection.execute(_of_partitions, {"projection": projection})]


def rows_where(connection: Connection, projection: str, *which: ColumnElement[bool]) -> list[PartitionRow]:
    """Read others than those of the partitions."""
    return [_row(row) for row in connection.execute(_rows.where(*which), {"projection": projection})]


def replay_row(connection: Connection, projection: str) -> PartitionRow | None:
    """Read the row that a replay stands on."""
    return next(iter(rows_where(connection, projection, W.partition == REPLAY)), None)


def begin_replay(connection: Connection, projection: str, after: int) -> None:
    """Make the row that a replay stands on; it begins after a sequence."""
    end_replay(connection, projection)
    ensure_row(connection, projection, REPLAY, after)


def end_replay(connection: Connection, projection: str) -> None:
    """Take that row away, whoever stands on it."""
    connection.execute(delete(W).where(W.projection_name == projection, W.partition == REPLAY))


def _row(row: Any) -> PartitionRow:
    return PartitionRow(**row._mapping)


_takeable = (
    select(W.partition)
    .where(
        W.projection_name == _NAME,
        W.partition.in_(bindparam("wished", expanding=True)),
        or_(_FREE, W.lease_owner == _TOKEN),
    )
    .with_for_update(skip_locked=True)
)
_take = (
    update(W)
    .where(W.projection_name == _NAME, W.partition.in_(bindparam("taken", expanding=True)))
    .values(
        fence=case((W.lease_owner == _TOKEN, W.fence), else_=W.fence + 1),
        lease_owner=_TOKEN,
        lease_expires_at=later(bindparam("seconds")),
        wanted_by=case((W.wanted_by == _TOKEN, null()), else_=W.wanted_by),
    )
)


def take(connection: Connection, projection: str, token: str, wished: Sequence[int], lease_seconds: float) -> list[int]:
    """Take partitions that are free, and prolong the lease of one's own; return those that are one's own now."""
    parameters: dict[str, object] = {"projection": projection, "token": token, "wished": list(wished)}
    taken = list(connection.execute(_takeable, parameters).scalars()) if wished else []
    if taken:
        connection.execute(_take, parameters | {"taken": taken, "seconds": lease_seconds})
    return taken


_want = (
    update(W)
    .where(
        W.projection_name == _NAME,
        W.partition == bindparam("wished"),
        or_(~_WANTED, W.wanted_by.is_(None), W.wanted_by == _TOKEN),
    )
    .values(wanted_by=_TOKEN, wanted_until=later(bindparam("seconds")))
)
_release = (
    update(W)
    .where(W.projection_name == _NAME, W.lease_owner == _TOKEN)
    .values(lease_owner=null(), lease_expires_at=null(), hand_first=null(), hand_last=null(), hand_is_lone=false())
)
_release_some = _release.where(W.partition.in_(bindparam("given", expanding=True)))
_forget_wish = update(W).where(W.projection_name == _NAME, W.wanted_by == _TOKEN).values(wanted_by=null())
_set_hand = (
    update(W)
    .where(W.projection_name == _NAME, W.lease_owner == _TOKEN)
    .values(
        hand_first=bindparam("first"),
        hand_last=bindparam("last"),
        hand_is_lone=bindparam("lone"),
        lease_expires_at=later(bindparam("seconds")),
    )
)


def want(connection: Connection, projection: str, token: str, wished: int, seconds: float) -> None:
    """Ask the owner of a partition to give it up after his batch."""
    connection.execute(_want, {"projection": projection, "token": token, "wished": wished, "seconds": seconds})


def release(connection: Connection, projection: str, token: str, given: Sequence[int]) -> None:
    """Give partitions up at once, with nothing in hand."""
    connection.execute(_release_some, {"projection": projection, "token": token, "given": list(given)})


def release_all(connection: Connection, projection: str, token: str) -> None:
    """Give everything up at once, with nothing in hand."""
    connection.execute(_release, {"projection": projection, "token": token})


def forget_wishes(connection: Connection, projection: str, token: str) -> None:
    """Ask for nothing any more."""
    connection.execute(_forget_wish, {"projection": projection, "token": token})


def set_hand(
    connection: Connection,
    projection: str,
    token: str,
    hand: tuple[int, int] | None,
    *,
    is_lone: bool = False,
    lease_seconds: float,
) -> bool:
    """Say which range is in hand before it is applied, None for nothing; False where no partition is ours any more."""
    first, last = (None, None) if hand is None else hand
    parameters = {
        "projection": projection,
        "token": token,
        "first": first,
        "last": last,
        "lone": is_lone,
        "seconds": lease_seconds,
    }
    return connection.execute(_set_hand, parameters).rowcount > 0


def renew(connection: Connection, projection: str, token: str, lease_seconds: float) -> bool:
    """Prolong the lease on all partitions of one's own."""
    statement = (
        update(W)
        .where(W.projection_name == projection, W.lease_owner == token)
        .values(lease_expires_at=later(bindparam("seconds")))
    )
    return connection.execute(statement, {"seconds": lease_seconds}).rowcount > 0


def in_hand(connection: Connection, projection: str) -> int:
    """Count the partitions in which somebody has a range in hand right now; not what is built beside the live ones."""
    beside = select(R.id).where(
        R.projection_name == projection, R.finished_at.is_(None), R.kind.in_(("beside", "verify"))
    )
    statement = (
        select(func.count())
        .select_from(W)
        .where(W.projection_name == projection, W.hand_first.is_not(None), W.lease_expires_at > statement_start())
        .where(or_(W.partition >= 0, ~beside.exists()))
    )
    return int(connection.execute(statement).scalar_one())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a projection has come in the log, when it last moved, and how many sequences it was told to give up."""

    cursor: int
    moved_at: datetime
    given_up: int


_reached = (
    select(W.projection_name, func.min(W.cursor).label("cursor"), func.max(W.moved_at).label("moved_at"))
    .where(W.projection_name.in_(bindparam("names", expanding=True)), W.partition >= 0)
    .group_by(W.projection_name)
)
_given_up = (
    select(K.projection_name, total(K.last_sequence - K.first_sequence + 1).label("number"))
    .where(K.projection_name.in_(bindparam("names", expanding=True)), K.given_up)
    .group_by(K.projection_name)
)


def reached(connection: Connection, names: Sequence[str]) -> dict[str, Reached]:
    """Read how far projections have come: each to the smallest cursor of its partitions."""
    given_up = {row.projection_name: int(row.number) for row in connection.execute(_given_up, {"names": list(names)})}
    return {
        row.projection_name: Reached(
            cursor=row.cursor, moved_at=row.moved_at, given_up=given_up.get(row.projection_name, 0)
        )
        for row in connection.execute(_reached, {"names": list(names)})
    }


def begin_at(connection: Connection, projection: str, number: int, sequence: int) -> None:
    """Lay the partitions out anew; nobody's lease outlives that, and fences go on growing. Pass the barrier before."""
    highest = select(func.coalesce(func.max(W.fence), -1)).where(W.projection_name == projection, W.partition >= 0)
    fence = int(connection.execute(highest).scalar_one()) + 1
    connection.execute(delete(W).where(W.projection_name == projection, W.partition != REPLAY))
    connection.execute(delete(K).where(K.projection_name == projection))
    ensure(connection, projection, number, sequence, fence)


def jump_to_replay(connection: Connection, projection: str) -> None:
    """Let all partitions come to where a replay stands: a read model that came there took the place of theirs."""
    of_replay = aliased(W)
    there = select(of_replay.cursor, of_replay.last_event_id, of_replay.last_event_type)
    reached = there.where(of_replay.projection_name == projection, of_replay.partition == REPLAY).subquery()
    statement = update(W).where(W.projection_name == projection, W.partition >= 0, W.cursor < reached.c.cursor)
    values = {each.name: each for each in reached.c}
    connection.execute(statement.values(**values, moved_at=utc_now()))


_known = [
    select(A.event_id).where(A.projection_name == _NAME, A.event_id.in_(bindparam("events", expanding=True))),
    select(F.event_id).where(
        F.projection_name == _NAME, F.resolved_at.is_(None), F.event_id.in_(bindparam("events", expanding=True))
    ),
    select(P.event_id).where(P.projection_name == _NAME, P.event_id.in_(bindparam("events", expanding=True))),
]


def known(connection: Connection, projection: str, events: Sequence[str]) -> frozenset[str]:
    """Return which of these events are on record: applied, failed or parked."""
    parameters = {"projection": projection, "events": list(events)}
    return frozenset(event for statement in _known for event in connection.execute(statement, parameters).scalars())


_place = [
    update(table)
    .where(table.projection_name == _NAME, table.event_id == bindparam("event"), table.event_sequence.is_(None))
    .values(event_sequence=bindparam("sequence"))
    for table in (A, F, P)
]


def place(connection: Connection, projection: str, sequences: Mapping[str, int]) -> None:
    """Write the log's sequence down for events on record that did not tell theirs when they were pushed."""
    rows = [{"projection": projection, "event": event, "sequence": sequence} for event, sequence in sequences.items()]
    for statement in _place if rows else ():
        connection.execute(statement, rows)


def applied_beyond(connection: Connection, projection: str, gate: str, sequence: int) -> bool:
    """Return whether a later event of this stream was applied while the projection was pushed."""
    statement = (
        select(A.event_id)
        .where(A.projection_name == projection, A.stream_id == gate)
        .where(or_(A.event_sequence > sequence, A.event_sequence.is_(None)))  # the log has not come to that one yet
        .limit(1)
    )
    return connection.execute(statement).first() is not None


_skipped = PerDialect(
    lambda insert: (
        insert(K)
        .values(
            projection_name=_NAME,
            first_sequence=bindparam("first"),
            last_sequence=bindparam("last"),
            given_up=bindparam("given_up"),
            reason=bindparam("why"),
            skipped_at=utc_now(),
        )
        .on_conflict_do_nothing()
    )
)


def record_skipped(
    connection: Connection, projection: str, *, first: int, last: int, reason: str, given_up: bool
) -> None:
    """Write down that there was nothing in a range of the log."""
    connection.execute(
        _skipped.of(connection),
        {"projection": projection, "first": first, "last": last, "why": reason[:255], "given_up": given_up},
    )
