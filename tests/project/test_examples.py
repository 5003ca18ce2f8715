"""Every example runs to its end, as a person would start it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    path
    for pattern in ("*.py", "*/__main__.py")
    for path in (ROOT / "examples").glob(pattern)
    if ("__main__" in path.read_text(encoding="utf-8") or path.name == "__main__.py")
    and not path.name.endswith("_app.py")  # those serve until they are stopped: tests/examples/test_apps.py
)


def test_there_are_examples() -> None:
    """An empty list would make the test below pass for nothing."""
    assert EXAMPLES


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    """It ends with 0 where there is no terminal, and writes nothing beside itself."""
    program = ["-m", f"examples.{path.parent.name}"] if path.name == "__main__.py" else [str(path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", *program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
