"""Where the pages are served: each framework, guard and database is there once; a third way with every fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bed import Bed
from tests.dashboard.pages.visiting import Visitor
from tests.http.serving import Way
from tests.http.stage import Stage
from tests.turns import IS_EVERY

WAYS = [("fastapi", "async", "postgresql"), ("flask", "blocking", "sqlite")]
if IS_EVERY:
    WAYS.append(("fastapi", "blocking", "postgresql"))


@pytest.fixture(params=WAYS, ids="-".join)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A server with one projection, "P", over a database of the test's own."""
    framework, kind, database = request.param
    url: str = request.getfixturevalue("sqlite_url" if database == "sqlite" else "postgres_url")
    bed = Bed("blocking", database, url)
    made = Stage(bed, Way(framework, kind))
    yield made
    made.close()
    bed.close()


@pytest.fixture
def visitor(stage: Stage) -> Visitor:
    """Somebody who opens pages: serves the stage at his first visit, once everything is planned."""
    return Visitor(stage)
