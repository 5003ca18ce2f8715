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
from tests.faults.forked import context
from tests.project.programs import Ended

__all__ = ["become", "can_become"]


def can_become(words: Sequence[str]) -> bool:
    """Return whether a command is one of those."""
    return words[:1] == ["projection-guard"] or (words[:1] == ["python"] and words[1:2] != ["-m"])


def become(words: Sequence[str], folder: Path, environment: Mapping[str, str], *, seconds: float) -> Ended:
    """Run it in a folder. `code` is None where it had to be killed."""
    told = folder / ".told"
    process = context.Process(target=_run, args=(list(words), folder, dict(environment), told))
    process.start()
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    return Ended(code=code, said=told.read_text(encoding="utf-8") if told.exists() else "")


def _run(words: list[str], folder: Path, environment: dict[str, str], told: Path) -> None:
    with told.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.update(environment)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # a short script need not close its engine
    program, *sys.argv = words
    if program == "projection-guard":
        raise SystemExit(main(sys.argv))
    sys.path.insert(0, str(folder))
    if sys.argv[0] == "-c":
        exec(sys.argv[1], {"__name__": "__main__"})
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
