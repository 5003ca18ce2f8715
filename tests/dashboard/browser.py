"""The suite's browser: a real Chromium without a window, one in each process of the suite, in a thread of its own.

    def test_something(browser: Browser, stage: Stage) -> None:
        page = browser.visit(stage.serve().dashboard, "operator")

Playwright's blocking calls leave an event loop running in their thread, and the other tests of the process need theirs:
so a test that takes `browser` is run in that thread (conftest). It fails where a page did what none may do: `_Watch`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Dialog, Page, Playwright, Request, Response, expect, sync_playwright

__all__ = ["PHONE", "Browser", "Role", "found_chromium"]

T = TypeVar("T")
Role = Literal["operator", "viewer", "nobody"]
PHONE: Final = 375
_PATIENCE: Final = 30_000
NAMED: Final = "PROJECTION_GUARD_TEST_CHROMIUM"
_ON_PATH: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""


def found_chromium() -> str | None:
    """Return the path of a browser: the one that the environment names, one on PATH, or Playwright's own."""
    named = os.environ.get(NAMED)
    if named:
        return named
    for name in _ON_PATH:
        if found := shutil.which(name):
            return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


class Browser:
    """A browser that runs, and the windows that the test at hand has opened in it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "browser")
        self._watches: list[_Watch] = []
        self._running: tuple[Playwright, Chromium] | None = None
        self.why_not: str | None = self._do(self._start)

    def _start(self) -> str | None:
        try:
            path = found_chromium()
        except Exception as error:  # Playwright has no class of its own for a driver that does not start
            return f"no browser: Playwright's driver does not start on this machine ({error})"
        if path is None:
            return f"no browser: neither {NAMED}, nor one on PATH ({', '.join(_ON_PATH)}), nor Playwright's own"
        playwright = sync_playwright().start()
        expect.set_options(timeout=_PATIENCE)  # its own five seconds are soon over beside other tests
        self._running = (playwright, playwright.chromium.launch(executable_path=path, args=_OPTIONS))
        return None

    def run(self, test: Callable[[], object]) -> None:
        """Run a test in the browser's thread; close what it has opened; fail where a page did what none may do."""
        self._do(lambda: self._watched(test))

    def _watched(self, test: Callable[[], object]) -> None:
        try:
            test()
            if troubles := self.troubles():
                pytest.fail("pages did what none may do:\n" + "\n".join(troubles))
        finally:
            for watch in self._watches:
                watch.context.close()
            self._watches.clear()

    def visit(
        self, dashboard: str, role: Role = "operator", *, at: str = "./", width: int = 1280, **options: Any
    ) -> Page:
        """Open a page of a dashboard as somebody, in a context of its own; `options` are the context's."""
        page = self.enter(dashboard, role, width=width, **options)
        response = page.goto(at)
        assert response is not None
        assert response.status == 200, response.text()
        return page

    def enter(self, dashboard: str, role: Role = "operator", *, width: int = 1280, **options: Any) -> Page:
        """Return an empty page from which addresses are relative to a dashboard's."""
        assert self._running is not None
        context = self._running[1].new_context(
            base_url=dashboard,
            viewport={"width": width, "height": 900},
            extra_http_headers={} if role == "nobody" else {"Authorization": f"Bearer {role}"},
            **options,
        )
        context.set_default_timeout(_PATIENCE)
        self._watches.append(_Watch(context, urlsplit(dashboard).netloc))
        return context.new_page()

    def troubles(self) -> list[str]:
        """Return what pages did that none may do."""
        return [trouble for watch in self._watches for trouble in watch.unexpected()]

    def expect(self, pattern: str) -> None:
        """Say that the test brings about what this pattern is found in, so that it is no trouble."""
        for watch in self._watches:
            watch.expected.append(re.compile(pattern))

    def close(self) -> None:
        """End the browser."""
        self._do(self._stop)
        self._thread.shutdown()

    def _stop(self) -> None:
        if self._running is not None:
            playwright, chromium = self._running
            chromium.close()
            playwright.stop()

    def _do(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()


class _Watch:
    """Notes what no page may do: violate the policy, open a dialog, fail, ask another host, be answered with a 5xx."""

    def __init__(self, context: BrowserContext, host: str) -> None:
        self.context = context
        self.expected: list[re.Pattern[str]] = []
        self._host = host
        self._troubles: list[str] = []
        context.add_init_script(_VIOLATIONS)
        context.on("console", lambda message: self._note(message.type in ("error", "warning"), f"said {message.text}"))
        context.on("dialog", self._opened)
        context.on("weberror", lambda error: self._note(True, f"error {error.error}"))
        context.on("requestfailed", self._failed)
        context.on("request", self._asked)
        context.on("response", self._answered)

    def unexpected(self) -> list[str]:
        """Return what happened and was not expected."""
        return [trouble for trouble in self._troubles if not any(each.search(trouble) for each in self.expected)]

    def _note(self, is_trouble: bool, what: str) -> None:
        if is_trouble:
            self._troubles.append(what)

    def _opened(self, dialog: Dialog) -> None:
        self._note(True, f"dialog {dialog.message}")
        dialog.dismiss()

    def _failed(self, request: Request) -> None:
        # A look that is under way ends with the page that made it, where somebody goes on to another.
        self._note(request.failure != "net::ERR_ABORTED", f"failed {request.method} {request.url}: {request.failure}")

    def _asked(self, request: Request) -> None:
        self._note(urlsplit(request.url).netloc != self._host, f"elsewhere {request.url}")

    def _answered(self, response: Response) -> None:
        self._note(response.status >= 500, f"answer {response.status} {response.url}")
