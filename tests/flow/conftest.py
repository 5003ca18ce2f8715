"""Fixtures of the flow's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bed import Bed


@pytest.fixture(params=["blocking", "async"])
def postgres_bed(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Bed]:
    """Both ways of running the library, on PostgreSQL."""
    made = Bed(request.param, "postgresql", postgres_url)
    yield made
    made.close()


@pytest.fixture
def blocking_bed(database_url: str) -> Iterator[Bed]:
    """The blocking guard, on both databases."""
    made = Bed("blocking", "sqlite" if database_url.startswith("sqlite") else "postgresql", database_url)
    yield made
    made.close()


@pytest.fixture
def async_bed(database_url: str) -> Iterator[Bed]:
    """The async guard, on both databases."""
    made = Bed("async", "sqlite" if database_url.startswith("sqlite") else "postgresql", database_url)
    yield made
    made.close()


@pytest.fixture(params=["blocking", "async"])
def sqlite_bed(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Bed]:
    """Both ways of running the library, on SQLite: for rules in which no database takes part."""
    made = Bed(request.param, "sqlite", sqlite_url)
    yield made
    made.close()
