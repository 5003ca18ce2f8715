"""Fills the failures' tables in bulk, the way the guard would have: rows, gates, attempts and counters agree."""

from __future__ import annotations

from sqlalchemy import Engine, text

__all__ = ["add_due", "add_open", "add_resolved", "tidy"]

# Half of the open failures wait for a retry of next week, half for a person; each blocks a stream of its own.
_FAILURES = """
INSERT INTO projection_failures (id, event_id, event_type, event_sequence, stream_id, event_payload, projection_name,
    error_type, error_message, error_traceback, fingerprint, retry_count, max_retries, failed_at, last_retry_at,
    next_retry_at, resolved_at, resolution_method, created_at, updated_at)
SELECT gen_random_uuid(), :kind || '-' || n, 'Counted', n, :kind || '-' || n, '{"type": "Counted"}', :projection,
    'ValueError', 'it did not work out', repeat('  File "handler.py", line 1, in handler' || chr(10), 5),
    md5((n % 20)::text), 1, 5, moment, moment,
    CASE :kind WHEN 'due' THEN now() - interval '1 minute'
               WHEN 'open' THEN CASE WHEN n % 2 = 0 THEN now() + interval '7 days' END END,
    CASE WHEN :kind = 'resolved' THEN moment + interval '5 seconds' END,
    CASE WHEN :kind = 'resolved' THEN 'auto_retry' END, moment, moment
FROM (SELECT n, now() - n * interval '100 milliseconds' AS moment FROM generate_series(1, :number) n) numbers
"""
_GATES = """
INSERT INTO projection_streams (projection_name, stream_id, epoch, blocked, touched_at)
SELECT :projection, :kind || '-' || n, 1, true, now() FROM generate_series(1, :number) n
"""
_ATTEMPTS = """
INSERT INTO projection_attempts (failure_id, projection_name, gate, number, verdict, error_type, error_message,
    fingerprint, attempted_at)
SELECT id, projection_name, stream_id, 1, 'retry', error_type, error_message, fingerprint, failed_at
FROM projection_failures WHERE projection_name = :projection AND event_id LIKE :kind || '-%'
"""
_COUNTERS = """
UPDATE projection_health_metrics SET total_failures = total_failures + :number, last_failure_at = now(),
    active_failures = active_failures + CASE WHEN :kind = 'resolved' THEN 0 ELSE CAST(:number AS bigint) END
WHERE projection_name = :projection
"""


def add_resolved(engine: Engine, projection: str, number: int) -> None:
    """Store failures that healed long ago."""
    _add(engine, projection, number, "resolved", blocked=False)


def add_open(engine: Engine, projection: str, number: int) -> None:
    """Store unresolved failures that are not due, each in a stream of its own."""
    _add(engine, projection, number, "open", blocked=True)


def add_due(engine: Engine, projection: str, number: int) -> None:
    """Store unresolved failures that are due, each in a stream of its own."""
    _add(engine, projection, number, "due", blocked=True)


def tidy(engine: Engine) -> None:
    """Bring the planner's statistics up to date, as autovacuum would."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")


def _add(engine: Engine, projection: str, number: int, kind: str, *, blocked: bool) -> None:
    statements = [_FAILURES, _ATTEMPTS, _COUNTERS, *([_GATES] if blocked else [])]
    with engine.begin() as connection:
        for statement in statements:
            names = set(text(statement).compile().params)
            parameters = {"projection": projection, "number": number, "kind": kind}
            connection.execute(text(statement), {name: parameters[name] for name in names})
