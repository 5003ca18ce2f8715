"""What is done to a projection: first a page says what will happen, with counts, then its form does it."""

from __future__ import annotations

import pytest

from tests.bed import happened
from tests.dashboard.pages.visiting import Visitor
from tests.flow.acting import audit
from tests.http.stage import Stage

ACTS = ("pause", "resume", "replay", "rebuild", "verify", "reset")


def test_a_pause_takes_a_reason_and_can_be_undone_at_once(stage: Stage, visitor: Visitor) -> None:
    """The page that it leads to says who paused it and why, and resumes it."""
    stage.failed()
    assert visitor.sees("projections/P/pause").says("no retries of its 1 open failure", "Events that arrive are parked")
    page = visitor.sends("projections/P/pause", reason="the index is moved")
    assert visitor.went.endswith("/dashboard/projections/P?said=paused")
    assert page.says("Paused by Olga: the index is moved", "Events wait in their order")
    assert stage.guard.health("P").state == "paused"
    assert page.forms == ["projections/P/resume"]
    assert "Resume" in page.buttons
    page = visitor.sends("projections/P/resume")
    assert page.says("The projection goes on.")
    assert stage.guard.health("P").state == "active"
    assert audit(stage.bed) == [("pause", "Olga", "P", "the index is moved"), ("resume", "Olga", "P", None)]


def test_a_reset_says_what_it_ends_and_has_to_be_meant(stage: Stage, visitor: Visitor) -> None:
    """The counts are those of the database; without the tick nothing is done."""
    stage.failed(parked=3)
    stage.guard.publish(happened("B", 1, sequence=12345))
    stage.guard.work()
    page = visitor.sees("projections/P/reset")
    assert page.says("from event 12 345 to the beginning", "1 open failure and 3 parked events end here", "on_reset is")
    assert page.says("There is no undo.")
    assert visitor.posts("projections/P/reset").status_code == 422
    assert stage.guard.health("P").active_failures == 1
    page = visitor.sends("projections/P/reset", sure="yes")
    assert page.says("set back to the beginning", "at the beginning")
    health = stage.guard.health("P")
    assert (health.active_failures, health.parked_events, stage.bed.effects("P")) == (0, 0, [])


def test_a_replay_begins_where_the_page_says(stage: Stage, visitor: Visitor) -> None:
    """From the first open event to the log's end; a job is on record then, and its page follows it."""
    log = stage.follow()
    log.append("B", "A", "A")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    page = visitor.sees("projections/P/replay")
    assert page.says("begins at event 2, the first of 1 failed and 1 parked event", "the end of the log, event 3 now")
    page = visitor.sends("projections/P/replay", from_sequence="1", events_per_second="50", note="mended")
    (job,) = stage.guard.replays("P").items
    assert visitor.went.endswith(f"/dashboard/jobs/{job.id}?said=begun")
    assert (job.kind, job.actor, job.note, job.events_per_second) == ("range", "Olga", "mended", 50.0)
    assert page.headings == ["Replay of a range of P"]
    assert page.says("pending", "mended")
    stage.handler.heal()
    with stage.guard.real.worker(poll_seconds=0.05):
        stage.bed.wait_until(lambda: stage.guard.replay_of(job.id).is_finished)
    assert visitor.sees(f"jobs/{job.id}").says("completed", "100.0 %", "3 applied")
    assert stage.guard.health("P").active_failures == 0


def test_a_stream_is_replayed_alone_by_a_form_that_names_it(stage: Stage, visitor: Visitor) -> None:
    """The cure of a taint: the page says what becomes of the stream, and whether it is cleared first."""
    log = stage.follow()
    log.append("A")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    (failure,) = stage.guard.failures("P").items
    stage.guard.resolve(failure.id, "skip", actor="Olga")
    stage.handler.heal()
    page = visitor.sees("projections/P/replay?stream_id=A")
    assert page.says("All events of stream 'A' are applied again", "It has no on_reset_stream")
    visitor.sends("projections/P/replay", stream_id="A")
    (job,) = stage.guard.replays("P").items
    assert (job.kind, job.stream_id) == ("stream", "A")
    with stage.guard.real.worker(poll_seconds=0.05):
        stage.bed.wait_until(lambda: stage.guard.replay_of(job.id).is_finished)
    assert stage.bed.effects("P") == [("A", 1)]
    assert stage.guard.health("P").tainted_streams == 0


def test_a_rebuild_in_place_has_to_be_meant_and_one_beside_needs_tables(stage: Stage, visitor: Visitor) -> None:
    """The page says why there is none beside, and an untouched form does nothing."""
    stage.follow().append("A", "B")
    stage.guard.catch_up()
    page = visitor.sees("projections/P/rebuild")
    assert page.says("it is registered without tables=[...]", "Its on_reset clears the read model", "event 2 now")
    assert visitor.posts("projections/P/rebuild", way="place").status_code == 422
    assert visitor.posts("projections/P/rebuild", way="beside", into="next").status_code == 422
    assert stage.guard.replays("P").items == ()
    stage.bed.change("DELETE FROM effects")
    visitor.sends("projections/P/rebuild", way="place", sure="yes")
    (job,) = stage.guard.replays("P").items
    with stage.guard.real.worker(poll_seconds=0.05):
        stage.bed.wait_until(lambda: stage.guard.replay_of(job.id).is_finished)
    assert sorted(stage.bed.effects("P")) == [("A", 1), ("B", 1)]


def test_a_rebuild_beside_and_a_verification_tell_what_they_have_found(stage: Stage, visitor: Visitor) -> None:
    """Table by table, with keys of rows that differ."""
    stage.tables.append("effects")
    stage.follow().append("A", "B")
    stage.guard.catch_up()
    stage.bed.change("DELETE FROM effects WHERE stream = 'A'")
    page = visitor.sees("projections/P/verify")
    assert page.says("A copy of effects is made from the log alone, up to where it is now: event 2")
    with stage.guard.real.worker(poll_seconds=0.05):
        visitor.sends("projections/P/verify", max_differences="5")
        verified = stage.guard.replays("P").items[0]
        stage.bed.wait_until(lambda: stage.guard.replay_of(verified.id).is_finished)
        page = visitor.sees(f"jobs/{verified.id}")
        assert page.says("Verification of P", "drifted", "effects differs")
        assert visitor.sees("projections/P/rebuild").says("A second copy of effects is filled")
        visitor.sends("projections/P/rebuild", way="beside", into="next")
        rebuilt = stage.guard.replays("P").items[0]
        stage.bed.wait_until(lambda: stage.guard.replay_of(rebuilt.id).is_finished)
    assert visitor.sees(f"jobs/{rebuilt.id}").says(
        "Rebuild beside of P", "completed", "What changed", "effects differs"
    )
    assert sorted(stage.bed.effects("P")) == [("A", 1), ("B", 1)]


def test_while_a_job_is_under_way_the_pages_say_what_it_prevents(stage: Stage, visitor: Visitor) -> None:
    """The projection's page shows it, and a second one is refused with who began the first."""
    stage.follow().append("A")
    stage.guard.catch_up()
    visitor.sends("projections/P/replay", from_sequence="1")
    (job,) = stage.guard.replays("P").items
    page = visitor.sees("projections/P")
    assert f"jobs/{job.id}" in page.links
    assert page.says("No pause, no replay, no rebuild, no reset: a job of it is under way")
    for act in ("replay", "rebuild", "reset", "pause"):
        page = visitor.sees(f"projections/P/{act}")
        assert page.says("That cannot be done now", "a job of it is under way")
        assert not page.forms
    refused = visitor.posts("projections/P/replay", from_sequence="1")
    assert refused.status_code == 409
    assert "begun by Olga" in refused.text


@pytest.mark.parametrize("act", ACTS)
def test_a_viewer_is_refused_both_the_page_and_the_act(stage: Stage, visitor: Visitor, act: str) -> None:
    """Hidden buttons are no protection: the server refuses what they would send."""
    stage.follow()
    assert visitor.viewer.sees(f"projections/P/{act}", 403).says("may look but not act")
    assert visitor.viewer.posts(f"projections/P/{act}", sure="yes", way="place").status_code == 403
    assert audit(stage.bed) == []


def test_what_a_form_does_not_know_is_refused_with_the_fields_name(stage: Stage, visitor: Visitor) -> None:
    """Nothing is begun by what is misunderstood."""
    stage.follow().append("A")
    for path, field, value in (
        ("replay", "from_sequence", "-1"),
        ("replay", "events_per_second", "nan"),
        ("replay", "to_sequence", "9" * 30),
        ("verify", "sample_streams", "many"),
        ("pause", "because", "of"),
    ):
        refused = visitor.posts(f"projections/P/{path}", **{field: value})
        assert (refused.status_code, field in refused.text) == (422, True), path
    assert stage.guard.replays("P").items == ()
    assert audit(stage.bed) == []
