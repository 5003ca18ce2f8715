"""docs/runbook.md has a section for each reason that the judge gives, and its commands are commands."""

from __future__ import annotations

import re
import shlex

import pytest

from projection_guard import HealthPolicy
from projection_guard._health import Lag, Signs, judge
from projection_guard.cli._commands import COMMANDS
from projection_guard.cli._parser import parsed, parser_of
from tests.project.test_readme import ROOT

pytestmark = pytest.mark.project
PAGE = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
EVERYTHING = Signs(
    active_failures=3,
    exhausted_failures=2,
    parked_events=840,
    overdue_seconds=412.0,
    tainted_streams=1,
    held=True,
    lag=Lag(stuck_seconds=412.0, is_held=True, is_beyond=True, given_up=1, cursor=5120, head=4000),
)
PAUSED = Signs(active_failures=0, state="paused")


def without_numbers(words: str) -> str:
    """Return what is the same whatever is counted."""
    return re.sub(r"\d+", "N", words)


def test_every_reason_has_a_section_and_no_other_does() -> None:
    """Each is quoted as `health` says it, as far as the quotation goes."""
    said = {without_numbers(reason) for signs in (EVERYTHING, PAUSED) for reason in judge(HealthPolicy(), signs)[1]}
    quoted = [without_numbers(line) for line in re.findall(r"^> (.+)$", PAGE, re.MULTILINE)]
    of_the_log = [line for line in quoted if line.startswith("The event log ")]  # in the source's own words
    for reason in said:
        assert [line for line in quoted if reason.startswith(line)], reason
    assert len(of_the_log) == 1
    assert len(quoted) == len(said) + len(of_the_log)
    assert len(re.findall(r"^> .+\n\n\*\*It means\*\*: ", PAGE, re.MULTILINE)) == len(quoted)


@pytest.mark.parametrize("line", sorted(set(re.findall(r"(?:^|`)projection-guard ([^`\n#]+)", PAGE, re.MULTILINE))))
def test_its_commands_are_commands(line: str) -> None:
    """Whoever reads it at night copies them."""
    parsed(parser_of(COMMANDS), shlex.split(line))
