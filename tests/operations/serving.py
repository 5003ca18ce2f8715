"""A worker service as a process of its own: `python -m tests.operations.serving '{"url": ..., "kind": ...}'`.

It follows the test's log as projection P. `hangs_at` names an event in whose handler it says "reached" and stands until
a line comes on its stdin, or for as long as `hangs_for` says. Its receiver of alerts writes into the file that `alerts`
names, where others write, too. The last thing it says is its exit code.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import Alert, AlertPolicy, RetryPolicy
from projection_guard.worker_service import Page, WorkerServiceSettings, run_worker_service
from tests.alerting.told import policy_of
from tests.bed import Bed, Happened, database_of, noted
from tests.following.logs import FollowedLog


def say(*words: object) -> None:
    """Tell the test."""
    print(*words, flush=True)  # noqa: T201


class Tell(logging.Handler):
    """Says the service's own log lines."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("worker service: "):
            say(message.removeprefix("worker service: "))


def serve(order: dict[str, Any]) -> int:
    """Run the service until a signal comes."""
    if "notify_socket" in order:
        os.environ["NOTIFY_SOCKET"] = order["notify_socket"]
    logging.getLogger("projection_guard").setLevel(logging.INFO)
    logging.getLogger("projection_guard").addHandler(Tell())
    bed = Bed(order["kind"], database_of(order["url"]), order["url"])
    bed.url = order.get("through", bed.url)
    log = FollowedLog(bed, is_there=True)
    retry = RetryPolicy(wait=wait_fixed(0.05), stop=stop_after_attempt(30), breaker=None)
    guard = log.guard(lease=timedelta(seconds=order.get("lease", 1)), retry=retry, alerts=_alerts(order.get("alerts")))
    note, calls = noted("P"), Counter[str]()

    def joined(event: Happened, connection: Connection) -> None:
        note(event, connection)
        if event.event_id == order.get("hangs_at"):
            say("reached")
            if "hangs_for" in order:
                time.sleep(order["hangs_for"])
            else:
                sys.stdin.readline()
        calls[event.event_id] += 1
        if order.get("fails") and event.n % 7 == 3 and calls[event.event_id] <= 2:  # in its stretch, and alone
            raise ValueError("planned")

    bed.joined(guard, "P", joined, partitions=order.get("partitions", 1), timeout=order.get("timeout", 60.0))
    file = order.get("health_file")
    settings = WorkerServiceSettings(
        poll_seconds=0.1,
        grace_seconds=order.get("grace", 20.0),
        health_file=None if file is None else Path(file),
        health_port=order.get("health_port"),
        pages=(Page(path="/page", content=lambda: ("text/plain", b"a page")), Page(path="/broken", content=_broken)),
    )
    return run_worker_service(guard.real, settings)


def _alerts(notes: str | None) -> AlertPolicy | None:
    def receiver(alert: Alert) -> None:
        with Path(notes or "").open("a") as file:
            file.write(f"{alert.kind} {alert.state}\n")

    return policy_of(receiver, exhausted=True, clears_after_seconds=0) if notes else None


def _broken() -> tuple[str, bytes]:
    raise ValueError("secret")


if __name__ == "__main__":
    sys.exit(serve(json.loads(sys.argv[1])))
