"""The oracle turns red on each planted bug: it could, where a run was green.

CI plants three of them, `PROJECTION_GUARD_FAULTS=every` all; that each can still be planted is tried for all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.mutants import MUTANTS, Mutant, build
from tests.chaos.processes import ROOT
from tests.chaos.run import Settings, run
from tests.turns import IS_EVERY

MOST_SECONDS = 90.0
IN_CI = {
    "checkpoint and failure in two transactions",
    "nothing is parked",
    "one position for all partitions",
}
PLANTED = [mutant for mutant in MUTANTS if mutant.name in IN_CI or IS_EVERY]


def settings(package: Path, faults: tuple[str, ...], seconds: float) -> Settings:
    """Run a build until the first finding, looked at three times a second."""
    return Settings(
        seconds=seconds,
        calm_seconds=0,
        package=package,
        stop_at_first=True,
        look_every_seconds=0.3,
        faults=faults,
        gap_seconds=1.0,
        pause_seconds=0.02,
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_bug_can_still_be_planted(mutant: Mutant, tmp_path: Path) -> None:
    """The text that it replaces is in the package, once."""
    assert (build(mutant, tmp_path) / "projection_guard" / mutant.edits[0].file).exists()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", PLANTED, ids=lambda mutant: mutant.name)
def test_the_oracle_turns_red_on_a_build_with_a_planted_bug(mutant: Mutant, tmp_path: Path) -> None:
    """It ends at the first finding, which has to be of a kind that this bug explains."""
    verdict = run(settings(build(mutant, tmp_path / "build"), mutant.faults, MOST_SECONDS), keep=tmp_path / "logs")
    print(f"{mutant.name}: {verdict.line}")  # noqa: T201
    assert {finding.kind for finding in verdict.findings} & mutant.kinds, verdict.findings


@pytest.mark.slow
def test_the_oracle_stays_green_on_the_build_without_one(tmp_path: Path) -> None:
    """The same settings, and no bug: what it says of the others is said of the bug."""
    verdict = run(settings(ROOT, ("none",), 15.0), keep=tmp_path)
    print(verdict.line)  # noqa: T201
    assert verdict.findings == []
    assert verdict.figures["events"] > 10
