"""Four workers share sixteen partitions, and every two seconds one of them is killed; the end is exact.

On a slow machine later: when the one who replaces the last one is at work. Eight seconds of it by default;
`PROJECTION_GUARD_CHAOS_SECONDS=60` makes it the whole minute, `-rP` shows the figures.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from typing import Self

import pytest

from tests.bed import Bed
from tests.faults.processes import Victim
from tests.following.members import PROGRAM, Appenders, assert_exact, has_come_to, member, owners, prepared

SECONDS = float(os.environ.get("PROJECTION_GUARD_CHAOS_SECONDS", "8"))
KILL_EVERY_SECONDS = 2.0
PARTITIONS, WORKERS, LEASE_SECONDS = 16, 4, 3
MARGIN_SECONDS = 3.0 if "PROJECTION_GUARD_CHAOS_SECONDS" in os.environ else 30.0
"""After the lease's end: a worker shares anew every 0.4 s; the rest is for a machine that has other things to do."""
SIGNS = {
    "postgresql": """
        SELECT partition, extract(epoch FROM statement_timestamp()) AS now,
               extract(epoch FROM lease_expires_at - make_interval(secs => :lease)) AS sign
        FROM projection_partitions WHERE projection_name = 'P' AND partition >= 0
        """,
    "mariadb": """
        SELECT partition, unix_timestamp(utc_timestamp(6)) AS now,
               unix_timestamp(lease_expires_at - INTERVAL :lease SECOND) AS sign
        FROM projection_partitions WHERE projection_name = 'P' AND partition >= 0
        """,
}


class Watch:
    """A thread that looks at the partitions and keeps the longest time that one of them was without a sign of an owner.

    By the database's clock: signs are the taking of a lease, and each prolonging. One given up has its last sign then.
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look_on)
        self._given_up: dict[int, float] = {}
        self.looks = 0
        self.longest_seconds = 0.0

    def _look_on(self) -> None:
        while not self._stopped.wait(0.03):
            self._look()

    def _look(self) -> None:
        self.looks += 1
        for partition, now, sign in self._bed.rows(SIGNS[self._bed.database], lease=LEASE_SECONDS):
            if sign is None:
                sign = self._given_up.setdefault(partition, now)
            else:
                self._given_up.pop(partition, None)
            self.longest_seconds = max(self.longest_seconds, float(now - sign))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.mark.slow
def test_members_that_are_killed_again_and_again_lose_nothing(server_bed: Bed) -> None:
    """Nothing is lost, nothing comes twice, and no partition is without an owner for longer than the lease."""
    bed, kills = server_bed, 0
    log = prepared(bed, partitions=PARTITIONS)
    options = {"partitions": PARTITIONS, "lease": LEASE_SECONDS}
    with ExitStack() as stack:
        members = [stack.enter_context(Victim(PROGRAM, url=bed.url, kind=bed.kind, **options)) for _ in range(WORKERS)]
        bed.wait_until(lambda: len(set(owners(bed).values()) - {None}) == WORKERS, within=60)
        with Watch(bed) as watch:
            with Appenders(bed, 3) as appenders:
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    next_kill = time.monotonic() + KILL_EVERY_SECONDS
                    members.pop(0).kill()
                    kills += 1
                    members.append(stack.enter_context(member(bed, **options)))  # has begun: three are always there
                    time.sleep(max(next_kill - time.monotonic(), 0.0))
            log.lengths.update(appenders.committed)
            bed.wait_until(has_come_to(bed, bed.value("SELECT max(sequence) FROM log")), within=180)
        for survivor in members:
            assert survivor.let_end()[-1] == "stopped"
    print(  # noqa: T201
        f"{kills} kills in {SECONDS:.0f} s, {sum(log.lengths.values())} events, {watch.looks} looks; longest time "
        f"without a sign of an owner: {watch.longest_seconds:.2f} s, with a lease of {LEASE_SECONDS} s"
    )
    assert sum(log.lengths.values()) > 100
    assert_exact(bed, log)
    assert watch.longest_seconds < LEASE_SECONDS + MARGIN_SECONDS
