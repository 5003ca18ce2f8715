"""A database with very many open failures, as many resolved ones, parked, applied and audited ones.

30,000 of each, to save CI's time: the plans are those of 100,000, with PROJECTION_GUARD_MANY=100000 in the environment.
"""

from __future__ import annotations

import os
import time

from sqlalchemy import Connection, Engine, create_engine, text

from projection_guard import ProjectionGuard
from tests.bed import Happened

__all__ = ["NAMES", "fill", "guarding"]

NUMBER = int(os.environ.get("PROJECTION_GUARD_MANY", "30000"))
NAMES = ("Big", "Small", "Rare")
_FAILURES = """
INSERT INTO projection_failures (id, event_id, event_type, event_sequence, stream_id, event_payload, projection_name,
    error_type, error_message, fingerprint, retry_count, max_retries, failed_at, next_retry_at, resolved_at,
    resolution_method, created_at, updated_at)
SELECT {id}, {kind} || n, 'Type' || (n % 7), n, 's' || (n % 50000), '{{"n": 1}}',
    CASE WHEN n % 10000 = 1 THEN 'Rare' WHEN n % 10 = 0 THEN 'Small' ELSE 'Big' END,
    CASE WHEN n = 101 THEN 'RareError' ELSE 'Error' || (n % 3) END, 'something went wrong', 'print' || (n % 40),
    5, 5, {failed}, {next}, {resolved}, {method}, {failed}, {failed}
FROM {numbers}
"""
_METRICS = """
UPDATE projection_health_metrics SET total_failures = {n}, active_failures = (SELECT count(*) FROM projection_failures f
    WHERE f.projection_name = projection_health_metrics.projection_name AND f.resolved_at IS NULL)
"""
_PARKED = """
INSERT INTO projection_parked_events (projection_name, gate, event_id, event_type, event_sequence, stream_id,
    event_payload, reason, parked_at)
SELECT 'Big', 's' || (n % 500), 'p' || n, 'Type', n, 's' || (n % 500), '{{"n": 1}}', 'behind', {failed} FROM {numbers}
"""
_APPLIED = """
INSERT INTO projection_applied_events (projection_name, event_id, stream_id, event_type, event_sequence, applied_at,
    rolled_up)
SELECT 'Big', 'a' || n, 's' || (n % 500), 'Type', n, {failed}, true FROM {numbers}
"""
_AUDIT = """
INSERT INTO projection_audit_log (at, actor, action, projection_name, details, action_id)
SELECT {failed}, CASE WHEN n = 1 THEN 'rare' ELSE 'alice' END, CASE WHEN n = 1 THEN 'rare' ELSE 'skip' END,
    CASE WHEN n % 10 = 0 THEN 'Small' ELSE 'Big' END, '{{"before": "scheduled"}}', 'a' || n FROM {numbers}
"""


def fill(url: str) -> None:
    """Fill a migrated database; the resolved ones are newer, so that they stand before the open ones."""
    engine = create_engine(url)
    with guarding(engine) as guard:
        guard.health()
    with engine.begin() as connection:
        _fill(connection)
    if engine.dialect.name == "postgresql":  # what autovacuum does within a minute; SQLite has nothing like it
        _vacuum(engine)
    engine.dispose()


def _vacuum(engine: Engine) -> None:
    """Vacuum until all rows count as visible: a snapshot that is open anywhere on the server puts that off."""
    end = time.monotonic() + 20
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        while not connection.execute(text(_SEEN)).scalar_one() and time.monotonic() < end:
            time.sleep(0.1)
            for table in ("projection_failures", "projection_parked_events"):
                connection.execute(text(f"VACUUM {table}"))


_SEEN = (
    "SELECT min(relallvisible) > 0 FROM pg_class WHERE relname IN ('projection_failures', 'projection_parked_events')"
)


def _fill(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        numbers = (
            f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {NUMBER}) SELECT n FROM c)"
        )
        moment = "strftime('%Y-%m-%d %H:%M:%f000', 'now', '{:+d} days', n || ' seconds')"
        identity = "lower(hex(randomblob(16)))"
    else:
        numbers = f"generate_series(1, {NUMBER}) n"
        moment = "now() + interval '{:+d} days' + n * interval '1 second'"
        identity = "gen_random_uuid()"
    words = {"numbers": numbers, "id": identity}
    old, new, late = (moment.format(days) for days in (-9, -5, 1))
    planned = f"CASE WHEN n % 2 = 0 THEN {late} END"
    open_ones = {"kind": "'open'", "failed": old, "next": planned, "resolved": "NULL", "method": "NULL"}
    resolved = {"kind": "'resolved'", "failed": new, "next": "NULL", "resolved": new, "method": "'auto_retry'"}
    for statement, more in (
        (_FAILURES, open_ones),
        (_FAILURES, resolved),
        (_METRICS, {"n": str(2 * NUMBER)}),
        (_PARKED, {"failed": old}),
        (_APPLIED, {"failed": old}),
        (_AUDIT, {"failed": old}),
    ):
        connection.execute(text(statement.format(**words, **more).replace(":", "\\:")))


def guarding(engine: Engine) -> ProjectionGuard:
    """Make a guard with the projections that the rows are of."""
    guard = ProjectionGuard(engine, worker="external")
    for name in NAMES:

        def handler(event: Happened, connection: Connection) -> None: ...

        guard.projection(name, handles=[Happened])(handler)
    return guard
