"""The ways of serving the routes: five frameworks, both guards, both databases.

The whole contract runs in two of them, in which each guard and database is there once; each test in one of the other
fourteen as well. All sixteen with `PROJECTION_GUARD_FAULTS=every` in the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

from tests.bed import Bed
from tests.http.serving import WAYS, Way
from tests.http.stage import Stage
from tests.turns import IS_EVERY

FULLY = {("fastapi", "async", "postgresql"), ("flask", "blocking", "sqlite")}
BY_TURNS = sorted(
    {(way.framework, way.kind, database) for way in WAYS for database in ("sqlite", "postgresql")} - FULLY
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the ways in which a test is not tried today: the hook sees the whole run's tests."""
    if IS_EVERY:
        return
    left_out = [item for item in items if not _is_wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _is_wanted(item)]


def _is_wanted(item: pytest.Item) -> bool:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    way, database = parameters.get("way"), parameters.get("database_url")
    if not isinstance(way, Way) or database is None:
        return True
    tried = (way.framework, way.kind, database)
    turn = crc32(item.nodeid.partition("[")[0].encode()) % len(BY_TURNS)
    return tried in FULLY or tried == BY_TURNS[turn]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way.framework}-{way.kind}")
def way(request: pytest.FixtureRequest) -> Way:
    """A framework over a kind of guard."""
    found: Way = request.param
    return found


@pytest.fixture
def stage(blocking_bed: Bed, way: Way) -> Iterator[Stage]:
    """A server with one projection, "P", over a database of the test's own."""
    made = Stage(blocking_bed, way)
    yield made
    made.close()
