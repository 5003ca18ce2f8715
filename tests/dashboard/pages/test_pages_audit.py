"""The audit log as a page: who did what, when, why, and what it was before."""

from __future__ import annotations

from tests.dashboard.pages.visiting import Visitor
from tests.http.stage import Stage


def test_entries_tell_who_did_what_and_lead_to_it(stage: Stage, visitor: Visitor) -> None:
    """Newest first, with the note, the change, and the request that asked for it."""
    failure = stage.failed()
    visitor.sends("projections/P/pause", reason="<b>because</b>")
    visitor.sends("projections/P/resume")
    stage.guard.resolve(failure.id, "skip", actor="Otto", note="never mind")
    for who in (visitor, visitor.viewer):
        page = who.sees("audit")
        assert page.says(
            "Otto", "skipped an event", "never mind", "Olga", "paused it", "active → paused", "<b>because</b>"
        )
        assert page.says("resumed it", "exhausted → resolved" if failure.is_exhausted else "scheduled → resolved")
        told = [page.text.rindex(words) for words in ("skipped an event", "resumed it", "paused it")]
        assert told == sorted(told)
        assert f"failures/{failure.id}" in page.links
        assert "projections/P" in page.links
        assert "request" in page.text


def test_entries_are_filtered(stage: Stage, visitor: Visitor) -> None:
    """By projection, actor, action and failure; several narrow it together."""
    stage.also("Q")
    failure = stage.failed()
    for name, actor in (("P", "Olga"), ("Q", "Otto")):
        stage.guard.pause(name, actor=actor)
        stage.guard.resume(name, actor=actor)
    stage.guard.resolve(failure.id, "skip", actor="Otto")
    for query, shown in (
        ("projection=Q", 2),
        ("actor=Otto", 3),
        ("action=pause", 2),
        (f"failure={failure.id}", 1),
        ("actor=Otto&action=pause&projection=Q", 1),
        ("actor=Otto&projection=P&action=pause", 0),
    ):
        assert visitor.asks(f"audit?{query}").text.count('<tr id="entry-') == shown, query
    assert visitor.sees("audit?actor=Nobody").says("No such entry")
    visitor.sees("audit?projection=R", 404)


def test_a_job_that_was_begun_is_led_to(stage: Stage, visitor: Visitor) -> None:
    """And the details of it are told."""
    stage.follow().append("A")
    stage.guard.catch_up()
    job = stage.guard.start_replay("P", from_sequence=1, actor="Olga")
    page = visitor.sees("audit")
    assert page.says("began a replay", "active → replaying", "kind range")
    assert f"jobs/{job.id}" in page.links


def test_entries_come_page_by_page(stage: Stage, visitor: Visitor) -> None:
    """Each is seen once, and the filter goes along."""
    for _ in range(26):
        stage.guard.pause("P", actor="Olga")
        stage.guard.resume("P", actor="Olga")
    stage.guard.pause("P", actor="Otto")
    first = visitor.sees("audit?actor=Olga")
    (onward,) = [link for link in first.links if "after=" in link]
    assert "actor=Olga" in onward
    assert visitor.asks("audit?actor=Olga").text.count('<tr id="entry-') == 50
    assert visitor.asks(onward).text.count('<tr id="entry-') == 2


def test_an_empty_log_says_what_it_would_hold(visitor: Visitor) -> None:
    """Nobody is left to wonder whether it works."""
    assert visitor.sees("audit").says("Nobody has done anything yet")
