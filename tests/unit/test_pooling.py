"""Which drivers prepare statements by themselves, and are to prepare none behind a pooler."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from projection_guard._io.pooling import is_psycopg_3


@pytest.mark.parametrize(
    ("driver", "is_it"),
    [
        ("postgresql+psycopg", True),
        ("postgresql+psycopg_async", True),
        ("postgresql+psycopg2", False),
        ("postgresql+psycopg2cffi", False),
        ("postgresql+asyncpg", False),
        ("sqlite", False),
        ("sqlite+aiosqlite", False),
    ],
)
def test_only_psycopg_3_is_asked(driver: str, *, is_it: bool) -> None:
    """A host reads its log over any driver; what only this one has is not looked for on the connections of another."""
    assert is_psycopg_3(make_url(f"{driver}://").get_dialect().driver) is is_it
