"""Processes of their own that start in milliseconds: forked from one that has imported everything and done nothing.

Importing the libraries takes a second, and the fault tests start hundreds of processes. `Forked` is what they use of
`subprocess.Popen`: it runs a module as `python -W error -m PROGRAM ARGUMENT` does.
"""

from __future__ import annotations

import faulthandler
import os
import runpy
import signal
import sys
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection

__all__ = ["Forked", "context"]

context = get_context("forkserver")
context.set_forkserver_preload(
    ["tests.bed", "tests.following.logs", "psycopg", "aiosqlite", "pymysql", "asyncmy"]
    + [f"sqlalchemy.dialects.{each}" for each in ("postgresql.psycopg", "sqlite.pysqlite", "sqlite.aiosqlite", "mysql")]
)


class Forked:
    """A running process, with pipes to its stdin and from its stdout."""

    def __init__(self, program: str, argument: str) -> None:
        its_stdin, to_stdin = os.pipe()
        from_stdout, its_stdout = os.pipe()
        ends = Connection(its_stdin, writable=False), Connection(its_stdout, readable=False)
        with ends[0], ends[1]:
            self._process = context.Process(target=_run, args=(program, argument, *ends), daemon=True)
            self._process.start()
        self.stdin = os.fdopen(to_stdin, "w")
        self.stdout = os.fdopen(from_stdout)

    @property
    def pid(self) -> int:
        """The number by which it is killed."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal, or None while it lives."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code. Raises `TimeoutError`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} still lives after {timeout} s")
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _run(program: str, argument: str, stdin: Connection, stdout: Connection) -> None:
    os.dup2(stdin.fileno(), 0)
    os.dup2(stdout.fileno(), 1)
    stdin.close()
    stdout.close()
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    faulthandler.enable()
    warnings.simplefilter("error")
    sys.argv = [program, argument]
    runpy.run_module(program, run_name="__main__", alter_sys=True)
