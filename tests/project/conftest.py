"""Everything in this folder is marked `project`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here: the hook sees the whole run's tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("project")
