"""The suite's MariaDB: where tests run on it, a server of the run's own in memory, and a fresh database for each test.

A pytest plugin, loaded by `tests/conftest.py`. Where the server comes from, in this order:

    PROJECTION_GUARD_TEST_MARIADB    the URL of a server (mysql+pymysql://root@127.0.0.1/), also MySQL's
    mariadbd, mariadb-install-db     on this machine: one is started, without fsync, for each process of the run
    127.0.0.1:3306                   a server that lets root in without a password

Where there is none of these, a test on MariaDB is skipped and says so.

    mariadb_url          a database of the test's own, with our tables
    empty_mariadb_url    one without them
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from projection_guard.testing._supervisor import free_port

__all__ = ["MariadbServer"]

GIVEN = "PROJECTION_GUARD_TEST_MARIADB"
_LOCAL = "mysql+pymysql://root@127.0.0.1:3306/"
_MEMORY = Path("/dev/shm")
_SYNCHRONOUS = "--innodb-use-native-aio=0"  # the kernel has so many requests only, for all servers on a machine
_SETTINGS = (
    "--no-defaults",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    _SYNCHRONOUS,
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--max-connections=300",
)


_REFUSED = ("test_beside", "test_verify", "a_rebuild_beside", "verification")
"""In the names of modules and tests about read models that are built beside the live one: docs/mariadb.md."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip on MariaDB what the library refuses there with a sentence."""
    for item in items:
        if "mariadb" not in item.name.partition("[")[2]:
            continue
        if any(word in name for word in _REFUSED for name in (item.path.stem, item.name)):
            item.add_marker(pytest.mark.skip(reason="on MariaDB no read model is built beside the live one"))


@dataclass
class MariadbServer:
    """A server on which databases may be made."""

    url: str
    made: list[str] = field(default_factory=list)
    """The statements that make our tables and the bed's."""

    def run(self, *statements: str, database: str = "") -> None:
        """Run statements of the suite's own."""
        engine = create_engine(self.of(database), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))

    def of(self, database: str) -> str:
        """Return the URL of a database."""
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make a database, and drop it afterwards."""
        name = f"projection_guard_test_{uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        try:
            yield self.of(name)
        finally:
            self.run(f"DROP DATABASE {name}")

    def statements(self) -> list[str]:
        """Return what makes our tables and the bed's, as a migrated database shows it."""
        if not self.made:
            from tests.bed import prepare

            with self.database() as url:
                prepare(url)
                engine = create_engine(url, poolclass=NullPool)
                with engine.connect() as connection:
                    tables = list(connection.execute(text("SHOW TABLES")).scalars())
                    self.made += [connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1] for name in tables]
                    triggers = list(connection.execute(text("SHOW TRIGGERS")))
                    self.made += [
                        f"CREATE TRIGGER {row[0]} {row[4]} {row[1]} ON {row[2]} FOR EACH ROW {row[3]}"
                        for row in triggers
                    ]
                    rows = connection.execute(
                        text("SELECT version_num FROM projection_guard_alembic_version")
                    ).scalars()
                    self.made += [f"INSERT INTO projection_guard_alembic_version VALUES ('{row}')" for row in rows]
                    self.made.append("INSERT INTO projection_generations VALUES (1)")
        return self.made


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    """The run's server."""
    given = os.environ.get(GIVEN)
    if given:
        yield MariadbServer(given)
        return
    binary = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
    install = shutil.which("mariadb-install-db")
    if binary and install:
        with _started(binary, install) as url:
            yield MariadbServer(url)
        return
    try:
        MariadbServer(_LOCAL).run("SELECT 1")
    except (SQLAlchemyError, ImportError) as error:
        pytest.skip(
            f"no MariaDB: {GIVEN} is not set, mariadbd is not installed, nobody at 3306 ({type(error).__name__})"
        )
    yield MariadbServer(_LOCAL)


@contextmanager
def _started(binary: str, install: str) -> Iterator[str]:
    place = Path(mkdtemp(prefix="projection-guard-mariadb-", dir=_MEMORY if _MEMORY.is_dir() else None))
    who = ["--user=root"] if os.geteuid() == 0 else []
    where = [f"--datadir={place / 'data'}", f"--socket={place / 'socket'}", f"--pid-file={place / 'pid'}"]
    port = free_port()
    process = None
    try:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", _SYNCHRONOUS, *who]
        made = subprocess.run(
            [install, "--no-defaults", where[0], *options],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert made.returncode == 0, made.stdout
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                [binary, *_SETTINGS, *where, f"--port={port}", "--bind-address=127.0.0.1", *who],
                stdout=log,
                stderr=log,
            )
        url = f"mysql+pymysql://root@127.0.0.1:{port}/"
        _wait_for(url, process)
        yield url
    finally:
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with suppress(SQLAlchemyError):
            MariadbServer(url).run("SELECT 1")
            return
        time.sleep(0.05)
    pytest.fail("the MariaDB that was started for the tests does not answer")


@pytest.fixture
def mariadb_url(mariadb_server: MariadbServer) -> Iterator[str]:
    """The URL of a database of the test's own, with our tables."""
    statements = mariadb_server.statements()
    with mariadb_server.database() as url:
        mariadb_server.run("SET FOREIGN_KEY_CHECKS = 0", *statements, database=make_url(url).database or "")
        yield url


@pytest.fixture
def empty_mariadb_url(mariadb_server: MariadbServer) -> Iterator[str]:
    """The URL of a database of the test's own, with nothing in it."""
    with mariadb_server.database() as url:
        yield url
