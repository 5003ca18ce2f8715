"""The programs of a run: none is left behind, and none ends without being noticed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.processes import ROOT, SHARED, Program, Programs, spawn, wait_for

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


class Sleeper(Program):
    """Does nothing; whoever looks at it may have to wait."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ROOT, {"name": "sleeper", "role": "worker"})
        self.lives = 0
        self.is_looked_at, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def start(self) -> None:
        """Begin its next life."""
        self.lives += 1
        self.is_hurt = False
        self.process = spawn(SLEEP)

    def measure(self) -> None:
        """Keep who looks at it."""
        self.is_looked_at.set()
        self.may_go_on.wait(60)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Sleeper]:
    """One that is gone after the test, whatever happens."""
    made = Sleeper(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_nothing_is_begun_anew_once_all_are_killed(sleeper: Sleeper) -> None:
    """Whoever looks after them may be in the middle of that."""
    programs = Programs([sleeper])
    sleeper.may_go_on.clear()
    programs.start()
    assert sleeper.is_looked_at.wait(60)
    killing = threading.Thread(target=programs.kill)
    killing.start()
    wait_for(lambda: not sleeper.is_alive, within=1.0)  # where nobody is waited for, it is dead by now
    sleeper.may_go_on.set()
    killing.join(60)
    programs.let_rest()
    assert not sleeper.is_alive
    assert sleeper.lives == 1
    assert programs.ended_by_themselves == []


STANDS_STILL_WHEN_ASKED_TO_END = """
import os, signal, sys, time
def stand_still(*_):
    os.kill(os.getpid(), signal.SIGSTOP)
    sys.exit(0)
signal.signal(signal.SIGTERM, stand_still)
print("ready", flush=True)
time.sleep(600)
"""


def test_one_that_stands_still_while_it_ends_is_told_to_go_on(sleeper: Sleeper) -> None:
    """It was told to stop at its next read, and has come to that only now: not the library's doing."""
    sleeper.process = spawn([sys.executable, "-c", STANDS_STILL_WHEN_ASKED_TO_END], stdout=subprocess.PIPE)
    assert sleeper.process.stdout is not None
    with sleeper.process.stdout as says:
        assert says.readline() == b"ready\n"
    assert sleeper.end(within=30)


def test_one_that_ends_by_itself_when_none_is_begun_anew_is_noticed(sleeper: Sleeper) -> None:
    """In the drain, that is: another one might do its work."""
    programs = Programs([sleeper])
    programs.start()
    programs.let_rest()
    assert sleeper.process is not None
    sleeper.process.send_signal(signal.SIGKILL)
    sleeper.process.wait(60)
    assert programs.end() == []
    assert programs.ended_by_themselves == ["sleeper ended by itself with -9"]


@pytest.mark.parametrize(
    "line", ["Traceback (most recent call last):", "  + Exception Group Traceback (most recent call last):"]
)
def test_what_nobody_has_handled_is_found_in_the_logs(sleeper: Sleeper, line: str) -> None:
    """Groups of exceptions, too."""
    sleeper.log.write_text(f"all is well\n{line}\n  | ...\n")
    assert len(Programs([sleeper]).unhandled()) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared memory in files here")
def test_what_a_wrong_clock_has_left_in_memory_is_taken_away(sleeper: Sleeper) -> None:
    """Libfaketime does that itself only where a process ends by itself."""
    programs = Programs([sleeper])
    programs.start()
    assert sleeper.process is not None
    left = [SHARED / f"{name}_{sleeper.process.pid}" for name in ("faketime_shm", "sem.faketime_sem")]
    for file in left:
        file.touch()
    programs.kill()
    assert not any(file.exists() for file in left)
