"""docs/security.md names only tests that there are, and all of the roles' SQL is tried."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def _tests_in(path: str) -> set[str]:
    """Return the tests that pytest collects from a file: functions of the module itself."""
    source = (ROOT / path).read_text(encoding="utf-8")
    return {each.name for each in ast.parse(source).body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_the_page_names_exists() -> None:
    """A requirement whose test was renamed or dropped is shown by nothing."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 30
    assert [f"{path}::{name}" for path, name in named if name not in _tests_in(path)] == []


def test_every_requirement_names_a_test_or_a_step_of_ci() -> None:
    """And no row of the table is a promise alone."""
    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \|(.*)\|$", PAGE, flags=re.MULTILINE)
    assert len(rows) > 20
    assert [number for number, row in rows if "::test_" not in row and "of `.ci/run`" not in row] == []
    assert len({number for number, _ in rows}) == len(rows)


def test_every_place_that_the_page_names_exists() -> None:
    """The modules in which a requirement is met."""
    places = set(re.findall(r"`((?:_http/|_store/|_dashboard/)?_?\w+\.py)`", PAGE))
    assert places
    assert [place for place in sorted(places) if not (ROOT / "projection_guard" / place).exists()] == []
