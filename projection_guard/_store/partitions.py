"""The partitions of followed projections: who follows where, how far he has come, what he has in hand.

The row of a partition is the lease on it. A follower holds the rows of his partitions while he applies a batch
(`FollowStatements.hold`), so that nobody can take one over in the middle, and writes their cursors in the same
transaction; between two batches the lease's end protects them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    Connection,
    Dialect,
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

from .._dialect import Bound, PerDialect, later, statement_start, utc_now
from .._model import EventRecord
from .._tables import (
    ParkedEvent,
    ProjectionAppliedEvent,
    ProjectionFailure,
    ProjectionPartition,
    ProjectionSkippedRange,
)
from .compiled import Compiled, words

__all__ = [
    "REPLAY",
    "FollowStatements",
    "Held",
    "PartitionRow",
    "Reached",
    "Step",
    "applied_beyond",
    "begin_at",
    "ensure",
    "known",
    "place",
    "reached",
    "record_skipped",
    "release",
    "rows",
    "set_hand",
    "take",
    "want",
]

REPLAY: Final = -1
"""The row that a replay stands on: a cursor and a lease of its own, beside those of the partitions."""

W, A, F, P, K = ProjectionPartition, ProjectionAppliedEvent, ProjectionFailure, ParkedEvent, ProjectionSkippedRange
_NAME: BindParameter[str] = bindparam("projection")
_TOKEN: BindParameter[str] = bindparam("token")
_FREE = or_(W.lease_owner.is_(None), W.lease_expires_at <= statement_start())
_WANTED = and_(W.wanted_by.is_not(None), W.wanted_until > statement_start())


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """A partition as it is on record. `owner` and `wanted_by` are live ones only."""

    partition: int
    cursor: int
    owner: str | None
    wanted_by: str | None
    hand_first: int | None
    hand_last: int | None
    hand_is_lone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a follower's transaction holds: its partitions' cursors, and what is wanted of the projection.

    `has_blocked`: there is a blocked stream. `rescan_until`: below that, events may be on record already.
    """

    cursors: dict[int, int]
    is_wanted: bool
    state: str
    is_held_up: bool
    rescan_until: int
    has_blocked: bool

    @property
    def flows(self) -> bool:
        """True while the projection is active, and not held by the breaker."""
        return self.state == "active" and not self.is_held_up


_ensure = PerDialect(
    lambda insert: (
        insert(W)
        .values(projection_name=_NAME, partition=bindparam("number"), cursor=bindparam("begin"), moved_at=utc_now())
        .on_conflict_do_nothing()
    )
)
_rows = (
    select(
        W.partition,
        W.cursor,
        case((_FREE, null()), else_=W.lease_owner).label("owner"),
        case((_WANTED, W.wanted_by), else_=null()).label("wanted_by"),
        W.hand_first,
        W.hand_last,
        W.hand_is_lone,
    )
    .where(W.projection_name == _NAME)
    .order_by(W.partition)
)
_of_partitions = _rows.where(W.partition >= 0)
_of_replay = _rows.where(W.partition == REPLAY)


def ensure(connection: Connection, projection: str, number: int, begin: int = 0) -> None:
    """Make the rows of a projection's partitions, where they are not there; they begin after `begin`."""
    statement = _ensure.of(connection)
    for each in range(number):
        connection.execute(statement, {"projection": projection, "number": each, "begin": begin})


def rows(connection: Connection, projection: str) -> list[PartitionRow]:
    """Read the partitions of a projection."""
    return [_row(row) for row in connection.execute(_of_partitions, {"projection": projection})]


def replay_row(connection: Connection, projection: str) -> PartitionRow | None:
    """Read the row that a replay stands on."""
    row = connection.execute(_of_replay, {"projection": projection}).one_or_none()
    return None if row is None else _row(row)


def begin_replay(connection: Connection, projection: str, after: int) -> None:
    """Make the row that a replay stands on; it begins after a sequence."""
    end_replay(connection, projection)
    connection.execute(_ensure.of(connection), {"projection": projection, "number": REPLAY, "begin": after})


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
    .where(W.projection_name == _NAME, W.lease_owner == _TOKEN, W.partition.in_(bindparam("given", expanding=True)))
    .values(lease_owner=null(), lease_expires_at=null(), hand_first=null(), hand_last=null(), hand_is_lone=false())
)
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
    connection.execute(_release, {"projection": projection, "token": token, "given": list(given)})


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
    """Count the partitions in which somebody has a range in hand right now."""
    statement = (
        select(func.count())
        .select_from(W)
        .where(W.projection_name == projection, W.hand_first.is_not(None), W.lease_expires_at > statement_start())
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
    select(K.projection_name, func.sum(K.last_sequence - K.first_sequence + 1).label("number"))
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
    """Lay the partitions out anew; nobody's lease outlives that. Pass the barrier before."""
    connection.execute(delete(W).where(W.projection_name == projection))
    connection.execute(delete(K).where(K.projection_name == projection))
    ensure(connection, projection, number, sequence)


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


# -- the hot path: two packets a batch

_HOLD = """
UPDATE {p}projection_partitions SET lease_expires_at = {lease_end}
WHERE projection_name = :projection AND lease_owner = :token
RETURNING partition, cursor, wanted_by IS NOT NULL AND wanted_until > {now}
"""
_LOOK = """
SELECT st.state, st.held_since IS NOT NULL, coalesce(st.rescan_until, 0),
       EXISTS (SELECT 1 FROM {p}projection_streams g WHERE g.projection_name = :projection AND g.blocked)
FROM {p}projection_states st WHERE st.projection_name = :projection
"""
_ADVANCE = """
UPDATE {p}projection_partitions
SET cursor = CASE WHEN cursor < :position THEN :position ELSE cursor END,
    last_event_id = CASE WHEN cursor < :position THEN :event_id ELSE last_event_id END,
    last_event_type = CASE WHEN cursor < :position THEN :event_type ELSE last_event_type END,
    moved_at = CASE WHEN cursor < :position THEN {now} ELSE moved_at END,
    hand_first = :hand_first, hand_last = :hand_last, hand_is_lone = {false}, lease_expires_at = {lease_end}
WHERE projection_name = :projection AND lease_owner = :token
"""
_LOCK_CHECKPOINT = """
SELECT 1 FROM {p}projection_checkpoints WHERE projection_name = :projection FOR UPDATE
"""
_CHECKPOINT = """
UPDATE {p}projection_checkpoints
SET last_event_sequence = low.cursor, last_event_id = low.last_event_id, last_event_type = low.last_event_type,
    checkpoint_at = {now}, updated_at = {now}
FROM (SELECT cursor, last_event_id, last_event_type FROM {p}projection_partitions
      WHERE projection_name = :projection AND partition >= 0 ORDER BY cursor LIMIT 1) low
WHERE projection_name = :projection AND low.cursor > coalesce(last_event_sequence, 0)
"""
_COUNT_CHECKPOINT = """
UPDATE {p}projection_checkpoints SET events_processed = events_processed + :applied, updated_at = {now}
WHERE projection_name = :projection AND :applied > 0
"""
_COUNT = """
UPDATE {p}projection_health_metrics
SET total_events_processed = total_events_processed + :applied, last_success_at = {now}, updated_at = {now}
WHERE projection_name = :projection AND :applied > 0
"""


_TAKE_HAND = """
{limits}
UPDATE {p}projection_partitions SET hand_first = :hand_first, hand_last = :hand_last, hand_is_lone = {false},
    lease_expires_at = {lease_end}
{from_limits}
WHERE projection_name = :projection AND lease_owner = :token
RETURNING partition
"""


class Step(TypedDict):
    """How a batch of a follower ended. `hand`: the range that comes next; `last`: the event before the position.

    `job` is the replay or rebuild whose progress this is: what it has `replayed`, `passed` over, seen `failed`.
    """

    token: str
    lease_seconds: float
    position: int
    last: EventRecord | None
    applied: int
    hand: tuple[int, int] | None
    job: UUID | None
    replayed: int
    passed: int
    failed: int


_NOTIFY = """
WITH limits AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
SELECT pg_notify(:channel, :what) FROM limits
"""
_COUNT_REPLAY = """
UPDATE {p}projection_replays
SET events_replayed = events_replayed + :replayed, events_skipped = events_skipped + :passed,
    events_failed = events_failed + :failed, position = :position, updated_at = {now}
WHERE id = :job
"""


class FollowStatements:
    """The statements that frame every batch of a follower, for one database and schema."""

    def __init__(self, dialect: Dialect, schema: str | None) -> None:
        is_sqlite = dialect.name == "sqlite"
        used = words(dialect, schema) | {
            "false": "0" if is_sqlite else "false",
            "limits": ""
            if is_sqlite
            else "WITH limits AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))",
            "from_limits": "" if is_sqlite else "FROM limits",
        }
        counts = ":applied" if is_sqlite else "CAST(:applied AS bigint)"

        def compiled(*statements: str) -> tuple[Compiled, ...]:
            return tuple(
                Compiled(statement.replace(":applied", counts).format(**used), dialect) for statement in statements
            )

        position = ":position" if is_sqlite else "CAST(:position AS bigint)"
        ends = [_ADVANCE.replace(":position", position)]
        if not is_sqlite:  # SQLite's one writer holds everything
            ends.append(_LOCK_CHECKPOINT)
        self._hold = compiled(_HOLD, _LOOK)
        (self._take_hand,) = compiled(_TAKE_HAND)
        self._advance = compiled(*ends, _CHECKPOINT, _COUNT_CHECKPOINT, _COUNT)
        (self._count_replay,) = compiled(_COUNT_REPLAY)
        self._notify = () if is_sqlite else compiled(_NOTIFY)
        self._id: Callable[[UUID], object] = (lambda job: job.hex) if is_sqlite else str

    def hold(self, projection: str, *, token: str, lease_seconds: float) -> list[Bound]:
        """Hold the partitions that are the token's for this transaction, and look what is wanted. See `read_held`."""
        parameters = {"projection": projection, "token": token, "lease_seconds": lease_seconds}
        return [statement.bind(parameters) for statement in self._hold]

    def hold_here(self, connection: Connection, projection: str, *, token: str, lease_seconds: float) -> Held:
        """Do that on a connection."""
        parameters = {"projection": projection, "token": token, "lease_seconds": lease_seconds}
        return read_held([connection.execute(statement.text, parameters).all() for statement in self._hold])

    def advance(self, projection: str, **step: Unpack[Step]) -> list[Bound]:
        """Move the cursors that are held to a position, say what comes next, count; checkpoint and metrics come last.

        The checkpoint is the smallest cursor as it is once the checkpoint's own row is held: who comes second sees
        what the first has committed.
        """
        parameters = self._parameters(projection, step)
        return [statement.bind(parameters) for statement in self._moving(step)]

    def advance_here(self, connection: Connection, projection: str, **step: Unpack[Step]) -> None:
        """Do that on a connection."""
        parameters = self._parameters(projection, step)
        for statement in self._moving(step):
            connection.execute(statement.text, parameters)

    def _moving(self, step: Step) -> tuple[Compiled, ...]:
        return self._advance if step["job"] is None else (*self._advance, self._count_replay)

    def notify(self, channel: str, what: str) -> list[Bound]:
        """Wake those who listen, as a transaction of its own; nothing where the database notifies nobody."""
        return [statement.bind({"channel": channel, "what": what}) for statement in self._notify]

    def _parameters(self, projection: str, step: Step) -> dict[str, object]:
        last, hand, job = step["last"], step["hand"], step["job"]
        return {
            "projection": projection,
            "token": step["token"],
            "lease_seconds": step["lease_seconds"],
            "position": step["position"],
            "event_id": None if last is None else last.event_id,
            "event_type": None if last is None else last.event_type,
            "applied": step["applied"],
            "hand_first": None if hand is None else hand[0],
            "hand_last": None if hand is None else hand[1],
            "job": None if job is None else self._id(job),
            "replayed": step["replayed"],
            "passed": step["passed"],
            "failed": step["failed"],
        }

    def take_hand(
        self, projection: str, *, token: str, lease_seconds: float, hand: tuple[int, int] | None
    ) -> list[Bound]:
        """Say which range is in hand before it is applied, as a transaction of its own; a row for each partition.

        What a crash of the server loses of it harms nobody, so it is not fsynced: the follower lives on and knows.
        """
        first, last = (None, None) if hand is None else hand
        parameters = {
            "projection": projection,
            "token": token,
            "lease_seconds": lease_seconds,
            "hand_first": first,
            "hand_last": last,
        }
        return [self._take_hand.bind(parameters)]


def read_held(results: Sequence[Sequence[Sequence[object]]]) -> Held:
    """Read what `hold` returned."""
    mine, ((state, is_held_up, rescan_until, has_blocked), *_) = results[-2], results[-1]
    return Held(
        cursors={int(str(row[0])): int(str(row[1])) for row in mine},
        is_wanted=any(bool(row[2]) for row in mine),
        state=str(state),
        is_held_up=bool(is_held_up),
        rescan_until=int(str(rescan_until)),
        has_blocked=bool(has_blocked),
    )
