"""A PostgreSQL of a chaos run's own, which may be killed and begun anew, with its database in a small tablespace."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from projection_guard.testing import _supervisor as supervisor
from tests.chaos.processes import spawn
from tests.postgres_server import found_binaries

__all__ = ["Cluster", "cluster", "gone_afterwards", "small_disk"]

_SETTINGS: Final = {
    "max_connections": "200",
    "fsync": "off",  # the machine itself does not fail here: what the kernel has taken is kept
    "timezone": "UTC",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "max_wal_size": "256MB",
}
_TAKE_AWAY: Final = """
read -r _
umount -l "$0" 2>/dev/null
for _ in 1 2 3 4 5; do rm -rf "$0" && break; sleep 1; done
"""


class Cluster:
    """A server process, its port and its folder."""

    def __init__(self, binaries: Path, folder: Path, data: Path, who: supervisor.Account, password: str) -> None:
        self._binaries, self._folder, self.data, self._who = binaries, folder, data, who
        self._password = password
        self.port = supervisor.free_port()
        self._server: subprocess.Popen[bytes] | None = None

    def url(self, *, database: str = "chaos", port: int | None = None) -> str:
        """Return the URL of a database, as SQLAlchemy reads it."""
        return f"postgresql+psycopg://postgres:{self._password}@127.0.0.1:{port or self.port}/{database}"

    def plain_url(self, database: str = "chaos") -> str:
        """Return the URL as libpq reads it."""
        return self.url(database=database).replace("+psycopg", "")

    def start(self) -> None:
        """Start it; where orphans of a killed postmaster hold on to the folder, again until they are gone."""
        command = [str(self._binaries / "postgres"), "-D", str(self.data), "-c", f"port={self.port}"]
        command += [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        who: dict[str, Any] = {"user": self._who.user, "group": self._who.group, "extra_groups": self._who.extra_groups}
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with self.log.open("ab") as out:
                server = spawn(
                    command,
                    cwd=self._folder,
                    env=supervisor.environment(),
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    **who,
                )
            self._server = server
            while server.poll() is None and time.monotonic() < end:
                if self.answers():
                    return
                time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text(errors='replace')[-2000:]}")

    @property
    def log(self) -> Path:
        """What it has said."""
        return self._folder / "log"

    def answers(self) -> bool:
        """Return whether it lets somebody in."""
        try:
            psycopg.connect(self.plain_url("postgres"), connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def die(self, number: signal.Signals) -> None:
        """SIGQUIT is an immediate shutdown, SIGKILL takes the postmaster alone: its children notice."""
        assert self._server is not None
        self._server.send_signal(number)
        self._server.wait(60)

    def stop(self) -> None:
        """Stop it for good."""
        if self._server is not None and self._server.poll() is None:
            supervisor.stop(self._server)


@contextmanager
def gone_afterwards(folder: Path) -> Generator[None]:
    """Take a folder away in the end, and what is mounted there; a shell does it, also when this process is killed."""
    with subprocess.Popen(
        ["sh", "-c", _TAKE_AWAY, str(folder)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ):
        yield


@contextmanager
def small_disk(who: supervisor.Account, room_mib: int) -> Generator[Path | None]:
    """Yield a folder on a file system of its own that can be filled; None where nobody may mount one here."""
    folder = Path(tempfile.mkdtemp(prefix="projection-guard-disk-"))
    with gone_afterwards(folder):
        command = ["mount", "-t", "tmpfs", "-o", f"size={room_mib}m,mode=0700", "tmpfs", str(folder)]
        is_mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        if is_mounted:
            supervisor.hand_over(folder, who)
        yield folder if is_mounted else None


@contextmanager
def cluster(tablespace: Path | None) -> Generator[Cluster]:
    """Make one, with an empty database "chaos" in the tablespace; afterwards nothing is left of it."""
    found = found_binaries()
    who = supervisor.account()
    folder = supervisor.private_folder(who)
    supervisor.hand_over(folder, who)
    data = supervisor.data_folder(folder, who, in_memory=True)
    with ExitStack() as stack:
        for each in (folder, data):
            stack.enter_context(gone_afterwards(each))
        binaries = supervisor.reachable(Path(found.where), folder, who)
        password = secrets.token_urlsafe(12)
        supervisor.initialise(binaries, folder, data, who, password, is_fast=True)
        made = Cluster(binaries, folder, data, who, password)
        stack.callback(made.stop)
        made.start()
        with psycopg.connect(made.plain_url("postgres"), autocommit=True) as connection:
            where = ""
            if tablespace is not None:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{tablespace}'")
                where = " TABLESPACE small"
            connection.execute(f"CREATE DATABASE chaos{where}")
        yield made
