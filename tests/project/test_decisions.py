"""The architecture decision records: numbered in a row, listed, and each says what it cost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "adr"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
PARTS = ["## Context", "## Decision", "## Consequences", "## Measured"]


def test_records_are_numbered_in_a_row_and_stand_in_the_index() -> None:
    """The index names each with its title, in order."""
    assert [record.name[:4] for record in RECORDS] == [f"{number:04}" for number in range(1, len(RECORDS) + 1)]
    titles = {record.name: record.read_text(encoding="utf-8").splitlines()[0] for record in RECORDS}
    listed = re.findall(r"\| \[(\d{4})\]\(([^)]+)\) \| (.+) \|", (FOLDER / "index.md").read_text(encoding="utf-8"))
    assert {name: f"# {number}: {title}" for number, name, title in listed} == titles


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_record_says_why_what_at_which_cost_and_what_was_seen(record: Path) -> None:
    """Its parts are those of every other, and something was given up."""
    text = record.read_text(encoding="utf-8")
    assert re.findall(r"^## .+$", text, flags=re.MULTILINE) == PARTS
    assert "**Given up**" in text
