"""The browser, and what it is shown: a server over a database in which failures are planned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.bed import Bed
from tests.dashboard.browser import Browser
from tests.http.serving import Way
from tests.http.stage import Stage
from tests.turns import IS_EVERY

IN_TURN = [("fastapi", "async", "postgresql"), ("flask", "blocking", "sqlite")]
if IS_EVERY:
    IN_TURN.append(("fastapi", "blocking", "sqlite"))
"""Each framework, guard and database is there once: for what an operator does all day."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run a test of the browser in the browser's thread."""
    browser = pyfuncitem.funcargs.get("browser")
    if not isinstance(browser, Browser):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    browser.run(lambda: pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def running_browser() -> Iterator[Browser]:
    """The one browser of this process."""
    made = Browser()
    yield made
    made.close()


@pytest.fixture
def browser(running_browser: Browser) -> Browser:
    """The browser, empty."""
    if running_browser.why_not is not None:
        pytest.skip(running_browser.why_not)
    return running_browser


@pytest.fixture(params=IN_TURN, ids="-".join)
def each_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A server with one projection, "P", in three ways of serving it."""
    yield from _stage(request, *request.param)


@pytest.fixture(params=[("fastapi", "blocking", "sqlite"), ("flask", "blocking", "sqlite")], ids=lambda way: way[0])
def either_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A server with one projection, "P", in both frameworks: for what depends on these only."""
    yield from _stage(request, *request.param)


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A server with one projection, "P": for what is the browser's matter."""
    yield from _stage(request, "fastapi", "blocking", "sqlite")


def _stage(request: pytest.FixtureRequest, framework: Any, kind: Any, database: str) -> Iterator[Stage]:
    url: str = request.getfixturevalue("sqlite_url" if database == "sqlite" else "postgres_url")
    bed = Bed("blocking", database, url)
    made = Stage(bed, Way(framework, kind))
    yield made
    made.close()
    bed.close()
