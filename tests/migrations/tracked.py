"""A tracker that an application has made by hand, and the application once it has a guard, as `--app` finds it.

TRACKED_DATABASE is a URL; TRACKED_LOG=1 gives the guard a log to follow.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from tenacity import wait_fixed

from projection_guard import ProjectionGuard, RetryPolicy, SqlEventSource

__all__ = ["TABLES", "add", "guard", "make_tracker"]

AT_ONCE = RetryPolicy(wait=wait_fixed(0))

TABLES: Mapping[str, Mapping[str, str]] = {
    "projection_failures": {
        "id": "uuid PRIMARY KEY",
        "event_id": "uuid",
        "event_type": "varchar(255)",
        "projection_name": "varchar(255)",
        "error_message": "text",
        "error_traceback": "text",
        "retry_count": "integer DEFAULT 0",
        "max_retries": "integer DEFAULT 5",
        "failed_at": "timestamp",
        "last_retry_at": "timestamp",
        "next_retry_at": "timestamp",
        "resolved_at": "timestamp",
        "resolution_method": "varchar(50)",
        "created_at": "timestamp DEFAULT CURRENT_TIMESTAMP",
        "updated_at": "timestamp DEFAULT CURRENT_TIMESTAMP",
    },
    "projection_checkpoints": {
        "projection_name": "varchar(255) PRIMARY KEY",
        "last_event_id": "uuid",
        "last_event_type": "varchar(255)",
        "last_event_sequence": "bigint",
        "events_processed": "bigint DEFAULT 0",
        "checkpoint_at": "timestamp DEFAULT CURRENT_TIMESTAMP",
        "created_at": "timestamp DEFAULT CURRENT_TIMESTAMP",
        "updated_at": "timestamp DEFAULT CURRENT_TIMESTAMP",
    },
    "projection_health_metrics": {
        "projection_name": "varchar(255) PRIMARY KEY",
        "health_status": "varchar(50) DEFAULT 'healthy'",
        "total_events_processed": "bigint DEFAULT 0",
        "total_failures": "bigint DEFAULT 0",
        "active_failures": "integer DEFAULT 0",
        "last_success_at": "timestamp",
        "last_failure_at": "timestamp",
        "lag_seconds": "integer",
        "created_at": "timestamp DEFAULT CURRENT_TIMESTAMP",
        "updated_at": "timestamp DEFAULT CURRENT_TIMESTAMP",
    },
}
"""The columns that such trackers are known to have: 15, 8 and 10, times without a zone."""


def make_tracker(connection: Connection, schema: str | None = None, **more: str) -> None:
    """Make its tables, and an index under a name of the guard's. `more`: further columns of the failures."""
    prefix = f"{schema}." if schema else ""
    for table, columns in TABLES.items():
        told = {**columns, **(more if table == "projection_failures" else {})}
        written = ", ".join(f"{name} {kind}" for name, kind in told.items())
        connection.execute(text(f"CREATE TABLE {prefix}{table} ({written})"))
    index = "CREATE INDEX ix_projection_failures_open ON"
    connection.execute(text(f"{index} {prefix}projection_failures (projection_name)"))


def add(connection: Connection, table: str, *rows: Mapping[str, object], schema: str | None = None) -> None:
    """Let the tracker write rows, all with the same columns."""
    names = list(rows[0])
    values = ", ".join(f":{name}" for name in names)
    prefix = f"{schema}." if schema else ""
    connection.execute(
        text(f"INSERT INTO {prefix}{table} ({', '.join(names)}) VALUES ({values})"), [dict(r) for r in rows]
    )


def guard() -> ProjectionGuard:
    """Return the application's guard; its handler notes what it is given."""
    engine = create_engine(os.environ["TRACKED_DATABASE"])
    source = SqlEventSource(engine, "events") if os.environ.get("TRACKED_LOG") else None
    made = ProjectionGuard(engine, source=source, retry=AT_ONCE, worker="external")

    @made.projection("Documents", handles=["Uploaded"])
    def documents(event: Mapping[str, Any], connection: Connection) -> None:
        connection.execute(
            text("INSERT INTO noted (stream, event_id) VALUES (:stream, :event)"),
            {"stream": event["stream_id"], "event": str(event["event_id"])},
        )

    return made


def make_log(engine: Engine) -> None:
    """Make a log of two streams, a and b, whose events are e-1 to e-8 by turns, and the read model."""
    key = "INTEGER PRIMARY KEY AUTOINCREMENT" if engine.dialect.name == "sqlite" else "bigserial PRIMARY KEY"
    kind = "text" if engine.dialect.name == "sqlite" else "uuid"
    counted = "INTEGER PRIMARY KEY AUTOINCREMENT" if engine.dialect.name == "sqlite" else "serial PRIMARY KEY"
    with engine.begin() as connection:
        connection.execute(
            text(f"CREATE TABLE events (sequence {key}, event_id {kind} UNIQUE, event_type text, stream_id text)")
        )
        connection.execute(text(f"CREATE TABLE noted (n {counted}, stream text, event_id text)"))
