"""A PgBouncer in transaction mode between a guard and its PostgreSQL: the real program, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from projection_guard.testing._supervisor import free_port

__all__ = ["pooled"]

_START_SECONDS: Final = 60.0
_MISSING: Final = "no pgbouncer on this machine; as root on Debian: apt-get install pgbouncer"
_SETTINGS: Final = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
query_wait_timeout = 20
"""
_PREPARES_NOTHING: Final = "max_prepared_statements = 0\n"
_PREPARES_SINCE: Final = (1, 21)


def program() -> str:
    """Return where the program is; without it the test is skipped. Debian keeps it where only root looks."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if found is None:
        pytest.skip(_MISSING)
    return found


def prepares(command: str) -> bool:
    """Return whether this version could follow prepared statements from one session to the other."""
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return tuple(int(part) for part in said.split()[1].split(".")[:2]) >= _PREPARES_SINCE


@contextmanager
def pooled(url: str, *, connections: int, **changed: str) -> Generator[str]:
    """Run one in front of a database and yield the URL through it: all clients share so many connections.

    `changed`: settings that are other than usual, `pool_mode="session"`.
    """
    command, server, own_port = program(), make_url(url), free_port()
    more = _PREPARES_NOTHING if prepares(command) else ""
    with tempfile.TemporaryDirectory(prefix="projection-guard-pgbouncer-") as name:
        folder = Path(name)
        told = {"host": server.host, "port": server.port or 5432, "own_port": own_port, "folder": folder}
        (folder / "users").write_text(f'"{server.username}" "{server.password}"\n', encoding="utf-8")
        settings = _SETTINGS.format(**told, connections=connections) + more  # of two lines the last one counts
        settings += "".join(f"{name} = {value}\n" for name, value in changed.items())
        (folder / "settings").write_text(settings, encoding="utf-8")
        with (folder / "log").open("wb") as log, running([command, str(folder / "settings")], folder, log) as process:
            through = server.set(host="127.0.0.1", port=own_port)
            wait_for_it(through, process, folder / "log")
            yield through.render_as_string(hide_password=False)


@contextmanager
def running(command: list[str], folder: Path, out: BinaryIO) -> Generator[subprocess.Popen[bytes]]:
    """Run it as somebody without rights, since it refuses root; the folder, which is private, becomes his."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if user is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
    who: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **who) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_it(url: URL, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once it lets somebody through to the database."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(plain, connect_timeout=5).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"pgbouncer did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
            time.sleep(0.02)
        else:
            return
