"""The oracle turns red on each planted bug: it could, where a run was green."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.mutants import MUTANTS, Mutant, build
from tests.chaos.run import Settings, run

MOST_SECONDS = 90.0


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_oracle_turns_red_on_a_build_with_a_planted_bug(mutant: Mutant, tmp_path: Path) -> None:
    """It ends at the first finding, which has to be of a kind that this bug explains."""
    settings = Settings(
        seconds=MOST_SECONDS,
        calm_seconds=0,
        package=build(mutant, tmp_path / "build"),
        stop_at_first=True,
        look_every_seconds=0.3,
        faults=mutant.faults,
        gap_seconds=1.0,
        pause_seconds=0.02,
    )
    verdict = run(settings, keep=tmp_path / "logs")
    print(f"{mutant.name}: {verdict.line}")  # noqa: T201
    assert {finding.kind for finding in verdict.findings} & mutant.kinds, verdict.findings
