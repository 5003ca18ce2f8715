"""`rebuild --processes`: over processes of this machine, each of which imports the application."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli import shop
from tests.cli.conftest import Place


def test_a_rebuild_is_spread_over_processes(place: Place) -> None:
    """It comes to the same; in the background there would be nobody who has the processes."""
    if place.engine.dialect.name != "sqlite":
        pytest.skip("a process that begins anew takes seconds: one way is enough")
    shell = place.shell
    place.append(*(shop.event(stream, n) for n in (1, 2, 3) for stream in "XYZ"))
    place.follow()
    told: Any = shell.app("rebuild", "Totals", "--processes", "1", "--yes", "--json", app="follower").json
    assert (told["status"], told["events_replayed"], told["kind"]) == ("completed", 9, "rebuild")
    assert place.value("SELECT count(*) FROM totals") == 9
    refused = shell.app("rebuild", "Totals", "--processes", "2", "--background", "--yes", app="follower", code=2)
    assert "leave --background out" in refused.err
