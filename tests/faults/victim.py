"""A process that something is done to: `python -m tests.faults.victim '{"url": ..., "deed": ...}'`.

It brings the events of stream A to projection "P", as deliveries or by a worker's rounds. When its handler reaches the
event it was told to end at, it says so on stdout and then hangs until its stdin is written to ("hang"), or exits at
once without any clean-up ("exit").
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from tenacity import stop_after_attempt, wait_fixed

from projection_guard import ProjectionGuardError, RetryPolicy
from tests.bed import Bed, Happened, database_of, happened, noted

DIED = 77


def say(*words: object) -> None:
    """Tell the test."""
    print(*words, flush=True)  # noqa: T201


def end_here(how: str) -> None:
    """Hang until the test writes a line, or be gone."""
    if how == "exit":
        os._exit(DIED)
    say("reached")
    sys.stdin.readline()


def act(order: dict[str, Any]) -> None:
    """Do what was ordered."""
    bed = Bed(order["kind"], database_of(order["url"]), order["url"])
    retry = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(3), immediate=order.get("immediate", 0))
    guard = bed.guard(lease=timedelta(seconds=1), retry=retry)
    note, notes = noted("P"), Path(order["notes"])
    failing = set(order.get("failing", ()))

    def joined(event: Happened, connection: Any) -> None:
        note(event, connection)
        finish(event)

    def apart(event: Happened) -> None:
        with notes.open("a") as file:
            file.write(f"{event.event_id} begun\n")
        finish(event)
        with notes.open("a") as file:
            file.write(f"{event.event_id} done\n")

    def finish(event: Happened) -> None:
        if event.event_id == order.get("ends_at"):
            end_here(order["how"])
        if event.event_id in failing:
            raise ValueError("planned")

    if order["handler"] == "joined":
        bed.joined(guard, "P", joined, timeout=order.get("timeout", 60.0))
    else:
        bed.apart(guard, "P", apart, timeout=order.get("timeout", 60.0))
    for n in order.get("publish", ()):
        try:
            say(guard.publish(happened("A", n))[0].status.value)
        except ProjectionGuardError as error:
            say(type(error).__name__)
    for _ in range(order.get("rounds", 0)):
        done = guard.work()
        say("round", done.retried, done.drained)
    bed.close()


if __name__ == "__main__":
    act(json.loads(sys.argv[1]))
