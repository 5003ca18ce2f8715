"""The statements that every delivery runs: claim a stream, settle an apart call, limits for a transaction.

They are the hot path, so they are written out, compiled once for a guard's database and schema, and handed to the
driver as they are. All other SQL of the store is SQLAlchemy Core.

The gate row of a (projection, stream) is upserted `WHERE NOT blocked`, and what that returns feeds the row in
`projection_applied_events`: mutex, order check and duplicate check are one statement (two on SQLite, which has no
INSERT in a CTE). The state of the projection is read by the same statement, which took its lock on
`projection_applied_events` before its snapshot: `barrier` in `states` relies on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Dialect, text

from .._dialect import LIMITS, Bound, Condition, is_mysql, is_sqlite
from .._model import EventRecord
from . import claims_mysql
from .compiled import Compiled, words

__all__ = ["Claim", "HotStatements", "Settings", "Ticket", "read_claim", "read_settings", "restore_settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An event on its way into one projection. `gate` is its ordering key there."""

    projection: str
    gate: str
    event: EventRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the gate answered. Granted, `epoch` is the gate's count of claims, this one included."""

    epoch: int | None
    is_new: bool

    @property
    def granted(self) -> bool:
        """True where the event may be applied now: the stream is free and the event was not applied before."""
        return self.epoch is not None and self.is_new

    @property
    def duplicate(self) -> bool:
        """True where the stream is free but the event is done with already."""
        return self.epoch is not None and not self.is_new


def read_claim(results: Sequence[Sequence[Sequence[object]]]) -> Claim:
    """Read a claim off the rows that its statements returned: the gate's epoch, then the applied row, if any."""
    gate = results[0]
    if not gate:
        return Claim(epoch=None, is_new=False)
    epoch = gate[0][0]
    assert isinstance(epoch, int)
    is_new = bool(gate[0][1]) if len(gate[0]) > 1 else bool(results[1])
    return Claim(epoch=epoch, is_new=is_new)


_LIMITS = """
    SELECT set_config('lock_timeout', :lock_ms, true),
           set_config('statement_timeout', :limit_ms, true),
           set_config('idle_in_transaction_session_timeout', :limit_ms, true)
"""
_LIMITS_AND_SETTINGS = f"{_LIMITS}, current_setting('search_path'), current_setting('role')"
_RESTORE = "SELECT set_config('search_path', :path, true), set_config('role', :role, true)"
_restore = text(_RESTORE)
Settings = tuple[str, str] | None


def read_settings(rows: Sequence[Sequence[Sequence[object]]]) -> Settings:
    """Read search path and role off what the preamble returned; None where the database has none."""
    return (str(rows[0][0][3]), str(rows[0][0][4])) if rows and rows[0] else None


def restore_settings(connection: Connection, settings: Settings) -> None:
    """Undo what a handler set for its transaction (many tenants, one database): our tables are found as before."""
    if settings is not None:
        connection.execute(_restore, {"path": settings[0], "role": settings[1]})


_FREE = "NOT g.blocked AND (g.lease_expires_at IS NULL OR g.lease_expires_at <= {now})"
_ACTIVE = "st.projection_name = :projection AND st.state = 'active' AND st.held_since IS NULL AND st.mode = 'pushed'"

_CLAIM_POSTGRESQL = f"""
WITH limits AS MATERIALIZED ({_LIMITS}),
gate AS (
    INSERT INTO {{p}}projection_streams AS g (projection_name, stream_id, epoch, touched_at)
    SELECT st.projection_name, :gate, 1, {{now}} FROM {{p}}projection_states st, limits WHERE {_ACTIVE}
    ON CONFLICT (projection_name, stream_id) DO UPDATE
    SET epoch = g.epoch + 1, touched_at = excluded.touched_at,
        tainted = g.tainted OR g.lease_owner IS NOT NULL,
        tainted_reason = CASE WHEN g.lease_owner IS NULL THEN g.tainted_reason ELSE {{expired}} END,
        lease_owner = NULL, lease_expires_at = NULL
    WHERE {_FREE}
    RETURNING epoch),
applied AS (
    INSERT INTO {{p}}projection_applied_events
        (projection_name, event_id, stream_id, event_type, event_sequence, applied_at)
    SELECT :projection, :event_id, :gate, :event_type, CAST(:sequence AS bigint), {{now}} FROM gate
    ON CONFLICT (projection_name, event_id) DO NOTHING
    RETURNING 1)
SELECT epoch, EXISTS (SELECT 1 FROM applied) FROM gate
"""

_CLAIM_SQLITE = (
    f"""
INSERT INTO projection_streams AS g (projection_name, stream_id, epoch, touched_at)
SELECT st.projection_name, :gate, 1, {{now}} FROM projection_states st WHERE {_ACTIVE}
ON CONFLICT (projection_name, stream_id) DO UPDATE
SET epoch = g.epoch + 1, touched_at = excluded.touched_at,
    tainted = g.tainted OR g.lease_owner IS NOT NULL,
    tainted_reason = CASE WHEN g.lease_owner IS NULL THEN g.tainted_reason ELSE {{expired}} END,
    lease_owner = NULL, lease_expires_at = NULL
WHERE {_FREE}
RETURNING epoch
""",
    f"""
INSERT INTO projection_applied_events
    (projection_name, event_id, stream_id, event_type, event_sequence, applied_at)
SELECT :projection, :event_id, :gate, :event_type, :sequence, {{now}}
FROM projection_streams g JOIN projection_states st ON st.projection_name = g.projection_name
WHERE g.stream_id = :gate AND {_ACTIVE} AND {_FREE}
ON CONFLICT (projection_name, event_id) DO NOTHING
RETURNING 1
""",
)

# An apart claim is committed before the call, so the applied row cannot guard it: the row's own epoch does. It is
# compared with the one this statement saw before it waited for the lock; if they differ, somebody was here meanwhile,
# and a later statement has to look. A lease that is lost in a crash of the server harms nobody, so it is not fsynced.
_LEASE = f"""
{{limits}}
INSERT INTO {{p}}projection_streams AS g
    (projection_name, stream_id, epoch, touched_at, lease_owner, lease_expires_at)
SELECT st.projection_name, :gate, 1, {{now}}, :token, {{lease_end}} FROM {{p}}projection_states st {{from_limits}}
WHERE {_ACTIVE} AND NOT EXISTS (
    SELECT 1 FROM {{p}}projection_applied_events a WHERE a.projection_name = :projection AND a.event_id = :event_id)
ON CONFLICT (projection_name, stream_id) DO UPDATE
SET epoch = g.epoch + 1, touched_at = excluded.touched_at,
    tainted = g.tainted OR g.lease_owner IS NOT NULL,
    tainted_reason = CASE WHEN g.lease_owner IS NULL THEN g.tainted_reason ELSE {{expired}} END,
    lease_owner = excluded.lease_owner, lease_expires_at = excluded.lease_expires_at
WHERE {_FREE} AND g.epoch = (
    SELECT coalesce(max(seen.epoch), 0) FROM {{p}}projection_streams seen
    WHERE seen.projection_name = :projection AND seen.stream_id = :gate)
RETURNING epoch, true
"""

_SETTLE_POSTGRESQL = """
WITH limits AS MATERIALIZED (SELECT set_config('lock_timeout', :lock_ms, true)),
gate AS (
    UPDATE {p}projection_streams SET epoch = epoch + 1, touched_at = {now}, lease_owner = NULL, lease_expires_at = NULL
    FROM limits WHERE projection_name = :projection AND stream_id = :gate AND lease_owner = :token AND NOT blocked
    RETURNING true AS free),
applied AS (
    INSERT INTO {p}projection_applied_events
        (projection_name, event_id, stream_id, event_type, event_sequence, applied_at)
    SELECT :projection, :event_id, :gate, :event_type, CAST(:sequence AS bigint), {now} FROM gate
    ON CONFLICT (projection_name, event_id) DO NOTHING)
SELECT free FROM gate
"""

_SETTLE_SQLITE = (
    """
INSERT INTO projection_applied_events
    (projection_name, event_id, stream_id, event_type, event_sequence, applied_at)
SELECT :projection, :event_id, :gate, :event_type, :sequence, {now} FROM projection_streams
WHERE projection_name = :projection AND stream_id = :gate AND lease_owner = :token AND NOT blocked
ON CONFLICT (projection_name, event_id) DO NOTHING
""",
    """
UPDATE projection_streams SET epoch = epoch + 1, touched_at = {now}, lease_owner = NULL, lease_expires_at = NULL
WHERE projection_name = :projection AND stream_id = :gate AND lease_owner = :token AND NOT blocked
RETURNING true
""",
)

_UNTOLD = Condition(is_told=False)
_EXPIRED = "'the lease of an apart call ran out: its event may come after later ones'"


class HotStatements:
    """The hot path's statements for one database and schema. Give what they return to `Transaction.together`."""

    def __init__(self, dialect: Dialect, schema: str | None) -> None:
        self._is_mysql = is_mysql(dialect)
        sqlite = is_sqlite(dialect)
        used = words(dialect, schema) | {
            "expired": _EXPIRED,
            "limits": ""
            if sqlite
            else "WITH limits AS MATERIALIZED (SELECT set_config('lock_timeout', :lock_ms, true),"
            " set_config('synchronous_commit', 'off', true))",
            "from_limits": "" if sqlite else ", limits",
        }

        def compiled(*statements: str) -> tuple[Compiled, ...]:
            return tuple(Compiled(statement.format(**used), dialect) for statement in statements)

        self._savepoint = Bound("SAVEPOINT projection_guard")
        if self._is_mysql:
            self._write_for_mysql(dialect, used)
            return
        self._claim = compiled(*_CLAIM_SQLITE) if sqlite else compiled(_CLAIM_POSTGRESQL)
        self._lease = compiled(_LEASE)
        self._settle = compiled(*_SETTLE_SQLITE) if sqlite else compiled(_SETTLE_POSTGRESQL)
        lock = f"LOCK TABLE {used['p']}projection_applied_events IN ROW EXCLUSIVE MODE"
        self._preamble = () if sqlite else compiled(_LIMITS_AND_SETTINGS, lock)
        self._looking = () if sqlite else compiled(_LIMITS_AND_SETTINGS)
        self._restore = () if sqlite else compiled(_RESTORE)

    def _write_for_mysql(self, dialect: Dialect, used: Mapping[str, str]) -> None:
        def compiled(*statements: claims_mysql.Written) -> tuple[Compiled, ...]:
            return tuple(Compiled(sql.format(**used), dialect, condition) for sql, condition in statements)

        self._claim = compiled(*claims_mysql.CLAIM)
        self._lease = compiled(*claims_mysql.LEASE)
        self._settle = compiled(*claims_mysql.SETTLE)
        self._preamble = compiled((claims_mysql.BARRIER[0], Condition()))
        self._looking = self._restore = ()

    def claim(self, ticket: Ticket, *, limit_seconds: float) -> list[Bound]:
        """Take the stream and the event for the transaction under way, and set the savepoint behind them."""
        parameters = _ticket_parameters(ticket) | _limits(limit_seconds)
        statements = (statement.bind(parameters) for statement in self._claim)
        return [*self._limited(limit_seconds), *statements, self._savepoint]

    def lease(self, ticket: Ticket, *, token: str, lease_seconds: float, limit_seconds: float) -> list[Bound]:
        """Take the stream for an apart call; the claim's row is committed at once and lasts for the lease."""
        parameters = _ticket_parameters(ticket) | _limits(limit_seconds)
        parameters |= {"token": token, "lease_seconds": lease_seconds}
        return [*self._limited(limit_seconds), *(statement.bind(parameters) for statement in self._lease)]

    def settle(self, ticket: Ticket, *, token: str, limit_seconds: float) -> list[Bound]:
        """Record an apart call that went well, free its stream; no row if the lease is lost, or something is parked.

        The event itself may be parked there, delivered again during its call: a later statement has to look.
        """
        parameters = _ticket_parameters(ticket) | _limits(limit_seconds) | {"token": token}
        return [*self._limited(limit_seconds), *(statement.bind(parameters) for statement in self._settle)]

    def restore(self, settings: Settings) -> list[Bound]:
        """Undo what handlers set for their transaction; as `restore_settings`."""
        if settings is None:
            return []
        parameters = {"path": settings[0], "role": settings[1]}
        return [statement.bind(parameters) for statement in self._restore]

    def preamble(self, *, limit_seconds: float) -> list[Bound]:
        """Limit what a transaction may take, and announce it to the barrier before its first look at anything."""
        parameters = _limits(limit_seconds)
        limits = self._limited(limit_seconds, is_told=True)
        return [*limits, *(statement.bind(parameters) for statement in self._preamble)]

    def looking(self, *, limit_seconds: float) -> list[Bound]:
        """Limit what a transaction may take that only looks: no barrier waits for it, it takes no right to write."""
        parameters = _limits(limit_seconds)
        return [*self._limited(limit_seconds), *(statement.bind(parameters) for statement in self._looking)]

    def _limited(self, seconds: float, *, is_told: bool = False) -> tuple[Bound, ...]:
        """Limit what a transaction may take, where its other statements do not."""
        if not self._is_mysql:
            return ()
        return (Bound(LIMITS, (max(1, int(seconds) + 5), seconds, max(1, int(seconds))), None if is_told else _UNTOLD),)


def _ticket_parameters(ticket: Ticket) -> dict[str, object]:
    event = ticket.event
    return {
        "projection": ticket.projection,
        "gate": ticket.gate,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "sequence": event.sequence,
    }


def _limits(seconds: float) -> dict[str, object]:
    milliseconds = int(seconds * 1000)
    return {"limit_ms": str(milliseconds), "lock_ms": str(milliseconds + 5_000)}
