"""What the tests of the dashboard are told with: a worker elsewhere, failures, and forms that no page has offered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page

from tests.bed import happened
from tests.http.stage import Stage

__all__ = ["a_worker", "failing_streams", "mark", "marked", "posted"]

_POST = """async (path) => (await fetch(path, {method: "POST",
  headers: {"Content-Type": "application/x-www-form-urlencoded"}, body: "seen=1000&projection=P"})).status"""


@contextmanager
def a_worker(stage: Stage) -> Iterator[None]:
    """Let a worker be at work in another process, as one always is."""
    with stage.guard.real.worker(poll_seconds=0.1):
        yield


def failing_streams(stage: Stage, count: int) -> None:
    """Let the first event of so many streams fail, with one parked behind each."""
    stage.handler.failing |= {f"S{n}#1" for n in range(count)}
    for n in range(count):
        stage.guard.publish(happened(f"S{n}", 1))
        stage.guard.publish(happened(f"S{n}", 2))


def mark(page: Page) -> None:
    """Mark the page that is open: one that is loaded anew has no mark."""
    page.evaluate("window.isMarked = true")


def marked(page: Page) -> bool:
    """Return whether the page is the one that was marked."""
    return bool(page.evaluate("window.isMarked === true"))


def posted(page: Page, path: str) -> int:
    """Send a form that the page does not have; return the answer's status."""
    return int(page.evaluate(_POST, path))
