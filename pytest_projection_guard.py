"""The pytest plugin of `projection_guard.testing`: databases and points of the flow, as fixtures.

    projection_guard_sqlite         URL of a SQLite database of the test's own, with the guard's tables
    projection_guard_postgres       the same on PostgreSQL; skipped where none is found
    projection_guard_database       the test runs on both, one after the other
    projection_guard_crash_point    the test runs once for each of `CRASH_POINTS`

pytest finds it by its entry point; `-p no:projection_guard` leaves it out. It is a module beside the package, since
pytest imports it at each start: nothing else is imported until a test asks for a fixture.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from projection_guard.testing import PostgresServer

__all__ = [
    "projection_guard_crash_point",
    "projection_guard_database",
    "projection_guard_postgres",
    "projection_guard_postgres_server",
    "projection_guard_sqlite",
    "projection_guard_sqlite_template",
]

_NAMED_BY = ("PROJECTION_GUARD_TEST_POSTGRES", "PROJECTION_GUARD_TEST_POSTGRES_FROM")
_POINTS = ("begin", "statement", "handler", "commit")


def _migrate(url: str) -> None:
    from projection_guard import ProjectionGuard

    with ProjectionGuard(url, worker="external") as guard:
        guard.migrate()


@pytest.fixture(scope="session")
def projection_guard_sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the guard's tables, migrated once a run."""
    path = tmp_path_factory.mktemp("projection_guard") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def projection_guard_sqlite(projection_guard_sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a SQLite database of the test's own, with the guard's tables."""
    path = tmp_path / f"projection_guard_{uuid4().hex[:8]}.db"
    shutil.copyfile(projection_guard_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def projection_guard_postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, found as `find_postgres` does, started at its first use and stopped at the end of the run.

    Where none is found its tests are skipped; where one was named in the environment and is not there, they fail.
    """
    from projection_guard.testing import PostgresNotFound, find_postgres, postgres_server

    try:
        found = find_postgres()
    except PostgresNotFound as error:
        if any(os.environ.get(name) for name in _NAMED_BY):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    with postgres_server(found, fast=True) as server:
        yield server


@pytest.fixture
def projection_guard_postgres(projection_guard_postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a PostgreSQL database of the test's own, with the guard's tables."""
    server = projection_guard_postgres_server
    with server.database(template=server.template("pytest", _migrate)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def projection_guard_database(request: pytest.FixtureRequest) -> str:
    """A database of the test's own, with the guard's tables: once SQLite, once PostgreSQL."""
    url: str = request.getfixturevalue(f"projection_guard_{request.param}")
    return url


@pytest.fixture(params=[f"{side} {step}" for step in _POINTS for side in ("before", "after")])
def projection_guard_crash_point(request: pytest.FixtureRequest) -> str:
    """A point of the flow, for `crash_at`: each of `CRASH_POINTS`, one after the other."""
    point: str = request.param
    return point
