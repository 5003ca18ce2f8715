"""The checkout's `alembic`: drift between models and revisions is found, and a new revision is easy to make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.migrations.conftest import ROOT

# what a developer who changes a model does, then `alembic ...`
CHANGED = """\
import sys
from alembic.config import main
from sqlalchemy import Column, Index, Integer
from projection_guard._tables import metadata

table = metadata.tables["projection_states"]
{change}
main(sys.argv[1:])
"""
CHANGES = {
    "a new column": 'table.append_column(Column("more", Integer))',
    "a lost index": 'metadata.tables["projection_failures"].indexes.clear()',
    "another type": "table.c.reason.type = Integer()",
    "null allowed": "table.c.ordering.nullable = True",
    "another default": "table.c.failed_probes.server_default = None",
}


def alembic(url: str, *words: str, change: str = "") -> subprocess.CompletedProcess[str]:
    """Run alembic as in the checkout, if need be with a model changed."""
    program = CHANGED.format(change=change)
    command = [sys.executable, "-c", program, "-x", f"url={url}", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_check_is_clean_on_what_the_guard_migrated(database_url: str) -> None:
    """`alembic check` in the checkout looks at the same version table as `guard.migrate()`."""
    done = alembic(database_url, "check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_check_fails_when_a_model_changes(sqlite_url: str, change: str) -> None:
    """A model without its revision is found by `alembic check`."""
    done = alembic(sqlite_url, "check", change=change)
    assert done.returncode != 0
    assert "New upgrade operations detected" in done.stdout + done.stderr


def test_check_fails_when_a_model_changes_on_postgresql(postgres_url: str) -> None:
    """The same on PostgreSQL."""
    done = alembic(postgres_url, "check", change=CHANGES["a new column"])
    assert done.returncode != 0
    assert "New upgrade operations detected" in done.stdout + done.stderr


def test_a_new_revision_is_numbered_and_needs_no_mending(database_url: str, tmp_path: Path) -> None:
    """`alembic revision --autogenerate -m ...` writes the next readable id with SQLAlchemy's own types, and it runs."""
    folder = tmp_path / "versions"
    folder.mkdir()
    shipped = ROOT / "projection_guard" / "migrations" / "versions"
    config = tmp_path / "alembic.ini"
    ini = (ROOT / "alembic.ini").read_text(encoding="utf-8").replace("%(here)s", str(ROOT))
    config.write_text(ini.replace(f"= {shipped}", f"=\n    {shipped}\n    {folder}"), encoding="utf-8")
    change = (
        "from projection_guard._dialect import UtcDateTime\n"
        'table.append_column(Column("looked_at", UtcDateTime()))\n'
        'Index("ix_looked_at", table.c.looked_at, postgresql_where=table.c.looked_at.is_not(None), '
        "sqlite_where=table.c.looked_at.is_not(None))"
    )
    number = len(list(shipped.glob("*.py"))) + 1
    words = ("-c", str(config))
    done = alembic(
        database_url, *words, "revision", "--autogenerate", "-m", "look", "--version-path", str(folder), change=change
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.py")
    assert made.name == f"projection_guard_{number:04d}_look.py"
    source = made.read_text(encoding="utf-8")
    assert "sa.DateTime(timezone=True)" in source
    assert "projection_guard._" not in source
    for command in (["upgrade", "head"], ["check"], ["downgrade", "-1"]):
        done = alembic(database_url, *words, *command, change=change)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_environment_is_thin() -> None:
    """The folder `alembic/` is no package, or it would shadow the library; its environment is the package's."""
    folder = ROOT / "alembic"
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["env.py", "script.py.mako"]
