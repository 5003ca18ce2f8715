"""A tainted stream that was mended by hand: a page says what that means, and its form ends the taint."""

from __future__ import annotations

from tests.bed import happened
from tests.dashboard.pages.visiting import Visitor
from tests.flow.acting import audit, states_of
from tests.http.stage import Stage

ASKS = "projections/P/streams/A/untaint"
REASON = "an event was skipped by alice"


def tainted(stage: Stage) -> None:
    """Let A#1 be skipped by alice."""
    stage.guard.resolve(stage.failed().id, "skip", actor="alice")


def test_an_operator_says_that_a_stream_is_mended(stage: Stage, visitor: Visitor) -> None:
    """From the list or from the stream's own page; nothing is done by looking at what it means."""
    tainted(stage)
    for at in ("projections/P/streams?show=tainted", "projections/P/streams/A"):
        page = visitor.sees(at)
        assert page.says("tainted", REASON)
        assert ASKS in page.links
    page = visitor.sees(ASKS)
    assert page.headings == ["Is this stream of P mended?"]
    assert page.says(REASON, "the read model of stream 'A' is right again", "count as mended by hand from then on")
    assert page.forms == [ASKS]
    assert stage.guard.health("P").tainted_streams == 1
    page = visitor.sends(ASKS, tainted_reason=REASON, note="written by hand")
    assert visitor.went.endswith("/dashboard/projections/P/streams/A?said=untainted")
    assert page.says("The taint has ended", "flows", "mended by hand")
    assert ASKS not in page.links
    assert (stage.guard.health("P").tainted_streams, states_of(stage.bed, "P")) == (0, {"A#1": "fixed"})
    assert audit(stage.bed)[-1] == ("untaint", "Olga", "P", "written by hand")
    assert visitor.sees("audit").says("ended a stream's taint", "written by hand")


def test_one_that_is_not_tainted_any_more_says_so(stage: Stage, visitor: Visitor) -> None:
    """On the page that asks, and after a form that came too late."""
    tainted(stage)
    visitor.sends(ASKS, tainted_reason=REASON)
    page = visitor.sees(ASKS)
    assert page.says("That cannot be done now", "it is not tainted")
    assert not page.forms
    assert visitor.sends(ASKS, tainted_reason=REASON).says("There was no taint to end")
    assert [entry[0] for entry in audit(stage.bed)] == ["skip", "untaint"]


def test_a_taint_that_came_after_the_page_stays(stage: Stage, visitor: Visitor) -> None:
    """The form carries what the page has said."""
    tainted(stage)
    stage.handler.failing.add("A#2")
    stage.guard.publish(happened("A", 2))
    (failure,) = stage.guard.failures("P").items
    stage.guard.resolve(failure.id, "skip", actor="bob")
    refused = visitor.posts(ASKS, tainted_reason=REASON)
    assert refused.status_code == 409
    assert "skipped by bob" in refused.text
    assert stage.guard.health("P").tainted_streams == 1


def test_a_viewer_sees_the_taint_and_may_not_end_it(stage: Stage, visitor: Visitor) -> None:
    """No button, no page, no act."""
    tainted(stage)
    for at in ("projections/P/streams?show=tainted", "projections/P/streams/A"):
        page = visitor.viewer.sees(at)
        assert page.says(REASON)
        assert ASKS not in page.links
    visitor.viewer.sees(ASKS, 403)
    assert visitor.viewer.posts(ASKS, tainted_reason=REASON).status_code == 403
    assert stage.guard.health("P").tainted_streams == 1


def test_a_projection_that_is_one_line_is_mended_as_a_whole(stage: Stage, visitor: Visitor) -> None:
    """Its streams' pages lead there, too."""
    stage.order = "global"
    tainted(stage)
    whole = "projections/P/streams/~/untaint"
    assert whole in visitor.sees("projections/P/streams?show=tainted").links
    assert whole in visitor.sees("projections/P/streams/A").links
    assert visitor.sees(whole).headings == ["Is P mended?"]
    assert visitor.sends(whole, tainted_reason=REASON).headings == ["P"]
    assert stage.guard.health("P").tainted_streams == 0


def test_while_a_job_is_under_way_the_page_says_so(stage: Stage, visitor: Visitor) -> None:
    """It may be filling the stream anew."""
    stage.follow().append("A")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    (failure,) = stage.guard.failures("P").items
    stage.guard.resolve(failure.id, "skip", actor="alice")
    assert visitor.sees(ASKS).says("Replaying the stream alone would end its taint, too")
    visitor.sends("projections/P/replay", stream_id="A")
    page = visitor.sees(ASKS)
    assert page.says("That cannot be done now", "a job of the projection is under way")
    assert not page.forms
    assert visitor.posts(ASKS, tainted_reason=REASON).status_code == 409
