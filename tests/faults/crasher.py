"""A process whose children die: `python -m tests.faults.crasher`.

It has imported everything. For each line on stdin, an order, a child is forked that makes a guard with connections of
its own, says `ready <pid>`, waits for a line, does what was ordered and says `returned` or `raised <error>`. However
it ends, `ended <code>` is said then; -9 is SIGKILL.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from projection_guard import StoreUnavailable
from tests.bed import Bed, GuardOnBed, happened
from tests.faults.crashes import company
from tests.faults.disk import Disk
from tests.faults.victim import say
from tests.following.logs import FollowedLog


def act(order: dict[str, Any]) -> None:
    """Do what was ordered, in a child."""
    database = "sqlite" if order["url"].startswith("sqlite") else "postgresql"
    disk = Disk(order["disk"]) if "disk" in order else None
    bed = Bed(order["kind"], database, order["url"])
    bed.engine.dispose()
    log = FollowedLog(bed, is_there=True) if order["is_followed"] else None
    guard = company(bed, order["handler"], Path(order["journal"]), set(order["failing"]), log, order["fails"])
    if not order["is_new"]:
        guard.health()
    say("ready", os.getpid())
    at = int(sys.stdin.readline())
    if disk is not None:
        disk.break_at(at)
    try:
        do(order, guard)
        say("returned")
    except StoreUnavailable as error:
        say("raised", type(error).__name__)
    if disk is not None:
        say("writes", disk.mend())
    bed.close()


def do(order: dict[str, Any], guard: GuardOnBed) -> None:
    """Do it."""
    match order["deed"]:
        case "publish":
            guard.publish(happened(order["stream"], order["n"]))
        case "work":
            guard.work()
        case "catch up":
            guard.catch_up("P")
        case "reset":
            guard.reset("P", actor="the test")
        case "replay":
            guard.replay("P", from_sequence=order["from_sequence"], actor="the test")


def main() -> None:
    """Fork one child after the other."""
    while line := sys.stdin.readline():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            act(json.loads(line))
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
