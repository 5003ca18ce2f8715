"""`projection-guard alerts`: what people were told of, and a test of who is told."""

from __future__ import annotations

from tests.cli import shop
from tests.cli.conftest import Place


def test_alerts_are_listed_and_receivers_tried(place: Place) -> None:
    """What goes on, whom it has not reached; a test goes to everybody now; 1 where one does not take it."""
    assert "Nobody was told" in place.shell.bare("alerts", "list").out
    place.shell.breaks("A")
    with place.application("alerting") as guard:
        guard.publisher().publish(shop.event("A", 1))
        guard.worker().run_once()
    (listed,) = [
        each for each in place.shell.bare("alerts", "list", "--json").json if each["kind"] == "active_failures"
    ]
    assert (listed["projection"], listed["undelivered"]) == ("Orders", ["refuses"])
    assert listed["title"] in place.shell.bare("alerts", "list").out
    tried = place.shell.app("alerts", "test", "--json", app="alerting", code=1).json
    assert {each["name"]: each["error"] is None for each in tried} == {"writes": True, "refuses": False}
    assert "test" in (place.shell.folder / "told").read_text().splitlines()[-1].lower()
    assert "nobody to send" in place.shell.app("alerts", "test", code=1).err
