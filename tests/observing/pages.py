"""The tables of the pages in docs, as they are read by people."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["ROOT", "code_in", "rows_of", "table"]

ROOT = Path(__file__).parents[2]


def table(page: str, heading: str, *, number: int = 0) -> list[list[str]]:
    """Return the rows of a section's table: its cells as they stand there."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    tables = re.findall(r"(?:^\|.*\|\n)+", section, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[number].splitlines()[2:]]


def code_in(cell: str) -> list[str]:
    """Return what is written as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def rows_of(page: str, heading: str, *, number: int = 0) -> dict[str, list[str]]:
    """Return a table's rows by what is written as code in their first cell."""
    return {code_in(row[0])[0]: row for row in table(page, heading, number=number)}
