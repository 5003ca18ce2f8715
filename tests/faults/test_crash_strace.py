"""The faults are what they are meant to be: the same places, found by the kernel's own count of system calls.

Skipped where there is no strace, or where it may not look at a process.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bed import Bed
from tests.faults.disk import Disk
from tests.faults.proxy import Proxy
from tests.faults.sweeps import Sweep, bed_of
from tests.faults.test_crash_points import no_session_is_left, victims
from tests.faults.zygote import End, Zygote
from tests.turns import IS_EVERY

MOST = range(1, 100)
NEVER = 60_000


class Strace:
    """Attaches to a process, and breaks its `at`-th system call of one name."""

    def __init__(self, path: Path) -> None:
        self._log = path / "strace"
        self._running = ExitStack()

    def attach(self, pid: int, call: str, deed: str, *, at: int) -> None:
        """Attach; skip the test where that is not allowed."""
        self._running.close()
        inject = f"inject={call}:{deed}:when={at}"
        command = ["strace", "-f", "-y", "-p", str(pid), "-o", str(self._log), "-e", f"trace={call}", "-e", inject]
        process = self._running.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        assert process.stderr is not None
        if "attached" not in (said := process.stderr.readline()):
            pytest.skip(f"strace may not look at processes here: {said.strip()}")

    def calls(self, *, but: Path) -> int:
        """Wait for the end of the process and return how many calls it made, but those that sync this folder."""
        self._running.close()
        return sum("(" in line and f"<{but}>" not in line for line in self._log.read_text().splitlines())

    def has_injected(self) -> bool:
        """Wait for the end of the process and return whether a call of its was refused."""
        self._running.close()
        return "(INJECTED)" in self._log.read_text()


@pytest.fixture
def blocking(postgres_url: str) -> Iterator[Bed]:
    """The blocking guard on PostgreSQL."""
    with bed_of(postgres_url, "blocking") as bed:
        yield bed


@pytest.fixture
def blocking_file(sqlite_url: str) -> Iterator[Bed]:
    """The blocking guard on SQLite."""
    with bed_of(sqlite_url, "blocking") as bed:
        yield bed


@pytest.fixture
def strace(tmp_path: Path) -> Iterator[Strace]:
    """Strace, where there is one."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    made = Strace(tmp_path)
    yield made
    made._running.close()


@pytest.mark.parametrize("name", ["parked", "poison"] if IS_EVERY else ["parked"])
def test_the_proxy_kills_where_strace_does(
    blocking: Bed, zygote: Zygote, strace: Strace, tmp_path: Path, name: str
) -> None:
    """As many writes to the socket, and after each death the same is on record."""
    bed, url = blocking, blocking.url

    def sweep(url: str, journal: str) -> Sweep:
        return Sweep(
            bed,
            zygote,
            name,
            "joined",
            tmp_path / journal,
            url=victims(url),
            is_over=lambda: no_session_is_left(bed),
        )

    with Proxy(url) as proxy:
        by_proxy = sweep(proxy.url, "journal")
        reached = by_proxy.run(MOST, lambda pid, place: proxy.kill(pid, at=place), lambda place, end: proxy.disarm())
    by_strace = sweep(url, "journal")

    def has_happened(place: int, end: End) -> bool:
        return end.is_killed and not end.returned  # it says farewell to the server later

    def kill(pid: int, place: int) -> None:
        strace.attach(pid, "sendto", "signal=KILL", at=place)

    assert by_strace.run(MOST, kill, has_happened) == reached
    assert by_strace.left == by_proxy.left


@pytest.mark.skipif(not Disk.found(), reason="this Python's SQLite does not show its functions")
def test_the_disk_breaks_where_strace_does(blocking_file: Bed, zygote: Zygote, strace: Strace, tmp_path: Path) -> None:
    """As many writes and syncs, and the kernel's own refusals have the same exact end."""
    sweep = Sweep(blocking_file, zygote, "poison", "joined", tmp_path / "journal", url=str(blocking_file.url))

    def count(pid: int) -> int:
        strace.attach(pid, "pwrite64,fdatasync,ftruncate", "error=EIO", at=NEVER)
        return NEVER

    counted = sweep.once(count, disk="kill").writes
    assert strace.calls(but=tmp_path) == counted

    def refused(place: int, end: End) -> bool:
        return strace.has_injected()

    def dead(place: int, end: End) -> bool:
        return end.is_killed and not end.returned

    def until(call: str, deed: str) -> int:
        has_happened = dead if "KILL" in deed else refused
        return sweep.run(MOST, lambda pid, place: strace.attach(pid, call, deed, at=place), has_happened)

    if not IS_EVERY:
        return
    assert until("pwrite64", "signal=KILL") >= 2
    assert until("fdatasync", "error=EIO") >= 1
    assert until("pwrite64", "error=ENOSPC") >= 2
