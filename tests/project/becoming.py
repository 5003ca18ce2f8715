"""`python FILE`, `python -c CODE` and `projection-guard ...` in a process forked from one that has imported everything.

Importing the libraries takes a second; a page that is typed along with runs a dozen of these commands.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection

from projection_guard.cli import main

__all__ = ["become", "can_become"]

_context = get_context("forkserver")
_context.set_forkserver_preload(["tests.project.becoming", "sqlalchemy.dialects.sqlite.pysqlite", "alembic.command"])


def can_become(words: Sequence[str]) -> bool:
    """Return whether a command is one of those."""
    return words[:1] == ["projection-guard"] or (words[:1] == ["python"] and words[1:2] != ["-m"])


def become(words: Sequence[str], folder: str, environment: Mapping[str, str], *, seconds: float) -> tuple[str, int]:
    """Run it; return what it wrote and its exit code. Raises `TimeoutError`."""
    from_it, to_us = os.pipe()
    with Connection(to_us, readable=False) as end:
        process = _context.Process(target=_run, args=(list(words), folder, dict(environment), end), daemon=True)
        process.start()
    limit = threading.Timer(seconds, process.kill)
    limit.start()
    with os.fdopen(from_it, encoding="utf-8") as output:
        told = output.read()
    process.join()
    limit.cancel()
    if process.exitcode is None or process.exitcode == -signal.SIGKILL:
        raise TimeoutError
    return told, process.exitcode


def _run(words: list[str], folder: str, environment: dict[str, str], output: Connection) -> None:
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    output.close()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.chdir(folder)
    os.environ.update(environment)
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)
    program, *sys.argv = words
    if program == "projection-guard":
        raise SystemExit(main(sys.argv))
    sys.path.insert(0, folder)
    if sys.argv[0] == "-c":
        exec(sys.argv[1], {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
