"""Which ways of a test run each time, so that CI stays under its limit; `PROJECTION_GUARD_FAULTS=every` runs them all.

A test of the shared suite has four ways: two guards over two databases. By default it runs in two of them, in which
each guard and each database is there once; what takes long (`ONE_WAY`) runs in one, another one for each set of its
other parameters; what states the promises (`ALL_WAYS`) in all four. The turns go by the tests' names: they are the
same in every run.
"""

from __future__ import annotations

import os
from typing import Any, Final
from zlib import crc32

import pytest

__all__ = ["IS_EVERY"]

IS_EVERY: Final = os.environ.get("PROJECTION_GUARD_FAULTS") == "every"
ALL_WAYS: Final = frozenset({"test_story", "test_ordering", "test_duplicates", "test_races"})
ONE_WAY: Final = (
    "alerting/test_services",
    "cli/",
    "dashboard/pages/",
    "dashboard/test_mending",
    "dashboard/test_mounts",
    "dashboard/test_overview",
    "dashboard/test_steering",
    "faults/test_bookkeeping",
    "faults/test_cancellation",
    "faults/test_cuts",
    "faults/test_kill",
    "faults/test_left_behind",
    "faults/test_sqlite_load",
    "following/test_executor",
    "following/test_kills",
    "following/test_members",
    "following/test_replay_faults",
    "migrations/test_checkout",
    "migrations/test_hosts",
    "operations/test_worker_service",
)
_WORDS: Final = frozenset({"blocking", "async", "sqlite", "postgresql", "fastapi", "flask"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the ways whose turn it is not; the summary counts them as deselected."""
    if IS_EVERY or "PROJECTION_GUARD_BEDS" in os.environ:
        return
    chosen = _one_way_each([item for item in items if _is_one_of_two(item)])
    left_out = [item for item in items if item.nodeid not in chosen]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.nodeid in chosen]


def _one_way_each(items: list[pytest.Item]) -> set[str]:
    """Choose, of those tests of `ONE_WAY` that differ in their way only, one; all others stay."""
    alike: dict[str, list[str]] = {}
    for item in items:
        test, _, words = item.nodeid.partition("[")
        is_one = test.removeprefix("tests/").startswith(ONE_WAY)
        others = [word for word in words.removesuffix("]").split("-") if word not in _WORDS]
        alike.setdefault(f"{test}{others}" if is_one else item.nodeid, []).append(item.nodeid)
    return {sorted(ids)[crc32(same.encode()) % len(ids)] for same, ids in alike.items()}


def _is_one_of_two(item: pytest.Item) -> bool:
    """The turn goes by the test and its other parameters, not by what else was chosen."""
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    kind, database = parameters.get("bed"), parameters.get("database_url")
    if kind is None or database not in ("sqlite", "postgresql") or item.path.stem in ALL_WAYS:
        return True
    words = item.name.partition("[")[2].removesuffix("]").split("-")
    others = [word for word in words if word not in (kind, database)]
    turn = crc32(f"{item.path.stem}:{item.name.partition('[')[0]}:{others}".encode()) % 2
    return bool(((kind == "async") == (database == "postgresql")) == (turn == 0))
