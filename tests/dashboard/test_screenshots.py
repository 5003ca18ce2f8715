"""The pictures that the README and the docs show are made by the suite."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.dashboard.browser import PHONE, Browser
from tests.dashboard.screenshots import IMAGES, NAMES, take

pytestmark = pytest.mark.project


def size_of(picture: Path) -> tuple[int, int]:
    """Return the width and height that a PNG says it has."""
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    return width, height


def test_the_pictures_are_made_and_are_small(browser: Browser, sqlite_url: str, tmp_path: Path) -> None:
    """Each of those in docs/images can be made anew, as wide as that one, and none is a burden on who clones this."""
    take(browser, tmp_path, sqlite_url)
    for name in NAMES:
        made, shown = tmp_path / f"dashboard-{name}.png", IMAGES / f"dashboard-{name}.png"
        assert made.stat().st_size < 150_000, name
        assert shown.stat().st_size < 150_000, name
        assert size_of(made)[0] == size_of(shown)[0] == (PHONE if "phone" in name else 1280)
