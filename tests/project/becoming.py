"""`python FILE`, `python -c CODE` and `projection-guard ...` in a process that has imported the libraries already.

A page that is typed along with runs a dozen of these commands; see `programs`.
"""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from projection_guard.cli import main
from tests.project.programs import Ended, ended

__all__ = ["become", "can_become"]


def can_become(words: Sequence[str]) -> bool:
    """Return whether a command is one of those."""
    return words[:1] == ["projection-guard"] or (words[:1] == ["python"] and words[1:2] != ["-m"])


def become(words: Sequence[str], folder: Path, environment: Mapping[str, str], *, seconds: float) -> Ended:
    """Run it in a folder. `code` is None where it had to be killed."""
    return ended(_run, list(words), folder, dict(environment), told=folder / ".told", seconds=seconds)


def _run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    warnings.simplefilter("ignore", ResourceWarning)  # a short script need not close its engine
    program, *sys.argv = words
    if program == "projection-guard":
        raise SystemExit(main(sys.argv))
    sys.path.insert(0, str(folder))
    if sys.argv[0] == "-c":
        exec(sys.argv[1], {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
