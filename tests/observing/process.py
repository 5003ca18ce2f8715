"""A process that works on a database and serves its metrics: `python -m tests.observing.process URL worker|publisher`.

It prints where, and ends when it is told to.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prometheus_client import CollectorRegistry, start_http_server
from sqlalchemy import Connection, insert, text
from tenacity import wait_fixed

from projection_guard import ProjectionGuard, RetryPolicy
from projection_guard._desk import service_of
from projection_guard._io.protocol import drive
from projection_guard._tables import ProjectionReplay
from projection_guard.prometheus import PrometheusMetrics, database_metrics
from tests.bed import Happened, happened

__all__ = ["LATER", "UNTIL_ASKED"]

LATER = RetryPolicy(wait=wait_fixed(3600))
UNTIL_ASKED = "end\n"


def handler(event: Happened, connection: Connection) -> None:
    """Fail on each stream's fourth event."""
    connection.execute(text("SELECT 1"))
    if event.n == 4:
        raise ValueError("planned")


def _play(guard: ProjectionGuard, name: str) -> None:
    """Publish three events that are applied, one that fails, one that is parked behind it, and one once more."""
    publisher = guard.publisher()
    for n in (1, 2, 3, 4, 5, 1):
        publisher.publish(happened(name, n, n))


def _begin_a_replay(guard: ProjectionGuard) -> None:
    """Say that one is halfway: there is no log here to replay."""
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    row = {
        "id": uuid4(),
        "projection_name": "P",
        "kind": "range",
        "status": "running",
        "phase": "again",
        "begins_after": 0,
        "ends_at": 10,
        "position": 5,
        "skip_failed": False,
        "actor": "alice",
        "created_at": an_hour_ago,
        "started_at": an_hour_ago,
        "updated_at": an_hour_ago,
    }
    drive(service_of(guard).write(lambda connection: connection.execute(insert(ProjectionReplay).values(row))))


def main(url: str, kind: str) -> None:
    """Play, and serve."""
    registry = CollectorRegistry()
    guard = ProjectionGuard(url, worker="external", retry=LATER, instruments=[PrometheusMetrics(registry)])
    guard.projection("P", handles=[Happened])(handler)
    _play(guard, kind)
    if kind == "worker":
        _begin_a_replay(guard)
        database_metrics(guard, registry=registry, every_seconds=0)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}/metrics\n")
    sys.stdout.flush()
    sys.stdin.readline()
    server.shutdown()
    thread.join()
    server.server_close()
    guard.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
