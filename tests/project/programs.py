"""Runs a program that a page shows, in a process of its own that has imported the libraries already.

There are a hundred of them, and an interpreter that imports SQLAlchemy and what goes with it takes most of a second.
"""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.forked import context

__all__ = ["Ended", "run"]

LONGEST_SECONDS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended, and all that it said."""

    code: int | None
    said: str


def run(script: Path) -> Ended:
    """Run it in its folder, with warnings as errors. `code` is None where it had to be killed."""
    told = script.with_suffix(".told")
    process = context.Process(target=_run, args=(script, told))
    process.start()
    process.join(LONGEST_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    return Ended(code=code, said=told.read_text(encoding="utf-8") if told.exists() else "")


def _run(script: Path, told: Path) -> None:
    with told.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    os.chdir(script.parent)
    sys.path.insert(0, str(script.parent))
    sys.argv = [script.name]
    warnings.resetwarnings()
    warnings.simplefilter("error")
    runpy.run_path(script.name, run_name="__main__")
