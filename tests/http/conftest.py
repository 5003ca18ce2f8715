"""The six ways of serving the routes: two frameworks, both guards, both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bed import Bed
from tests.http.serving import WAYS, Way
from tests.http.stage import Stage


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
