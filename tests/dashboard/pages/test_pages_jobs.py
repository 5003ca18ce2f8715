"""The jobs, one job, and what can be done with it."""

from __future__ import annotations

from projection_guard import FailureFilter
from tests.dashboard.pages.visiting import Visitor
from tests.flow.acting import audit
from tests.http.stage import Stage


def test_jobs_lists_what_is_under_way_first_and_actions_on_many_failures(stage: Stage, visitor: Visitor) -> None:
    """With progress, who and why; each leads to its page."""
    stage.follow().append("A", "B")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    done = stage.guard.replay("P", from_sequence=1, actor="Otto")
    begun = stage.guard.start_replay("P", from_sequence=1, actor="Olga", note="again")
    action = stage.guard.propose_bulk("retry", where=FailureFilter(projection_name="P"), actor="Olga")
    for who in (visitor, visitor.viewer):
        page = who.sees("jobs")
        assert page.says("pending", "Begun by Olga", "again", "completed", "Otto", "Retry 1 failure", "proposed")
        assert page.links.index(f"jobs/{begun.id}") < page.links.index(f"jobs/{done.id}")
        assert f"bulk/{action.id}" in page.links
    assert visitor.sees("jobs?projection=P").says("Jobs of P", "completed")


def test_without_jobs_the_page_says_how_to_begin_one(visitor: Visitor) -> None:
    """Also where the guard has no log."""
    assert visitor.sees("jobs").says("No replay, rebuild or verification yet")


def test_a_job_can_rest_go_on_and_be_cancelled(stage: Stage, visitor: Visitor) -> None:
    """Cancelling asks first, and says what comes of it."""
    stage.follow().append("A", "B")
    stage.guard.catch_up()
    job = stage.guard.start_replay("P", from_sequence=1, actor="Olga")
    page = visitor.sends(f"jobs/{job.id}/pause")
    assert page.says("The job is to rest where it is")
    assert f"jobs/{job.id}/resume" in page.forms
    assert stage.guard.replay_of(job.id).wanted == "pause"
    page = visitor.sends(f"jobs/{job.id}/resume")
    assert stage.guard.replay_of(job.id).wanted == "run"
    assert f"jobs/{job.id}/pause" in page.forms
    assert visitor.sees(f"jobs/{job.id}/cancel").says("The 0 events applied so far stay applied")
    page = visitor.sends(f"jobs/{job.id}/cancel")
    assert page.says("cancelled", "The job ends where it is")
    assert not page.forms
    assert stage.guard.replay_of(job.id).status == "cancelled"
    assert stage.guard.health("P").state == "active"
    assert [entry[0] for entry in audit(stage.bed)] == ["replay", "pause_replay", "resume_replay", "cancel_replay"]
    assert visitor.sees(f"jobs/{job.id}/cancel").says("It has ended already")
    assert visitor.posts(f"jobs/{job.id}/cancel").status_code == 409


def test_a_viewer_watches_a_job_and_is_refused_its_buttons(stage: Stage, visitor: Visitor) -> None:
    """They are not there, and what they would send is refused."""
    stage.follow().append("A")
    stage.guard.catch_up()
    job = stage.guard.start_replay("P", from_sequence=1, actor="Olga")
    page = visitor.viewer.sees(f"jobs/{job.id}")
    assert not page.forms
    assert f"jobs/{job.id}/cancel" not in page.links
    for act in ("pause", "resume", "cancel"):
        assert visitor.viewer.posts(f"jobs/{job.id}/{act}").status_code == 403
    visitor.viewer.sees(f"jobs/{job.id}/cancel", 403)
    assert stage.guard.replay_of(job.id).wanted == "run"


def test_an_unknown_job_is_a_page_that_says_so(visitor: Visitor) -> None:
    """Also one whose id is none."""
    for job in ("00000000-0000-4000-8000-000000000000", "nonsense"):
        visitor.sees(f"jobs/{job}", 404)
        assert visitor.posts(f"jobs/{job}/cancel").status_code == 404


def _only_what_it_is(what: str, _: object) -> str:
    return f"[{what}]"


def test_the_error_of_a_job_goes_through_the_applications_hook(stage: Stage) -> None:
    """It may hold what a handler has said."""
    stage.follow().append("A")
    stage.tables.append("effects")
    stage.handler.failing.add("A#1")
    job = stage.guard.start_replay("P", rebuild=True, into="next", actor="Olga")
    with stage.guard.real.worker(poll_seconds=0.05):
        stage.bed.wait_until(lambda: stage.guard.replay_of(job.id).is_finished)
    assert stage.guard.replay_of(job.id).status == "failed"
    visitor = Visitor(stage, redact=_only_what_it_is)
    page = visitor.sees(f"jobs/{job.id}")
    assert page.says("It failed: [error_message]")
    assert "ValueError" not in page.text
    assert visitor.sees("jobs").says("[error_message]")
