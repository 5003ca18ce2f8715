"""Replays, rebuilds and bulk actions over HTTP: begun at once, run by a worker, watched until they have ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.bed import happened
from tests.flow.acting import active_equals_open_rows
from tests.http.serving import PREFIX, Served
from tests.http.stage import Stage
from tests.http.test_access import is_problem


@contextmanager
def working(stage: Stage) -> Iterator[None]:
    """Run a worker in this process."""
    with stage.guard.real.worker(poll_seconds=0.05):
        yield


def watched(stage: Stage, client: httpx.Client, begun: httpx.Response, *ends: str) -> dict[str, Any]:
    """Look where a job says it can be watched, until it has ended."""
    path = begun.headers["location"].removeprefix(PREFIX)
    seen: dict[str, Any] = {}

    def has_ended() -> bool:
        response = client.get(path)
        assert response.status_code == 200
        seen.update(response.json())
        return seen["status"] in (ends or ("completed", "failed", "cancelled"))

    stage.bed.wait_until(has_ended)
    return seen


def test_a_replay_from_the_checkpoint_takes_in_what_is_open(stage: Stage) -> None:
    """The request of the runbook: 202, a job, and its end; the failure is settled by it."""
    log = stage.follow()
    log.append("A", "A", "B")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    stage.handler.heal()
    served = stage.serve()
    begun = served.operator.post("/admin/projections/P/replay", json={"from_sequence": None, "to_sequence": None})
    assert begun.status_code == 202
    job = begun.json()
    assert begun.headers["location"] == f"{PREFIX}/admin/projections/replays/{job['id']}"
    assert (job["status"], job["actor"], job["projection_name"]) == ("pending", "Olga", "P")
    with working(stage):
        ended = watched(stage, served.viewer, begun)
    assert (ended["status"], ended["events_failed"], ended["progress"]) == ("completed", 0, 1.0)
    assert ended["events_replayed"] >= 1
    assert stage.bed.effects("P", "A") == [("A", 1), ("A", 2)]
    assert served.viewer.get("/health/projections/P").json()["health_status"] == "healthy"
    assert [item["id"] for item in served.viewer.get("/admin/projections/replays").json()["items"]] == [job["id"]]


def test_a_rebuild_fills_the_read_model_again(stage: Stage) -> None:
    """Cleared by on_reset, and applied from the beginning."""
    log = stage.follow()
    log.append("A", "B", "A")
    stage.guard.catch_up()
    stage.bed.change("DELETE FROM effects")
    served = stage.serve()
    begun = served.operator.post("/admin/projections/P/rebuild/")
    assert begun.status_code == 202
    with working(stage):
        assert watched(stage, served.viewer, begun)["status"] == "completed"
    assert sorted(stage.bed.effects("P")) == [("A", 1), ("A", 2), ("B", 1)]


def test_a_rebuild_beside_is_asked_for_in_the_guards_own_words(stage: Stage) -> None:
    """Where it cannot be, the answer says what is missing."""
    stage.follow().append("A")
    stage.guard.catch_up()
    served = stage.serve()
    response = served.operator.post("/admin/projections/P/rebuild", json={"into": "next", "max_failures": 3})
    assert is_problem(response, 422)
    assert "tables=" in response.json()["detail"]
    response = served.operator.post("/admin/projections/P/rebuild", json={"max_failures": 3})
    assert is_problem(response, 422)
    assert "into=" in response.json()["detail"]


def test_a_verification_tells_where_the_read_model_differs(stage: Stage) -> None:
    """202, a job, and its end; what cannot be verified is answered with what is missing."""
    stage.follow().append("A", "B")
    stage.guard.catch_up()
    served = stage.serve()
    response = served.operator.post("/admin/projections/P/verify", json={"sample_streams": 3})
    assert is_problem(response, 422)
    assert "tables=" in response.json()["detail"]
    assert is_problem(served.operator.post("/admin/projections/P/verify", json={"sample_streams": 0}), 422)
    assert is_problem(served.operator.post("/admin/projections/Q/verify", json={}), 404)


def test_a_verification_is_run_by_a_worker_and_watched(stage: Stage) -> None:
    """Rows are told by their keys, and the read model is left as it is."""
    stage.tables = ["effects"]
    stage.follow().append("A", "B")
    stage.guard.catch_up()
    stage.bed.change("UPDATE effects SET n = 7 WHERE stream = 'B'")
    served = stage.serve()
    begun = served.operator.post("/admin/projections/P/verify", json={"ignore": ["id"], "note": "a look"})
    assert begun.status_code == 202
    assert (begun.json()["kind"], begun.json()["drifted"]) == ("verify", None)
    with working(stage):
        ended = watched(stage, served.viewer, begun)
    assert (ended["status"], ended["drifted"], ended["note"]) == ("completed", True, "a look")
    (table,) = ended["compared"]["tables"]
    assert (table["table"], table["missing"], table["unexpected"]) == ("effects", 1, 1)
    assert ended["comparing"]["ignore"] == ["id"]
    assert sorted(stage.bed.effects("P")) == [("A", 1), ("B", 7)]


def test_a_second_replay_is_409_with_who_and_when_until_the_first_is_cancelled(stage: Stage) -> None:
    """And pause, resume and cancel steer it."""
    log = stage.follow()
    log.append("A", "B")
    stage.guard.catch_up()
    served = stage.serve()
    first = served.operator.post("/admin/projections/P/replay", json={"from_sequence": 1, "note": "again"})
    path = first.headers["location"].removeprefix(PREFIX)
    second = served.other.post("/admin/projections/P/replay", json={})
    assert is_problem(second, 409)
    assert "Olga" in second.json()["detail"]
    assert first.json()["id"] in second.json()["detail"]
    assert served.operator.post(f"{path}/pause").json()["wanted"] == "pause"
    assert served.operator.post(f"{path}/resume").json()["wanted"] == "run"
    assert served.other.post(f"{path}/cancel").json()["status"] == "cancelled"
    assert is_problem(served.operator.post(f"{path}/cancel"), 409)
    assert served.other.post("/admin/projections/P/replay", json={}).status_code == 202


IMPOSSIBLE_REPLAYS: list[tuple[dict[str, Any], str | None]] = [
    ({"from_sequence": 5, "to_sequence": 2}, None),
    ({"from_sequence": -1}, "from_sequence"),
    ({"from_sequence": "1"}, "from_sequence"),
    ({"from_sequence": 1.5}, "from_sequence"),
    ({"to_sequence": 2**63}, "to_sequence"),
    ({"events_per_second": 0}, "events_per_second"),
    ({"from_sequenze": 1}, "from_sequenze"),
    ({"note": "a\0b"}, "note"),
]


def test_a_replay_that_cannot_be_is_422_and_nothing_is_begun(stage: Stage) -> None:
    """By the field's name where it is one field."""
    stage.follow().append("A", "A")
    stage.guard.catch_up()
    served = stage.serve(rate_limit=None)
    for body, field in IMPOSSIBLE_REPLAYS:
        response = served.operator.post("/admin/projections/P/replay", json=body)
        assert is_problem(response, 422), body
        if field is not None:
            assert [error["field"] for error in response.json()["errors"]] == [field]
    assert stage.bed.value("SELECT count(*) FROM projection_replays") == 0


def test_a_guard_without_a_log_says_that_it_cannot_replay(stage: Stage) -> None:
    """409, with what to do."""
    response = stage.serve().operator.post("/admin/projections/P/replay", json={})
    assert is_problem(response, 409)
    assert "source=" in response.json()["detail"]


def test_a_reset_a_pause_and_a_resume_say_how_it_is_now(stage: Stage) -> None:
    """And are done when they answer."""
    stage.failed(parked=1)
    served = stage.serve()
    paused = served.operator.post("/admin/projections/P/pause/", json={"reason": "moving"}).json()
    assert (paused["action"], paused["actor"], paused["health"]["state"]) == ("pause", "Olga", "paused")
    assert served.operator.post("/admin/projections/P/resume").json()["health"]["state"] == "active"
    reset = served.operator.post("/admin/projections/P/reset").json()
    assert (reset["action"], reset["health"]["active_failures"], reset["health"]["parked_events"]) == ("reset", 0, 0)
    assert stage.bed.value("SELECT count(*) FROM projection_failures WHERE resolved_at IS NULL") == 0


def propose(served: Served, strategy: str, **criteria: Any) -> httpx.Response:
    """Ask what a bulk action would be for."""
    body = {"compensation_strategy": strategy, "filter": criteria, "note": "all of them"}
    return served.operator.post("/admin/projections/bulk", json=body)


def test_a_bulk_retry_is_counted_confirmed_run_and_watched(stage: Stage) -> None:
    """Nothing is done before it is confirmed; what fails later is left alone; everybody is named in the audit log."""
    for stream in "ABC":
        stage.failed(stream, parked=1)
    served = stage.serve()
    proposed = propose(served, "retry", projection_name="P")
    assert proposed.status_code == 201
    proposal = proposed.json()
    assert (proposal["status"], proposal["count"], proposal["done"]) == ("proposed", 3, 0)
    path = proposed.headers["location"].removeprefix(PREFIX)
    stage.failed("late")
    stage.handler.failing = {"late#1", "C#1"}
    assert is_problem(served.operator.post(f"{path}/confirm", json={"confirmation_token": "guessed"}), 422)
    assert stage.guard.health("P").active_failures == 4
    confirmed = served.operator.post(f"{path}/confirm", json={"confirmation_token": proposal["confirmation_token"]})
    assert confirmed.status_code == 202
    again = served.operator.post(f"{path}/confirm", json={"confirmation_token": proposal["confirmation_token"]})
    assert is_problem(again, 409)
    with working(stage):
        ended = watched(stage, served.viewer, confirmed)
    assert (ended["status"], ended["done"], ended["succeeded"], ended["failed"]) == ("completed", 3, 2, 1)
    open_ones = {failure.event_id for failure in stage.guard.failures("P").items}
    assert open_ones <= {"late#1", "C#1"}
    assert active_equals_open_rows(stage.bed)
    entries = served.viewer.get("/admin/projections/audit?action=retry").json()["items"]
    assert {entry["actor"] for entry in entries} == {"Olga"}
    assert len(entries) == 3


def test_a_bulk_action_can_be_cancelled_before_it_has_begun(stage: Stage) -> None:
    """Nothing is done then."""
    stage.failed()
    served = stage.serve()
    proposal = propose(served, "skip", stream_id="A").json()
    path = f"/admin/projections/bulk/{proposal['id']}"
    assert served.operator.post(f"{path}/cancel").json()["status"] == "cancelled"
    late = served.operator.post(f"{path}/confirm", json={"confirmation_token": proposal["confirmation_token"]})
    assert is_problem(late, 409)
    assert stage.guard.health("P").active_failures == 1
    assert [item["status"] for item in served.viewer.get("/admin/projections/bulk").json()["items"]] == ["cancelled"]


BULKS_NOT_MEANT: list[tuple[dict[str, Any], str]] = [
    ({"compensation_strategy": "retry", "filter": {}}, "filter"),
    ({"compensation_strategy": "retry"}, "filter"),
    ({"compensation_strategy": "forget", "filter": {"stream_id": "A"}}, "compensation_strategy"),
    ({"compensation_strategy": "skip", "filter": {"state": "resolved"}}, "filter.state"),
]


def test_a_bulk_action_that_is_not_meant_is_refused(stage: Stage) -> None:
    """For everything at once, for what is resolved, by no strategy."""
    stage.guard.publish(happened("A", 1))
    served = stage.serve(rate_limit=None)
    for body, field in BULKS_NOT_MEANT:
        response = served.operator.post("/admin/projections/bulk", json=body)
        assert is_problem(response, 422), body
        assert response.json()["errors"][0]["field"] == field
