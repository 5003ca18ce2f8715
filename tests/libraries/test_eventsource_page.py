"""What docs/eventsource.md shows is run, where the library is installed: not on every Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.libraries.eventsource_events import eventsource
from tests.project.test_readme import ROOT, blocks

PAGE = ROOT / "docs" / "eventsource.md"


def test_the_code_on_the_page_runs(tmp_path: Path) -> None:
    """As it stands, in an empty folder, with warnings as errors."""
    assert eventsource.__version__.startswith("0.15")
    (block,) = (block for block in blocks(PAGE.read_text(encoding="utf-8")) if block.language == "python")
    script = tmp_path / "page.py"
    script.write_text("\n" * block.starts + "\n".join(block.content), encoding="utf-8")
    command = [sys.executable, "-W", "error", script.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{PAGE.name} (lines as on the page):\n{done.stdout}{done.stderr}"
