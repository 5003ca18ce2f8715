"""The consumers of a run: started, hurt, and started again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.chaos.processes import ROOT, spawn

__all__ = ["Consumer", "Faults"]


class Consumer:
    """One of them, by name: another process each time that it is started."""

    def __init__(self, folder: Path, order: dict[str, Any]) -> None:
        self.name: str = order["name"]
        self._log, self._order = folder / f"{order['name']}.log", order
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin its next life."""
        with self._log.open("ab") as out:
            self.process = spawn(
                [sys.executable, "-m", "tests.brokers.consumer", json.dumps(self._order)],
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def end(self, *, within: float = 20.0) -> bool:
        """Ask it to end, kill it where it does not; return whether it ended by itself."""
        if self.process is None or self.process.poll() is not None:
            return True
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Faults:
    """Hurts consumers, one after the other, by a seed, until it is told that it is enough."""

    def __init__(
        self,
        consumers: list[Consumer],
        extra: Consumer,
        url: str,
        *,
        seed: int,
        stop_seconds: float,
        gap_seconds: float,
    ) -> None:
        self._consumers, self._extra, self._url = consumers, extra, url
        self._chance = random.Random(seed)
        self._stop_seconds, self._gap_seconds = stop_seconds, gap_seconds
        self.done: Counter[str] = Counter()
        self.slow_to_end = 0
        self.error: BaseException | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        kinds = [self._kill, self._terminate, self._stop, self._add, self._backends, self._kill]
        try:
            while not self._enough.is_set():
                self._chance.shuffle(kinds)
                for kind in kinds:
                    if self._enough.wait(self._chance.uniform(1, 2) * self._gap_seconds):
                        return
                    kind()
                    self.done[kind.__name__.strip("_")] += 1
        except BaseException as error:
            self.error = error

    def _kill(self) -> None:
        one = self._chance.choice(self._consumers)
        one.kill()
        self._enough.wait(self._chance.uniform(0, 2))
        one.start()

    def _terminate(self) -> None:
        one = self._chance.choice(self._consumers)
        self.slow_to_end += not one.end()
        one.start()

    def _stop(self) -> None:
        """Let one stand still until the broker has given its messages to others, and then go on."""
        one = self._chance.choice(self._consumers)
        one.send(signal.SIGSTOP)
        self._enough.wait(self._stop_seconds)
        one.send(signal.SIGCONT)

    def _add(self) -> None:
        self._extra.start()
        self._enough.wait(self._chance.uniform(1, 2) * self._gap_seconds)
        self._extra.end()

    def _backends(self) -> None:
        """Take the guard's database away for a moment: all its sessions end."""
        with psycopg.connect(self._url, autocommit=True, application_name="oracle") as connection:
            for _ in range(3):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid() AND application_name <> 'oracle'"
                )
                time.sleep(0.2)
