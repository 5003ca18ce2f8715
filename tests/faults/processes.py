"""Starting victims, and doing things to them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import make_url

from tests.bed import Bed
from tests.faults.forked import Forked

__all__ = ["ROOT", "Victim", "in_child", "script"]

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}


class Victim:
    """A process that runs `tests.faults.victim`, or another program; killed at the end, if it still lives."""

    def __init__(self, program: str = "tests.faults.victim", /, **order: Any) -> None:
        self.process = Forked(program, json.dumps(order))

    def line(self) -> str:
        """Read the next thing it says; "" when it has ended."""
        return self.process.stdout.readline().strip()

    def lines(self) -> list[str]:
        """Wait for its end and return everything it still has said."""
        said = [line.strip() for line in self.process.stdout]
        assert self.process.wait(60) == 0
        return said

    def go_on(self) -> None:
        """Let it return from the handler in which it hangs."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def let_end(self) -> list[str]:
        """Close its stdin, wait for its end, and return everything it still has said."""
        self.process.stdin.close()
        return self.lines()

    def stop(self, bed: Bed) -> None:
        """SIGSTOP, and not while it has SQLite's write lock, which nobody could take from it."""
        while True:
            self.process.send_signal(signal.SIGSTOP)
            _wait_until_all_stand(self.process.pid)
            if bed.database != "sqlite" or _is_free(bed.url):
                return
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


def _wait_until_all_stand(pid: int) -> None:
    """Wait until the signal has come to every thread: until then one may still begin a transaction."""
    tasks = Path(f"/proc/{pid}/task")
    while tasks.exists() and any(_state(each) not in "TtZX" for each in tasks.iterdir()):
        time.sleep(0.001)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return "X"


def _is_free(url: str) -> bool:
    with closing(sqlite3.connect(make_url(url).database or "", timeout=0.5, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


@contextmanager
def script(text: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run a script of a test's own in a process of its own; killed at the end, if it still lives."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=_ENVIRONMENT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def in_child(bed: Bed, act: Callable[[], object]) -> int:
    """Do something in a child of this process, with connections of its own; return how that ended (-9: SIGKILL)."""
    bed.engine.dispose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            bed.begin_anew()
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
