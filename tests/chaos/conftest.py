"""A run takes longer than any other test may, and ends by itself: with a verdict, where pytest would end its worker."""

from __future__ import annotations

import faulthandler
import sys

import pytest

MOST_SECONDS = 420.0


@pytest.fixture(autouse=True)
def takes_its_time(request: pytest.FixtureRequest) -> None:
    """Begin pytest's `faulthandler_timeout` anew, with a longer one; pytest cancels it after the test."""
    if request.node.get_closest_marker("slow") is not None:
        assert sys.__stderr__ is not None
        faulthandler.dump_traceback_later(MOST_SECONDS, file=sys.__stderr__, exit=True)
