"""The streams of a projection that do not simply flow, what is parked, and holes of the log."""

from __future__ import annotations

from tests.bed import happened
from tests.dashboard.pages.visiting import Visitor
from tests.http.stage import Stage


def test_a_blocked_stream_is_listed_with_its_failure_and_what_waits(stage: Stage, visitor: Visitor) -> None:
    """Its links lead to the failure, to the stream, and to its parked events."""
    failure = stage.failed(parked=2)
    for who in (visitor, visitor.viewer):
        page = who.sees("projections/P/streams")
        assert page.says("blocked", str(failure.id)[:8])
        assert f"failures/{failure.id}" in page.links
        assert "projections/P/streams/A" in page.links
        assert "projections/P/streams?show=parked&stream=A" in page.links


def test_parked_events_are_listed_in_their_order(stage: Stage, visitor: Visitor) -> None:
    """Of all streams, or of one."""
    stage.failed("A", parked=2)
    stage.failed("B", parked=1)
    text = visitor.sees("projections/P/streams?show=parked").text
    assert text.index("A#2") < text.index("A#3") < text.index("B#2")
    page = visitor.sees("projections/P/streams?show=parked&stream=B")
    assert page.says("Of stream B only", "B#2", "an earlier event of its stream")
    assert "A#2" not in page.text


def test_a_tainted_stream_says_why_and_an_operator_can_replay_it_alone(stage: Stage, visitor: Visitor) -> None:
    """The button is there only where there is a log."""
    stage.follow().append("A")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    (failure,) = stage.guard.failures("P").items
    stage.guard.resolve(failure.id, "skip", actor="Olga")
    page = visitor.sees("projections/P/streams?show=tainted")
    assert page.says("tainted", "an event was skipped by Olga")
    assert "projections/P/replay?stream_id=A" in page.links
    assert "projections/P/replay?stream_id=A" not in visitor.viewer.sees("projections/P/streams?show=tainted").links


def test_a_pushed_projection_offers_no_replay_of_a_tainted_stream(stage: Stage, visitor: Visitor) -> None:
    """There is nothing to replay it from."""
    stage.guard.resolve(stage.failed().id, "skip", actor="Olga")
    page = visitor.sees("projections/P/streams?show=tainted")
    assert page.says("an event was skipped by Olga")
    assert not any("replay" in link for link in page.links)
    assert "Holes in the log" not in page.text


def test_holes_of_the_log_are_listed(stage: Stage, visitor: Visitor) -> None:
    """With why nobody waited for them any longer."""
    log = stage.follow()
    log.append("A", "B", "A")
    stage.bed.change("DELETE FROM log WHERE sequence = 2")
    stage.guard.catch_up()
    page = visitor.sees("projections/P/streams?show=skipped")
    assert page.says("Sequences of the log in which there was nothing", "2")


def test_empty_lists_say_what_they_would_hold(visitor: Visitor) -> None:
    """Nobody is left to wonder whether a page is broken."""
    for tab, words in (
        ("blocked", "No stream is blocked"),
        ("tainted", "No stream is tainted"),
        ("parked", "No event is parked"),
    ):
        assert visitor.sees(f"projections/P/streams?show={tab}").says(words)
    visitor.sees("projections/P/streams?show=nonsense", 422)


def test_many_parked_events_come_page_by_page(stage: Stage, visitor: Visitor) -> None:
    """Each is seen once."""
    stage.handler.failing.add("A#1")
    for n in range(1, 62):
        stage.guard.publish(happened("A", n))
    first = visitor.sees("projections/P/streams?show=parked")
    (onward,) = [link for link in first.links if "after=" in link and "show=parked" in link]
    second = visitor.sees(onward)
    assert [first.text.count(f"A#{n} ") + second.text.count(f"A#{n} ") for n in range(2, 62)] == [1] * 60
