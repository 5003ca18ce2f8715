"""The pytest plugin, in an application's own run: its fixtures, and what it costs whoever does not use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from projection_guard.testing import CRASH_POINTS

APPLICATION = """
from dataclasses import dataclass
from sqlalchemy import Column, Integer, MetaData, String, Table, insert
tables = MetaData()
opened = Table("opened", tables, Column("id", String(10), primary_key=True))

@dataclass(frozen=True)
class Opened:
    event_id: str
    stream_id: str

def accounts(event, connection):
    connection.execute(insert(opened).values(id=event.stream_id))
"""
ITS_TESTS = """
import pytest
from sqlalchemy import create_engine, func, select
from application import Opened, accounts, opened, tables
from projection_guard import ProjectionGuard
from projection_guard.testing import advance, crash_at, failing
from datetime import timedelta

@pytest.fixture
def guard(projection_guard_database):
    engine = create_engine(projection_guard_database)
    tables.create_all(engine)
    with ProjectionGuard(engine, worker="external") as guard:
        guard.health()
        yield guard
    engine.dispose()

def test_it_heals(guard):
    guard.projection("Accounts", handles=[Opened])(failing(accounts, times=1))
    assert guard.apply("Accounts", Opened("1", "A")).status == "failed"
    advance(guard, timedelta(minutes=1))
    guard.worker().run_once()
    assert guard.health("Accounts").status == "healthy"

def test_it_survives_a_crash(projection_guard_sqlite, projection_guard_crash_point):
    guard = ProjectionGuard(projection_guard_sqlite, worker="external")
    tables.create_all(guard._engine)
    guard.health()
    guard.projection("Accounts", handles=[Opened])(accounts)
    with crash_at(guard, projection_guard_crash_point):
        guard.apply("Accounts", Opened("1", "A"))
        pytest.fail("it did not crash")
    guard.apply("Accounts", Opened("1", "A"))
    with guard._engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(opened)).scalar() == 1
    guard.close()
"""


# Those of our own suite take three seconds to import, each time.
OTHER_PLUGINS = [f"-pno:{name}" for name in ("schemathesis", "hypothesispytest", "xdist", "xdist.looponfail", "anyio")]


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as an application's author does, in a folder of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *OTHER_PLUGINS, "-rs", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.postgres
def test_an_application_tests_with_it(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both databases; PostgreSQL is this run's own."""
    monkeypatch.setenv("PROJECTION_GUARD_TEST_POSTGRES", postgres_url)
    monkeypatch.setenv("PROJECTION_GUARD_TEST_POSTGRES_FROM", "url")
    (tmp_path / "application.py").write_text(APPLICATION, encoding="utf-8")
    (tmp_path / "test_application.py").write_text(ITS_TESTS, encoding="utf-8")
    done = run_pytest(tmp_path, "-q")
    assert f"{2 + len(CRASH_POINTS)} passed" in done.stdout, done.stdout + done.stderr


NONE_HERE = """
import projection_guard.testing as testing

def none_here():
    raise testing.PostgresNotFound("no PostgreSQL here")

testing.find_postgres = none_here  # a machine without one, on any machine
"""


@pytest.mark.parametrize(("named", "says"), [("", "1 skipped"), ("container", "1 error")])
def test_where_no_postgres_is_found_its_tests_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, says: str
) -> None:
    """They fail where one was named: nobody is to believe that they ran."""
    monkeypatch.setenv("PROJECTION_GUARD_TEST_POSTGRES", "")
    monkeypatch.setenv("PROJECTION_GUARD_TEST_POSTGRES_FROM", named)
    (tmp_path / "conftest.py").write_text(NONE_HERE, encoding="utf-8")
    (tmp_path / "test_it.py").write_text("def test_it(projection_guard_postgres): pass", encoding="utf-8")
    done = run_pytest(tmp_path, "-q")
    assert says in done.stdout, done.stdout + done.stderr
    assert "no PostgreSQL here" in done.stdout


def test_nothing_is_imported_until_a_fixture_is_asked_for(tmp_path: Path) -> None:
    """Pytest imports the plugin at each start; with `-p no:projection_guard` it does not."""
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_it(pytestconfig):\n"
        "    assert 'projection_guard' not in sys.modules\n"
        "    assert 'sqlalchemy' not in sys.modules\n"
        "    print('plugin', 'pytest_projection_guard' in sys.modules)\n",
        encoding="utf-8",
    )
    for more, is_there in (((), True), (("-p", "no:projection_guard"), False)):
        done = run_pytest(tmp_path, "-s", *more)
        assert f"plugin {is_there}" in done.stdout, done.stdout + done.stderr
