"""The hot path's statements in the words of MariaDB and MySQL, where an UPDATE tells nothing: one after the other.

First the gate's row is made, if there is none, and locked. What comes after that is judged on the row as it is then,
and in a later statement, so with the eyes of today.
"""

from __future__ import annotations

from typing import Final

from .._dialect import Condition

__all__ = ["BARRIER", "CLAIM", "LEASE", "SETTLE", "Written"]

Written = tuple[str, Condition]

_KEY = "projection_name = :projection AND stream_id = :gate"
_FREE = "NOT blocked AND (lease_expires_at IS NULL OR lease_expires_at <= {now})"
_IS_ACTIVE = (
    "EXISTS (SELECT 1 FROM projection_states st WHERE st.projection_name = :projection AND st.state = 'active' "
    "AND st.held_since IS NULL AND st.mode = 'pushed')"
)
_UNTOLD: Final = Condition(is_told=False)
_IF_CHANGED: Final = Condition(if_changed=True)

BARRIER: Final = (
    "SELECT generation FROM projection_generations ORDER BY generation DESC LIMIT 1 LOCK IN SHARE MODE",
    _UNTOLD,
)
"""Who holds the newest generation is waited for by whoever makes a new one: `states.in_flight`."""

_LOCKED = (
    """
INSERT INTO projection_streams (projection_name, stream_id, epoch, touched_at)
SELECT :projection, :gate, 0, {now} FROM projection_states st
WHERE st.projection_name = :projection AND st.state = 'active' AND st.held_since IS NULL AND st.mode = 'pushed'
ON DUPLICATE KEY UPDATE epoch = projection_streams.epoch
""",
    _UNTOLD,
)
# Left to right: what is looked at is set last.
_TAINTED = """
    tainted_reason = CASE WHEN lease_owner IS NULL THEN tainted_reason ELSE {expired} END,
    tainted = tainted OR lease_owner IS NOT NULL
"""
_TAKE = f"""
UPDATE projection_streams SET epoch = epoch + 1, touched_at = {{now}}, {_TAINTED},
    lease_owner = NULL, lease_expires_at = NULL
WHERE {_KEY} AND {_FREE} AND {_IS_ACTIVE}
"""
_TAKE_LEASE = f"""
UPDATE projection_streams SET epoch = epoch + 1, touched_at = {{now}}, {_TAINTED},
    lease_owner = :token, lease_expires_at = {{lease_end}}
WHERE {_KEY} AND {_FREE} AND {_IS_ACTIVE} AND NOT EXISTS (
    SELECT 1 FROM projection_applied_events a WHERE a.projection_name = :projection AND a.event_id = :event_id)
"""
_APPLIED = """
INSERT INTO projection_applied_events (projection_name, event_id, stream_id, event_type, event_sequence, applied_at)
VALUES (:projection, :event_id, :gate, :event_type, :sequence, {now})
"""
_FREED = f"""
UPDATE projection_streams SET epoch = epoch + 1, touched_at = {{now}}, lease_owner = NULL, lease_expires_at = NULL
WHERE {_KEY} AND lease_owner = :token AND NOT blocked
"""

CLAIM: Final[tuple[Written, ...]] = (
    BARRIER,
    _LOCKED,
    (_TAKE, _UNTOLD),
    (f"SELECT epoch FROM projection_streams WHERE {_KEY}", _IF_CHANGED),
    (_APPLIED, Condition(if_changed=True, may_be_there=True)),
)
LEASE: Final[tuple[Written, ...]] = (
    BARRIER,
    _LOCKED,
    (_TAKE_LEASE, _UNTOLD),
    (f"SELECT epoch, 1 FROM projection_streams WHERE {_KEY}", _IF_CHANGED),
)
SETTLE: Final[tuple[Written, ...]] = (
    (_FREED, Condition()),
    (_APPLIED, Condition(if_changed=True, may_be_there=True, is_told=False)),
)
