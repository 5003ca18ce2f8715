"""One stream through one projection: what was applied, has failed, is parked, is still to come."""

from __future__ import annotations

from tests.bed import happened
from tests.dashboard.pages.visiting import Visitor
from tests.http.stage import Stage


def test_a_blocked_stream_shows_what_has_become_of_each_event(stage: Stage, visitor: Visitor) -> None:
    """Newest first; an operator can retry its first failure from there, and sees what is parked be applied."""
    log = stage.follow()
    stage.bed.change("CREATE INDEX by_stream ON log (stream_id, sequence)")
    log.append("A", "A", "A", "B")
    stage.handler.failing.add("A#2")
    stage.guard.catch_up()
    log.append("A")
    (failure,) = stage.guard.failures("P").items
    page = visitor.sees("projections/P/streams/A")
    assert page.headings == ["Stream A"]
    assert page.says("blocked", "It waits for 1 failure", "1 event is parked", "All of its events, as the log has them")
    states = [page.text.index(f"A#{n}") for n in (4, 3, 2, 1)]
    assert states == sorted(states)
    assert page.says("pending", "parked", "failed", "applied")
    assert "B#1" not in page.text
    assert f"failures/{failure.id}" in page.links
    assert page.forms == [f"failures/{failure.id}/retry"]
    stage.handler.heal()
    visitor.sends(page.forms[0])
    stage.guard.work()
    page = visitor.sees("projections/P/streams/A")
    assert page.says("flows", "retried by a person")
    assert "blocked" not in page.text
    assert not page.forms


def test_a_skipped_event_stays_to_be_seen_and_the_stream_can_be_replayed_alone(stage: Stage, visitor: Visitor) -> None:
    """It says that this cures the taint; a viewer has no such button."""
    log = stage.follow()
    log.append("A", "A")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    (failure,) = stage.guard.failures("P").items
    stage.guard.resolve(failure.id, "skip", actor="Olga")
    stage.guard.work()
    page = visitor.sees("projections/P/streams/A")
    assert page.says("tainted", "an event was skipped by Olga", "Replaying it alone cures that", "skipped by a person")
    assert "projections/P/replay?stream_id=A" in page.links
    seen = visitor.viewer.sees("projections/P/streams/A")
    assert seen.says("tainted", "skipped by a person")
    assert "projections/P/replay?stream_id=A" not in seen.links
    assert not seen.forms


def test_a_log_that_is_not_read_by_stream_says_what_is_missing(stage: Stage, visitor: Visitor) -> None:
    """What has failed is listed all the same."""
    stage.follow().append("A", "A")
    stage.handler.failing.add("A#2")
    stage.guard.catch_up()
    page = visitor.sees("projections/P/streams/A")
    assert page.says("A#2", "failed", "needs an index that begins with the stream")
    assert "A#1" not in page.text


def test_a_pushed_stream_says_how_far_back_its_events_go(stage: Stage, visitor: Visitor) -> None:
    """There is no log to read it from, and no replay."""
    stage.failed("A", parked=1)
    page = visitor.sees("projections/P/streams/A")
    assert page.says("Applied events are on record for a while only", "A#2", "parked", "A#1", "failed")
    assert not any("replay" in link for link in page.links)


def test_a_stream_of_any_letters_has_its_page(stage: Stage, visitor: Visitor) -> None:
    """What it is called neither breaks the address nor becomes part of the page."""
    name = "a/b <i>c</i>"
    stage.guard.publish(happened(name, 1))
    assert visitor.sees("projections/P/streams/a~2Fb~20~3Ci~3Ec~3C~2Fi~3E").headings == [f"Stream {name}"]


def test_a_stream_that_nobody_knows_says_so(visitor: Visitor) -> None:
    """It may be misspelled; its projection is there."""
    assert visitor.sees("projections/P/streams/nowhere").says("Nothing is known of this stream")
    visitor.sees("projections/Q/streams/A", 404)
