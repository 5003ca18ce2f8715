"""A process dies at every write to PostgreSQL, and after every COMMIT whose reply it does not see: the end is exact."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from tests.bed import Bed
from tests.faults.crashes import KINDS, Play, company
from tests.faults.proxy import Proxy
from tests.faults.zygote import End, Zygote
from tests.following.logs import FollowedLog

VICTIM = "the one who dies"
SESSIONS = "SELECT 1 FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One kind, in which a process dies in one place after the other."""

    bed: Bed
    zygote: Zygote
    name: str
    handler: str
    journal: Path

    def run(self, places: Iterable[int], arm: Callable[[Proxy, int, int], None]) -> int:
        """Break each place by `arm(proxy, pid, place)`, until one is not reached; return how many were."""
        log = FollowedLog(self.bed) if KINDS[self.name].is_followed else None
        failing = set[str]()
        guard = company(self.bed, self.handler, self.journal, failing, log)
        guard.work()
        reached = 0
        with Proxy(self.bed.url) as proxy:
            for place in places:
                play = Play(
                    self.bed, self.name, self.handler, self.journal, place=place, failing=failing, log=log
                )
                play.prepare(guard)
                end = self._break(proxy, play, lambda pid, place=place: arm(proxy, pid, place))
                has_happened = proxy.disarm()
                self.bed.wait_until(lambda: not self.bed.rows(SESSIONS, name=VICTIM))
                play.check_at_rest(returned=end.returned)
                guard = company(self.bed, self.handler, self.journal, failing, log)
                play.take_up(guard, returned=end.returned)
                if not has_happened:
                    assert end.returned
                    return reached
                reached = place
        pytest.fail("the process never survived")

    def _break(self, proxy: Proxy, play: Play, arm: Callable[[int], None]) -> End:
        through = make_url(proxy.url).update_query_dict({"application_name": VICTIM})
        order: dict[str, Any] = {
            **play.order(),
            "url": through.render_as_string(hide_password=False),
            "kind": self.bed.kind,
            "handler": self.handler,
            "journal": str(self.journal),
        }
        return self.zygote.let_die(order, break_it=arm)


def handlers(name: str) -> Iterable[str]:
    """A reset of an apart projection clears nothing that is elsewhere."""
    return ("joined",) if name == "reset" else ("joined", "apart")


EVERY_KIND = pytest.mark.parametrize(
    ("name", "handler"), [(name, handler) for name in KINDS for handler in handlers(name)]
)


@EVERY_KIND
def test_a_process_killed_at_any_write_to_the_socket(
    postgres_bed: Bed, zygote: Zygote, tmp_path: Path, name: str, handler: str
) -> None:
    """SIGKILL right before write 1, 2, 3, ... until it survives; another one takes up what it left."""
    sweep = Sweep(bed=postgres_bed, zygote=zygote, name=name, handler=handler, journal=tmp_path / "journal")
    reached = sweep.run(range(1, 400), lambda proxy, pid, place: proxy.kill(pid, at=place))
    print(f"{name}, {handler}, {postgres_bed.kind}: {reached} writes")


@pytest.mark.parametrize("lives_on", [False, True], ids=["and dies", "and lives on"])
@EVERY_KIND
def test_a_process_that_does_not_see_the_reply_of_any_commit(
    postgres_bed: Bed, zygote: Zygote, tmp_path: Path, name: str, handler: str, lives_on: bool
) -> None:
    """COMMIT 1, 2, 3, ... is done and its reply lost; the process is killed then, or goes on without its connection."""
    sweep = Sweep(bed=postgres_bed, zygote=zygote, name=name, handler=handler, journal=tmp_path / "journal")
    reached = sweep.run(
        range(1, 200), lambda proxy, pid, place: proxy.lose_commit(at=place, kill=None if lives_on else pid)
    )
    print(f"{name}, {handler}, {postgres_bed.kind}: {reached} commits")
