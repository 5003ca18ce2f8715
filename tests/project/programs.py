"""Runs a program that a page shows, in a process of its own that has imported the libraries already.

There are a hundred of them, and an interpreter that imports SQLAlchemy and what goes with it takes most of a second.
"""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.forked import context

__all__ = ["Ended", "ended", "run"]

LONGEST_SECONDS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended, and all that it said."""

    code: int | None
    said: str


def run(script: Path) -> Ended:
    """Run it in its folder, with warnings as errors. `code` is None where it had to be killed."""
    return ended(_run, script, told=script.with_suffix(".told"), seconds=LONGEST_SECONDS)


def ended(work: Callable[..., None], *given: object, told: Path, seconds: float) -> Ended:
    """Do some work in a process, with what it says in a file and warnings as errors; kill it after so many seconds."""
    process = context.Process(target=_done, args=(told, work, given))
    process.start()
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    return Ended(code=code, said=told.read_text(encoding="utf-8") if told.exists() else "")


def _done(told: Path, work: Callable[..., None], given: tuple[object, ...]) -> None:
    with told.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    work(*given)


def _run(script: Path) -> None:
    os.chdir(script.parent)
    sys.path.insert(0, str(script.parent))
    sys.argv = [script.name]
    runpy.run_path(script.name, run_name="__main__")
