"""A process of its own that works a log off: `python -m benchmarks._child '{"url": ..., "how": ...}'`.

It says `ready` once all is imported and connected, begins at the first line it is given, and ends with one line of
JSON, `Done`. A process, because two workers need two, and because a process's memory is only its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from sqlalchemy import Connection, Engine, create_engine

from ._bed import Counted, events, insert
from ._following import following
from ._log import page
from ._loops import Share, loop

__all__ = ["NAME", "Child", "Done", "Task", "begun"]

NAME = "worked off"
"""The name of the projection that is followed."""
_WARM_UP = 20
_ROOT = Path(__file__).resolve().parents[1]
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a child does. `window`: after how many events it looks at the clock and at its memory."""

    url: str
    is_guarded: bool
    after: int = 0
    worker: int = 0
    workers: int = 1
    partitions: int | None = None
    window: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a child has seen: seconds and megabytes of memory at the end of each window."""

    seconds: list[float]
    megabytes: list[float]


class Gauge:
    """Counts the events that a handler is given, and looks at the clock and at the memory after each window."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._count = 0
        self._times: list[float] = []
        self._megabytes: list[float] = []

    def begin(self) -> None:
        """Start the clock."""
        self._times.append(perf_counter())

    def handler(self, event: Counted, connection: Connection) -> None:
        """Write one row."""
        insert(event, connection)
        self._count += 1
        if self._count % self._window == 0:
            self._times.append(perf_counter())
            self._megabytes.append(_megabytes())

    def done(self) -> Done:
        """Return what was seen."""
        return Done(seconds=[end - begin for begin, end in pairwise(self._times)], megabytes=self._megabytes)


def _megabytes() -> float:
    """Return what this process holds in memory now; its peak, where the system tells no more."""
    if _STATM.exists():
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Child:
    """A child seen from its parent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def is_ready(self) -> None:
        """Wait until it could begin. Raises `RuntimeError` where it cannot."""
        if self._read() != "ready":
            raise RuntimeError("A process that was to work a log off did not start; it has said why")

    def begin(self) -> None:
        """Let it work."""
        assert self._process.stdin is not None
        self._process.stdin.write("begin\n")
        self._process.stdin.flush()

    def done(self) -> Done:
        """Wait until the log is worked off. Raises `RuntimeError` where that failed."""
        said = self._read()
        if not said:
            raise RuntimeError("A process that was to work a log off has failed; it has said why")
        return Done(**json.loads(said))

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def begun(*tasks: Task) -> Generator[list[Child]]:
    """Yield a child for each task, all of them ready; none of them is left behind."""
    command = [sys.executable, "-m", f"{__package__}._child"]
    processes = [
        subprocess.Popen(
            [*command, json.dumps(asdict(task))], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for task in tasks
    ]
    try:
        children = [Child(process) for process in processes]
        for child in children:
            child.is_ready()
        yield children
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _warm_up(engine: Engine) -> None:
    """Connect, compile and prepare; leave nothing behind."""
    with engine.connect() as connection:
        for event in events(_WARM_UP):
            page(connection, 0, 1)
            insert(event, connection)
        connection.rollback()


def _wait_for_the_word(gauge: Gauge) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    gauge.begin()


def main() -> None:
    """Do what the argument says."""
    task = Task(**json.loads(sys.argv[1]))
    engine = create_engine(task.url)
    _warm_up(engine)
    gauge = Gauge(task.window)
    if task.is_guarded:
        with following(engine, NAME, gauge.handler, partitions=task.partitions) as follower:
            _wait_for_the_word(gauge)
            follower.catch_up()
    else:
        _wait_for_the_word(gauge)
        share = Share(number=task.worker, of=task.workers) if task.workers > 1 else None
        loop(engine, gauge.handler, after=task.after, share=share)
    print(json.dumps(asdict(gauge.done())), flush=True)


if __name__ == "__main__":
    main()
