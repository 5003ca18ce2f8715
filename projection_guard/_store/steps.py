"""The statements that frame every step of a follower: hold the partitions, look what is wanted, move the cursors.

They are written out and compiled once, for they are two packets on the wire for each batch; each can be run on a
connection of SQLAlchemy's as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack
from uuid import UUID

from sqlalchemy import Connection, Dialect

from .._dialect import Bound, Condition, is_mysql, is_postgresql
from .._model import EventRecord
from .compiled import Compiled, words

__all__ = ["FollowStatements", "Held", "Step", "read_held"]


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


_HOLD = """
UPDATE {p}projection_partitions SET lease_expires_at = {lease_end}
WHERE projection_name = :projection AND lease_owner = :token
RETURNING partition, cursor, wanted_by IS NOT NULL AND wanted_until > {now}
"""
_HOLD_MYSQL = (
    """
SELECT {partition}, {cursor}, wanted_by IS NOT NULL AND wanted_until > {now} FROM projection_partitions
WHERE projection_name = :projection AND lease_owner = :token FOR UPDATE
""",
    """
UPDATE projection_partitions SET lease_expires_at = {lease_end}
WHERE projection_name = :projection AND lease_owner = :token
""",
)
_LOOK = """
SELECT st.state, st.held_since IS NOT NULL, coalesce(st.rescan_until, 0),
       EXISTS (SELECT 1 FROM {p}projection_streams g WHERE g.projection_name = :projection AND g.blocked)
FROM {p}projection_states st WHERE st.projection_name = :projection
"""
_ADVANCE = """
UPDATE {p}projection_partitions
SET last_event_id = CASE WHEN {cursor} < :position THEN :event_id ELSE last_event_id END,
    last_event_type = CASE WHEN {cursor} < :position THEN :event_type ELSE last_event_type END,
    moved_at = CASE WHEN {cursor} < :position THEN {now} ELSE moved_at END,
    {cursor} = CASE WHEN {cursor} < :position THEN :position ELSE {cursor} END,
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
_LOW = """(SELECT {{what}} FROM projection_partitions
     WHERE projection_name = :projection AND {partition} >= 0 ORDER BY {cursor}, {partition} LIMIT 1)"""
_CHECKPOINT_MYSQL = f"""
UPDATE projection_checkpoints
SET last_event_id = {_LOW.replace("{{what}}", "last_event_id")},
    last_event_type = {_LOW.replace("{{what}}", "last_event_type")},
    last_event_sequence = {_LOW.replace("{{what}}", "{cursor}")},
    checkpoint_at = {{now}}, updated_at = {{now}}
WHERE projection_name = :projection AND {_LOW.replace("{{what}}", "{cursor}")} > coalesce(last_event_sequence, 0)
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


_TAKE_HAND_MYSQL = (
    """
SELECT {partition} FROM projection_partitions WHERE projection_name = :projection AND lease_owner = :token FOR UPDATE
""",
    """
UPDATE projection_partitions SET hand_first = :hand_first, hand_last = :hand_last, hand_is_lone = {false},
    lease_expires_at = {lease_end}
WHERE projection_name = :projection AND lease_owner = :token
""",
)


_NOTIFY = """
WITH limits AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
SELECT pg_notify(:channel, :what) FROM limits
"""
_COUNT_REPLAY = """
UPDATE {p}projection_replays
SET events_replayed = events_replayed + :replayed, events_skipped = events_skipped + :passed,
    events_failed = events_failed + :failed, updated_at = {now},
    position = CASE WHEN phase = 'slices' THEN position ELSE :position END
WHERE id = :job
"""


class FollowStatements:
    """The statements that frame every batch of a follower, for one database and schema."""

    def __init__(self, dialect: Dialect, schema: str | None) -> None:
        is_pg = is_postgresql(dialect)
        used = words(dialect, schema) | {
            "false": "false" if is_pg else "0",
            "limits": "WITH limits AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
            if is_pg
            else "",
            "from_limits": "FROM limits" if is_pg else "",
        }
        counts = "CAST(:applied AS bigint)" if is_pg else ":applied"

        def compiled(*statements: str) -> tuple[Compiled, ...]:
            return tuple(
                Compiled(statement.replace(":applied", counts).format(**used), dialect) for statement in statements
            )

        position = "CAST(:position AS bigint)" if is_pg else ":position"
        ends = [_ADVANCE.replace(":position", position)]
        if dialect.name != "sqlite":  # whose one writer holds everything
            ends.append(_LOCK_CHECKPOINT)
        if is_mysql(dialect):
            untold = Condition(is_told=False)
            self._hold = (
                *compiled(_HOLD_MYSQL[0]),
                Compiled(_HOLD_MYSQL[1].format(**used), dialect, untold),
                *compiled(_LOOK),
            )
            self._take_hand = (
                *compiled(_TAKE_HAND_MYSQL[0]),
                Compiled(_TAKE_HAND_MYSQL[1].format(**used), dialect, untold),
            )
        else:
            self._hold = compiled(_HOLD, _LOOK)
            self._take_hand = compiled(_TAKE_HAND)
        checkpoint = _CHECKPOINT_MYSQL if is_mysql(dialect) else _CHECKPOINT
        self._advance = compiled(*ends, checkpoint, _COUNT_CHECKPOINT, _COUNT)
        (self._count_replay,) = compiled(_COUNT_REPLAY)
        self._notify = compiled(_NOTIFY) if is_pg else ()
        self._id: Callable[[UUID], object] = str if is_pg else (lambda job: job.hex)

    def hold(self, projection: str, *, token: str, lease_seconds: float) -> list[Bound]:
        """Hold the partitions that are the token's for this transaction, and look what is wanted. See `read_held`."""
        parameters = {"projection": projection, "token": token, "lease_seconds": lease_seconds}
        return [statement.bind(parameters) for statement in self._hold]

    def hold_here(self, connection: Connection, projection: str, *, token: str, lease_seconds: float) -> Held:
        """Do that on a connection."""
        parameters = {"projection": projection, "token": token, "lease_seconds": lease_seconds}
        answers = [statement.run(connection, parameters) for statement in self._hold]
        return read_held([rows for rows in answers if rows is not None])

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
            statement.run(connection, parameters)

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
        return [statement.bind(parameters) for statement in self._take_hand]


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
