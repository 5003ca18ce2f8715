"""`projection-guard verify`: what it says and how it ends, where a read model has drifted and where not."""

from __future__ import annotations

from tests.cli import shop
from tests.cli.conftest import Place


def test_drift_is_told_and_changes_the_exit_code(place: Place) -> None:
    """0 where the read model is what the log says, 13 where it is not, with the keys of rows; nothing is changed."""
    place.append(shop.event("X", 1), shop.event("X", 2), shop.event("Y", 1))
    place.follow()
    alike = place.shell.app("verify", "Totals", "--json", app="follower").json
    assert (alike["kind"], alike["status"], alike["drifted"]) == ("verify", "completed", False)
    place.change("DELETE FROM totals WHERE event_id = 'X#2'")
    place.change("INSERT INTO totals (event_id) VALUES ('Z#9')")
    told = place.shell.app("verify", "Totals", app="follower", code=13)
    assert "it has drifted" in told.out
    assert "totals: missing: X#2" in told.out
    assert "totals: unexpected: Z#9" in told.out
    part = place.shell.app("verify", "Totals", "--stream", "Y", "--json", app="follower").json
    assert part["drifted"] is False
    assert place.value("SELECT count(*) FROM totals") == 3


def test_what_it_refuses(place: Place) -> None:
    """A projection that is pushed has no log to be compared with; a bare database has no handler."""
    assert "source" in place.shell.app("verify", "Orders", code=1).err
    assert "handlers" in place.shell.bare("verify", "Orders", code=1).err
    wrong = place.shell.app("verify", "Totals", "--sample-streams", "0", app="follower", code=2)
    assert "sample_streams" in wrong.err
