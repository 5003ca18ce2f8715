"""The checkout's own `alembic` commands, on both databases: the revisions make exactly the tables of the models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'alembic.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


def alembic(url: str, *words: str) -> str:
    """Run alembic in the checkout as a developer does, and return what it printed."""
    command = [sys.executable, "-m", "alembic", "-x", f"url={url}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_upgrade_head_leaves_nothing_to_do(url: str) -> None:
    """After `upgrade head`, `check` finds no difference between the database and the models."""
    alembic(url, "upgrade", "head")
    assert "No new upgrade operations detected" in alembic(url, "check")


def test_downgrade_base_leads_back(url: str) -> None:
    """Every revision can be undone and made again."""
    alembic(url, "upgrade", "head")
    alembic(url, "downgrade", "base")
    alembic(url, "upgrade", "head")
