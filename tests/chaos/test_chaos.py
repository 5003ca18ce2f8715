"""The chaos run itself, a minute of it in CI; `python -m tests.chaos --seconds 600` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Settings, run

HARM = {"kill", "stop", "stop after reading", "terminate"}
HARM_TO_A_SERVER = {"backends", "restart immediate", "postmaster kill", "cut", "commit swallowed", "reply swallowed"}


@pytest.mark.slow
def test_a_minute_of_chaos_on_postgresql_loses_nothing(tmp_path: Path) -> None:
    """Nothing lost, nothing twice, nothing out of order, nothing stuck, under every kind of fault there is."""
    verdict = run(Settings(database="postgresql", seconds=60, seed=1, until_fenced=True), keep=tmp_path)
    print(verdict.line)  # noqa: T201
    assert not verdict.findings, "\n\n".join(f"{each.kind}: {each.text}" for each in verdict.findings)
    assert set(verdict.figures["faults"]) >= HARM | HARM_TO_A_SERVER
    assert verdict.figures["fenced_late_commits"] > 0, "the fence was never tried"
    assert verdict.figures["events"] > 100


@pytest.mark.slow
def test_half_a_minute_of_chaos_on_sqlite_loses_nothing(tmp_path: Path) -> None:
    """Four processes share a file: two publish, one works, one answers admins."""
    verdict = run(Settings(database="sqlite", seconds=30, seed=1, workers=1), keep=tmp_path)
    print(verdict.line)  # noqa: T201
    assert not verdict.findings, "\n\n".join(f"{each.kind}: {each.text}" for each in verdict.findings)
    assert set(verdict.figures["faults"]) >= {"kill", "stop", "terminate"}
    assert verdict.figures["events"] > 50
