"""The page of a projection: how it stands, what fails in it, what can be done."""

from __future__ import annotations

from tests.bed import happened
from tests.dashboard.pages.visiting import Visitor
from tests.http.stage import Stage

ACTS = ("pause", "replay", "verify", "rebuild", "reset")


def test_it_tells_how_a_projection_stands_and_what_fails_in_it(stage: Stage, visitor: Visitor) -> None:
    """Counts, reasons, the group of failures that leads to its failures, and what is parked."""
    failure = stage.failed(parked=2)
    for who in (visitor, visitor.viewer):
        page = who.sees("projections/P")
        assert page.headings == ["P"]
        assert page.says(
            "degraded", "1 unresolved failure", "1 open failure", "2 parked events", "ValueError", "planned"
        )
        assert f"failures?by=event&projection=P&fingerprint={failure.fingerprint}" in page.links
        assert "projections/P/streams?show=parked" in page.links


def test_it_tells_where_a_followed_projection_is(stage: Stage, visitor: Visitor) -> None:
    """The checkpoint, the end of the log, and what waits between the two."""
    log = stage.follow()
    log.append("A", "B")
    stage.guard.catch_up()
    log.append("A")
    page = visitor.sees("projections/P")
    assert page.says("Checkpoint 2", "Happened B#1", "ends at 3", "1 event waits", "followed in the event log")


def test_workers_that_run_it_are_named_and_none_is_told(stage: Stage, visitor: Visitor) -> None:
    """Without one nothing is retried, and the page says what to start."""
    assert visitor.sees("projections/P").says("none: nothing is retried", "projection-guard worker")
    with stage.guard.real.worker(poll_seconds=0.05):
        stage.bed.wait_until(stage.guard.workers)
        assert visitor.sees("projections/P").says("embedded, started")


def test_an_operator_has_buttons_and_a_viewer_has_none(stage: Stage, visitor: Visitor) -> None:
    """What cannot be done is told in words: a pushed projection has no log to replay."""
    page = visitor.sees("projections/P")
    offered = [act for act in ACTS if f"projections/P/{act}" in page.links]
    assert offered == ["pause", "reset"]
    assert page.says("No replay, no rebuild, no verify: the guard of this application has no source=")
    seen = visitor.viewer.sees("projections/P")
    assert not seen.forms
    assert not any(f"projections/P/{act}" in seen.links for act in ACTS)
    assert "No replay" not in seen.text


def test_a_followed_projection_can_be_replayed_and_without_tables_not_verified(stage: Stage, visitor: Visitor) -> None:
    """Each reason is told where it is one."""
    stage.follow()
    page = visitor.sees("projections/P")
    assert [act for act in ACTS if f"projections/P/{act}" in page.links] == ["pause", "replay", "rebuild", "reset"]
    assert page.says("No verify: it is registered without tables=[...]")


def test_the_charts_show_samples_and_say_what_there_is_none_of(stage: Stage, visitor: Visitor) -> None:
    """Without a worker there is nothing to draw; with samples there are four charts, over the hours that are chosen."""
    assert visitor.sees("projections/P").says("No figures yet. A worker keeps one a minute.")
    stage.guard.publish(happened("A", 1))
    stage.guard.work()
    stage.bed.change("UPDATE projection_samples SET minute = minute - 3")
    stage.guard.publish(happened("A", 2))
    stage.guard.work()
    for hours in ("1", "6", "24", "168"):
        content = visitor.asks(f"projections/P?hours={hours}").text
        assert content.count('<figure class="graph') == 4
        assert 'aria-label="Lag, age of the oldest event that waits:' in content
    assert visitor.sees("projections/P?hours=5", 422).says("hours")


def test_a_name_of_any_letters_has_its_page(stage: Stage, visitor: Visitor) -> None:
    """Slashes, dots and markup in a name neither break an address nor become part of a page."""
    for name in ("orders/by day", "..", "<script>alert(1)</script>"):
        stage.also(name)
    for name, address in (("orders/by day", "orders~2Fby~20day"), ("..", "~2E~2E")):
        assert visitor.sees(f"projections/{address}").headings == [name]
        assert visitor.sees(f"projections/{address}/pause").headings == [f"Pause {name}?"]
    assert visitor.sees("projections/~3Cscript~3Ealert~281~29~3C~2Fscript~3E").headings == ["<script>alert(1)</script>"]


def test_an_unknown_projection_is_a_page_that_says_so(visitor: Visitor) -> None:
    """404 on each of its pages, as a page."""
    for path in ("projections/Q", "projections/Q/streams", "projections/Q/pause", "jobs?projection=Q"):
        assert visitor.sees(path, 404).says("No projection is named 'Q'")
