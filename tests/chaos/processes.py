"""The programs of a run: started, hurt, started again, and looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from projection_guard.testing import _supervisor as supervisor

__all__ = ["ROOT", "SHARED", "Program", "Programs", "faketime", "spawn", "wait_for"]

ROOT: Final = Path(__file__).parents[2]
SHARED: Final = Path("/dev/shm")  # where libfaketime has its own
_FAKETIME: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)

_SPAWNER: Final = ThreadPoolExecutor(1, "spawner")


def spawn(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that is gone when this one is, also by SIGKILL.

    The kernel tells a child of the end of the thread that made it: this one ends with the process.
    """
    return _SPAWNER.submit(
        lambda: subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=_before,  # noqa: PLW1509  # it makes two system calls
            **options,
        )
    ).result()


def _before() -> None:
    dies = supervisor.dies_with_parent()
    if dies is not None:
        dies()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until it has a handler of its own


def faketime() -> str | None:
    """Return the library that lets a process's clock be wrong; None where it is not installed."""
    return next((path for path in _FAKETIME if Path(path).exists()), None)


class Program:
    """One of them, by name: another process each time that it is started."""

    def __init__(self, folder: Path, package: Path, order: dict[str, Any]) -> None:
        self.name: str = order["name"]
        self.role: str = order["role"]
        self._folder, self._package, self._order = folder, package, order
        self.process: subprocess.Popen[bytes] | None = None
        self.is_hurt = False
        self.is_stopped = False
        self.skew_seconds = 0
        self.peak_kib = 0

    @property
    def log(self) -> Path:
        """What it has said on stderr, in all its lives."""
        return self._folder / f"{self.name}.log"

    def start(self) -> None:
        """Begin its next life."""
        self.bury()
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        library = faketime()
        if self.skew_seconds and library is not None:
            environ |= {"LD_PRELOAD": library, "FAKETIME": f"{self.skew_seconds:+d}", "DONT_FAKE_MONOTONIC": "1"}
        self.is_hurt = self.is_stopped = False
        with self.log.open("ab") as out:
            self.process = spawn(
                [sys.executable, "-m", "tests.chaos.program", json.dumps(self._order)],
                stdout=out,
                stderr=out,
                cwd=self._package,  # what `-m` imports from first
                env=environ,
            )

    @property
    def is_alive(self) -> bool:
        """True while its process runs, or stands still."""
        return self.process is not None and self.process.poll() is None

    @property
    def stands_still(self) -> bool:
        """True while it has been stopped by a signal."""
        if self.process is None:
            return False
        with suppress(OSError):
            return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.is_hurt = self.is_hurt or number in (signal.SIGKILL, signal.SIGTERM)
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def bury(self) -> None:
        """Take away what libfaketime leaves of a process that was killed."""
        if self.process is not None:
            for name in ("faketime_shm", "sem.faketime_sem"):
                (SHARED / f"{name}_{self.process.pid}").unlink(missing_ok=True)

    def end(self, *, within: float) -> bool:
        """Ask it to end and wait; kill it where that takes too long, and return False.

        One that was told to stand still at its next read may do so only now: it is told to go on until it has ended.
        What is killed says first, in its log, where each of its threads is.
        """
        if self.process is None:
            return True
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        if wait_for(self._has_ended, within=within):
            return True
        self.send(signal.SIGUSR2)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        self.process.kill()
        self.process.wait()
        return False

    def _has_ended(self) -> bool:
        if self.stands_still:
            self.send(signal.SIGCONT)
        return not self.is_alive

    def last_words(self, lines: int = 60) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def measure(self) -> None:
        """Take note of the memory that it holds."""
        if self.process is None:
            return
        with suppress(OSError, ValueError):
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            self.peak_kib = max(self.peak_kib, pages * (os.sysconf("SC_PAGESIZE") // 1024))


class Programs:
    """All of them, and a thread that starts again whatever has ended."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self.all = programs
        self.ended_by_themselves: list[str] = []
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._look_after, name="programs")

    def of(self, *roles: str) -> list[Program]:
        """Return those with one of these roles that are alive."""
        return [program for program in self.all if program.role in roles and program.is_alive]

    def start(self) -> None:
        """Start them all, and look after them."""
        for program in self.all:
            program.start()
        self._watch.start()

    def _look_after(self) -> None:
        while not self._stopping.wait(0.1):
            for program in self.all:
                program.measure()
                if not program.is_alive and program.process is not None:
                    self._note(program)
                    program.start()
                elif program.stands_still and not program.is_stopped:
                    program.send(signal.SIGCONT)  # it stood still later than anybody waited for

    def let_rest(self) -> None:
        """Start nothing again from now on."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join()

    def _note(self, program: Program) -> None:
        """Take note of one that is gone, and that nobody has hurt."""
        if program.process is not None and not program.is_alive and not program.is_hurt:
            self.ended_by_themselves.append(f"{program.name} ended by itself with {program.process.returncode}")

    def end(self, *roles: str, within: float = 30.0) -> list[str]:
        """Ask those with these roles to end; return the names of those that had to be killed."""
        chosen = [program for program in self.all if program.role in roles or not roles]
        for program in chosen:
            self._note(program)
            if program.is_alive:
                program.send(signal.SIGCONT)
        return [program.name for program in chosen if program.is_alive and not program.end(within=within)]

    def kill(self) -> None:
        """Leave nothing behind, however this ends."""
        self.let_rest()  # else one of them is begun anew after this
        for program in self.all:
            if program.is_alive and program.process is not None:
                program.process.kill()
                program.process.wait()
            program.bury()

    def unhandled(self) -> list[str]:
        """Return what stands in their logs of exceptions that nobody has handled."""
        found = []
        for program in self.all:
            text = program.log.read_text(errors="replace") if program.log.exists() else ""
            lines = text.splitlines()
            found += [
                f"{program.name}: {lines[min(number + 12, len(lines) - 1)] if number else line}"
                for number, line in enumerate(lines)
                if "Traceback (most recent call last)" in line or line.startswith("Exception ignored")
            ]
        return found

    def said(self, words: str) -> int:
        """Count the lines of all logs that hold these words."""
        return sum(program.log.read_text(errors="replace").count(words) for program in self.all if program.log.exists())


def wait_for(condition: Any, *, within: float) -> bool:
    """Wait on a condition; return whether it came true."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
