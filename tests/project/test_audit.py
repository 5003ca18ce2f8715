"""`.ci/audit.py` asks about everything that users install with us."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

AUDIT = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "audit.py"))


@pytest.mark.project
def test_what_a_second_mention_of_a_package_brings_is_asked_about_too() -> None:
    """An extra names `psycopg[binary]`, which we need anyway without it: that brings libpq and OpenSSL."""
    found = AUDIT["needed"]("projection-guard", AUDIT["EXTRAS"], {}, set())
    assert {"psycopg", "psycopg-binary", "sqlalchemy", "greenlet", "fastapi", "flask"} <= found.keys()
    assert "pytest" not in found
