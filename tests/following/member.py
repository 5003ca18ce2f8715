"""A process that follows a log as a worker: `python -m tests.following.member '{"url": ..., "kind": ...}'`.

It works until its stdin is closed, and then stops cleanly. `ends_at` names an event whose handler exits the process
without any clean-up, each time it is called ("exit"), or says "reached" and stands there until a line comes ("hang").
`replays` makes it run a replay in the foreground instead, `verifies` a verification.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import RetryPolicy
from tests.bed import Bed, GuardOnBed, Happened, database_of, noted
from tests.following.logs import FollowedLog

DIED = 77


def say(*words: object) -> None:
    """Tell the test."""
    print(*words, flush=True)  # noqa: T201


def act(order: dict[str, Any]) -> None:
    """Follow."""
    bed = Bed(order["kind"], database_of(order["url"]), order["url"])
    log = FollowedLog(bed, is_there=True)
    retry = RetryPolicy(wait=wait_fixed(0.05), stop=stop_after_attempt(4), breaker=None)
    guard = log.guard(lease=timedelta(seconds=order.get("lease", 1)), retry=retry)
    note, notes = noted("P"), Path(order["notes"]) if "notes" in order else None

    def end_here(event: Happened) -> None:
        if event.event_id == order.get("ends_at"):
            if order["how"] == "exit":
                os._exit(DIED)
            say("reached")
            sys.stdin.readline()
        time.sleep(order.get("pause", 0))

    def joined(event: Happened, connection: Connection) -> None:
        note(event, connection)
        end_here(event)

    def apart(event: Happened) -> None:
        end_here(event)
        if notes is not None:
            with notes.open("a") as file:
                file.write(f"{event.event_id}\n")

    options = {name: order[name] for name in ("timeout", "partitions", "tables") if name in order}
    if order.get("handler", "joined") == "joined":
        bed.joined(guard, "P", joined, **options)
    else:
        bed.apart(guard, "P", apart, **options)
    if not in_foreground(order, guard):
        worker = guard.real.worker(poll_seconds=order.get("poll", 0.1))
        bed.run(worker.start() if not bed.is_async else begun(worker))
        say("begun")
        if bed.is_async:
            bed.run(until_told())
        else:
            sys.stdin.read()
        bed.run(worker.stop())
        say("stopped")
    bed.close()


def in_foreground(order: dict[str, Any], guard: GuardOnBed) -> bool:
    """Run a replay or verification to its end, if that is asked for."""
    for what, run in (("replays", guard.replay), ("verifies", guard.verify)):
        if what in order:
            say("begun")
            say(run("P", actor="a member", **order[what]).status)
            return True
    return False


async def begun(worker: Any) -> None:
    """Start a worker on the loop that is running."""
    worker.start()


async def until_told() -> None:
    """Wait for the end of stdin while the loop goes on."""
    import asyncio

    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    act(json.loads(sys.argv[1]))
