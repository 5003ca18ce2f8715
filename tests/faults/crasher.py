"""A process whose children die: `python -m tests.faults.crasher`.

It has imported everything. For each line on stdin, an order, a child is forked that makes a guard with connections of
its own, says `ready <pid>`, waits for a line, does what was ordered and says `returned` or `raised <error>`. However
it ends, `ended <code>` is said then; -9 is SIGKILL.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from projection_guard import SourceError, StoreUnavailable
from projection_guard._io.engines import async_engine_for, engine_for
from tests.bed import Bed, GuardOnBed, database_of, happened
from tests.faults.crashes import company
from tests.faults.disk import Disk
from tests.faults.victim import say
from tests.following.logs import FollowedLog


class Ancestor:
    """Has imported everything, and has met the database of its children's once, so that their statements are compiled.

    No connection and no guard of his is left when a child is forked: it begins as a process does that was just started.
    """

    def __init__(self) -> None:
        self._of: tuple[str, str] | None = None
        self._engine: Any = None

    def bed(self, order: dict[str, Any]) -> Bed:
        """Return a bed of one's own for an order."""
        bed = Bed(order["kind"], database_of(order["url"]), order["url"], is_there=True)
        bed.url = self._engine
        return bed

    def meet(self, order: dict[str, Any]) -> None:
        """Do something harmless in the order's database, if that is another one than before."""
        if self._of == (order["url"], order["kind"]):
            return
        self._of = order["url"], order["kind"]
        make: Any = async_engine_for if order["kind"] == "async" else engine_for
        self._engine = make(order["url"])
        bed = self.bed(order)
        guard = company(bed, order["handler"], Path(os.devnull), set(), None, name="ancestor")
        guard.health()
        guard.publish(happened("ancestor", 1))
        guard.work()
        bed.run(self._engine.dispose())
        bed.close()
        gc.collect()
        gc.freeze()  # a child's collector would write to all pages, and so copy them


def act(order: dict[str, Any], ancestor: Ancestor) -> None:
    """Do what was ordered, in a child."""
    disk = Disk(order["disk"]) if "disk" in order else None
    bed = ancestor.bed(order)
    log = FollowedLog(bed, is_there=True) if order["is_followed"] else None
    guard = company(bed, order["handler"], Path(order["journal"]), set(order["failing"]), log, fails=order["fails"])
    if not order["is_new"]:
        guard.health()
    say("ready", os.getpid())
    at = int(sys.stdin.readline())
    if disk is not None:
        disk.break_at(at)
    try:
        do(order, guard)
        say("returned")
    except (StoreUnavailable, SourceError) as error:
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
    ancestor = Ancestor()
    while line := sys.stdin.readline():
        order = json.loads(line)
        ancestor.meet(order)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            act(order, ancestor)
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
