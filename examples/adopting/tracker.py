"""The tracker that the application has made by hand: three tables, times without a zone, and no way to retry."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime, timedelta

from .events import DomainEvent
from .store import Database

__all__ = ["FailureTracker"]

TABLES = """
CREATE TABLE IF NOT EXISTS projection_failures (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), event_id uuid NOT NULL, event_type varchar(255) NOT NULL,
    projection_name varchar(255) NOT NULL, error_message text NOT NULL, error_traceback text,
    retry_count integer DEFAULT 0, max_retries integer DEFAULT 5, failed_at timestamp NOT NULL,
    last_retry_at timestamp, next_retry_at timestamp, resolved_at timestamp, resolution_method varchar(50),
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
CREATE TABLE IF NOT EXISTS projection_checkpoints (
    projection_name varchar(255) PRIMARY KEY, last_event_id uuid, last_event_type varchar(255),
    last_event_sequence bigint, events_processed bigint DEFAULT 0, checkpoint_at timestamp DEFAULT now(),
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
CREATE TABLE IF NOT EXISTS projection_health_metrics (
    projection_name varchar(255) PRIMARY KEY, health_status varchar(50) DEFAULT 'healthy',
    total_events_processed bigint DEFAULT 0, total_failures bigint DEFAULT 0, active_failures integer DEFAULT 0,
    last_success_at timestamp, last_failure_at timestamp, lag_seconds integer,
    created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
"""
_FAILED = """
INSERT INTO projection_failures
    (event_id, event_type, projection_name, error_message, error_traceback, failed_at, next_retry_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_FAILED_MORE = """
INSERT INTO projection_health_metrics (projection_name, total_failures, active_failures, last_failure_at)
VALUES ($1, 1, 1, $2) ON CONFLICT (projection_name) DO UPDATE SET
    total_failures = projection_health_metrics.total_failures + 1,
    active_failures = projection_health_metrics.active_failures + 1, health_status = 'degraded'
"""
_SUCCEEDED = """
INSERT INTO projection_checkpoints
    (projection_name, last_event_id, last_event_type, last_event_sequence, events_processed)
SELECT $1, event_id, event_type, position, 1 FROM events WHERE event_id = $2
ON CONFLICT (projection_name) DO UPDATE SET
    last_event_id = excluded.last_event_id, last_event_type = excluded.last_event_type,
    last_event_sequence = excluded.last_event_sequence, checkpoint_at = now(),
    events_processed = projection_checkpoints.events_processed + 1
"""


class FailureTracker:
    """Writes down what failed and how far each projection has come."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make_tables(self) -> None:
        """Make them."""
        await self._database.pool.execute(TABLES)

    async def failed(self, name: str, event: DomainEvent, error: Exception) -> None:
        """Write down a failure, to be retried in a second, by somebody."""
        now = datetime.now(UTC).replace(tzinfo=None)
        told = "".join(traceback.format_exception(error))
        await self._database.pool.execute(
            _FAILED, event.event_id, event.event_type, name, str(error), told, now, now + timedelta(seconds=1)
        )
        await self._database.pool.execute(_FAILED_MORE, name, now)

    async def succeeded(self, name: str, event: DomainEvent) -> None:
        """Move the checkpoint."""
        await self._database.pool.execute(_SUCCEEDED, name, event.event_id)
