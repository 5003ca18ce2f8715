"""Two people at once at the admin routes, and the one who tidies up in the end. What each was told is kept."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import httpx

from tests.chaos import world

__all__ = ["Admin", "Admins", "answers", "resume_all", "retry_all"]

_REBUILDABLE: Final = ("followed", "followed batch")


def prefix_of(projection: str) -> str:
    """Return where the routes of a projection's guard are."""
    return "/followed" if projection in world.FOLLOWED else "/pushed"


class Admin:
    """Somebody at the admin routes. `told` counts the answers by action; a request without one is "unknown"."""

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self.told: Counter[tuple[str, str]] = Counter()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-admin": name}, timeout=30)

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """Look; None where nobody answers."""
        try:
            answer = self._client.get(path, params=parameters)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def act(self, action: str, path: str, body: dict[str, Any] | None = None) -> str:
        """Act, and return the status or "unknown"."""
        try:
            status = str(self._client.post(path, json=body or {}).status_code)
        except httpx.HTTPError:
            status = "unknown"
        if status[0] == "5":  # 503: it may have been done all the same
            status = "unknown"
        self.told[action, status] += 1
        return status

    def decide(self, projection: str, failure_id: str, how: str) -> str:
        """Decide on a failure."""
        path = f"{prefix_of(projection)}/admin/projections/failures/{failure_id}/resolve"
        return self.act(how, path, {"compensation_strategy": how, "note": "chaos"})

    def steer(self, projection: str, action: str) -> str:
        """Pause, resume, reset or rebuild a projection."""
        return self.act(action, f"{prefix_of(projection)}/admin/projections/{projection}/{action}")

    def exhausted(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Return failures that wait for a person: projection and id."""
        page = self.get(f"{prefix}/admin/projections/failures", state="exhausted", limit=100)
        for item in page["items"] if page else ():
            yield item["projection_name"], item["id"]


class Admins:
    """A thread for each of two people who act at random; a context manager, after which `told` is final."""

    def __init__(self, port: int, seed: int) -> None:
        self.all = [Admin(port, f"admin-{number}") for number in (1, 2)]
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._act, args=(admin, random.Random(f"{seed} {admin.name}")))
            for admin in self.all
        ]

    @property
    def told(self) -> Counter[tuple[str, str]]:
        """What both were told."""
        return sum((admin.told for admin in self.all), Counter())

    def _act(self, admin: Admin, chance: random.Random) -> None:
        while not self._stopping.wait(chance.uniform(0.05, 0.4)):
            match chance.choices(("failure", "pause", "rebuild", "reset"), (20, 2, 1, 1))[0]:
                case "failure":
                    self._decide(admin, chance)
                case "pause":
                    projection = chance.choice((*world.PUSHED, *world.FOLLOWED))
                    admin.steer(projection, "pause")
                    self._stopping.wait(chance.uniform(0.0, 0.5))
                    admin.steer(projection, "resume")
                case action:
                    admin.steer(chance.choice(_REBUILDABLE), action)

    def _decide(self, admin: Admin, chance: random.Random) -> None:
        waiting = list(admin.exhausted(chance.choice(("/pushed", "/followed"))))
        if waiting:
            projection, failure_id = waiting[0] if chance.random() < 0.5 else chance.choice(waiting)
            admin.decide(projection, failure_id, chance.choices(("retry", "skip", "manual_fix"), (6, 3, 1))[0])

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for admin in self.all:
            admin.close()


def answers(told: Mapping[tuple[str, str], int]) -> tuple[Counter[str], Counter[str]]:
    """Count by action what was answered to be done, and what nobody has answered."""
    done, unknown = Counter[str](), Counter[str]()
    for (action, status), number in told.items():
        done[action] += number * (status in ("200", "202"))
        unknown[action] += number * (status == "unknown")
    return +done, +unknown


def resume_all(admin: Admin, *, until: float) -> None:
    """Let everything go on that somebody has paused."""
    for projection in (*world.PUSHED, *world.FOLLOWED):
        while admin.steer(projection, "resume") == "unknown" and time.monotonic() < until:
            time.sleep(0.2)


def retry_all(admin: Admin, *, until: float) -> None:
    """Retry what waits for a person, until nothing does."""
    while time.monotonic() < until:
        waiting = [each for prefix in ("/pushed", "/followed") for each in admin.exhausted(prefix)]
        for projection, failure_id in waiting:
            admin.decide(projection, failure_id, "retry")
        if not waiting and admin.get("/pushed/health/projections") is not None:
            return
