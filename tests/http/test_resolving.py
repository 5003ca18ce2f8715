"""POST .../resolve: retry really retries; of several at once one wins, and the others learn who it was."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx

from projection_guard import Failure
from tests.flow.acting import active_equals_open_rows, make_due, states_of
from tests.http.serving import Served
from tests.http.stage import Stage
from tests.http.test_access import is_problem


def resolve(served: Served, failure: Failure, strategy: str, **more: Any) -> httpx.Response:
    """Ask an operator's request to end a failure."""
    path = f"/admin/projections/failures/{failure.id}/resolve"
    return served.operator.post(path, json={"compensation_strategy": strategy, **more})


def test_a_retry_says_what_came_of_it(stage: Stage) -> None:
    """First it fails again, then it is applied, and what was parked follows."""
    failure = stage.failed(parked=1)
    served = stage.serve()
    again = resolve(served, failure, "retry").json()
    assert (again["outcome"], again["failure"]["state"], again["attempts"]) == ("failed", "scheduled", 2)
    stage.handler.heal()
    healed = resolve(served, failure, "retry", note="fixed in 1.2.3", failure_id=str(failure.id)).json()
    assert (healed["outcome"], healed["projection_name"], healed["event_id"]) == ("applied", "P", "A#1")
    assert healed["failure"]["resolved_by"] == "Olga"
    assert healed["failure"]["resolution_method"] == "manual_retry"
    stage.bed.wait_until(lambda: stage.guard.work() and stage.bed.effects("P") == [("A", 1), ("A", 2)])
    detail = served.viewer.get(f"/admin/projections/failures/{failure.id}").json()
    assert [attempt["number"] for attempt in detail["attempts"]] == [1, 2]


def test_a_skip_and_a_fix_end_it(stage: Stage) -> None:
    """With the name of who did it; a skip taints the stream."""
    ended = {"skip": stage.failed("A"), "manual_fix": stage.failed("B")}
    served = stage.serve()
    for strategy, failure in ended.items():
        answered = resolve(served, failure, strategy, note="seen by hand").json()["failure"]
        method = "manual_skip" if strategy == "skip" else strategy
        assert (answered["resolution_method"], answered["resolved_by"]) == (method, "Olga")
        (entry,) = served.viewer.get(f"/admin/projections/audit?failure_id={failure.id}").json()["items"]
        assert (entry["actor"], entry["action"], entry["note"]) == ("Olga", strategy, "seen by hand")
        assert (entry["details"]["before"], entry["details"]["after"]) == ("scheduled", "resolved")
        assert entry["request_id"]
    tainted = served.viewer.get("/admin/projections/P/streams?state=tainted").json()["items"]
    assert [stream["stream_id"] for stream in tainted] == ["A"]


def test_what_is_resolved_already_is_409_with_who_and_when(stage: Stage) -> None:
    """Nothing is done twice."""
    failure = stage.failed()
    served = stage.serve()
    assert resolve(served, failure, "manual_fix").status_code == 200
    response = resolve(served, failure, "retry")
    assert is_problem(response, 409)
    content = response.json()
    assert (content["resolved_by"], content["resolution_method"]) == ("Olga", "manual_fix")
    assert "T" in content["resolved_at"]
    assert stage.bed.value("SELECT count(*) FROM projection_audit_log") == 1


def test_of_four_at_once_one_is_answered_200(stage: Stage) -> None:
    """Three get 409, the effect is there once, the counters are exact (P3, P6)."""
    failure = stage.failed(parked=1)
    stage.handler.heal()
    served = stage.serve()
    start = threading.Barrier(4)

    def ask(_: int) -> httpx.Response:
        start.wait()
        return resolve(served, failure, "retry")

    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(ask, range(4)))
    assert sorted(response.status_code for response in responses) == [200, 409, 409, 409]
    assert active_equals_open_rows(stage.bed)
    stage.bed.wait_until(lambda: stage.guard.work() and stage.bed.effects("P") == [("A", 1), ("A", 2)])
    assert stage.guard.health("P").total_failures == 1


def test_a_resolve_during_a_background_retry_learns_of_it(stage: Stage) -> None:
    """409 while the worker is at it, and when it is done, that it was the worker."""
    failure = stage.failed()
    stage.handler.heal()
    reached, go_on, waited = threading.Event(), threading.Event(), []
    note = stage.handler._note

    def slow(event: Any, connection: Any) -> None:
        reached.set()
        waited.append(go_on.wait(60))
        note(event, connection)

    stage.handler._note = slow
    served = stage.serve()
    make_due(stage.bed)
    worker = threading.Thread(target=stage.guard.work)
    worker.start()
    assert reached.wait(60)
    if stage.bed.database == "postgresql":  # SQLite: the worker's transaction is the one writer; others wait for it
        busy = resolve(served, failure, "skip")
        assert is_problem(busy, 409)
    go_on.set()
    worker.join()
    assert waited == [True], "the answer did not wait for the handler"
    late = resolve(served, failure, "skip")
    assert is_problem(late, 409)
    assert late.json()["resolution_method"] == "auto_retry"
    assert states_of(stage.bed, "P") == {"A#1": "applied"}


def test_what_does_not_exist_is_404(stage: Stage) -> None:
    """A failure of no such id, and an id that is none."""
    served = stage.serve()
    for identity in (str(uuid4()), "abc-123", "a b"):
        path = f"/admin/projections/failures/{identity}"
        assert is_problem(served.viewer.get(path), 404)
        response = served.operator.post(f"{path}/resolve", json={"compensation_strategy": "skip"})
        assert is_problem(response, 404)


def test_ill_texts_come_out_whole_and_harmless(stage: Stage) -> None:
    """Markup, line ends, terminal escapes, NUL, 5 MB: no tag, no raw control character, and bounded."""
    stage.handler._error = lambda: ValueError("<script>alert(1)</script>\r\n\x1b[31mred\0" + "x" * 5_000_000)
    failure = stage.failed("A")
    served = stage.serve()
    for path in (
        f"/admin/projections/failures/{failure.id}",
        "/admin/projections/failures",
        "/admin/projections/failures/groups",
        "/health/projections/P/failures",
    ):
        response = served.operator.get(path)
        assert response.status_code == 200
        assert not set("<>\r\n\x1b\0") & set(response.text)
        assert len(response.content) < 200_000
        shown = response.json()
        message = (shown.get("items") or [shown])[0]["error_message"]
        assert message.startswith("<script>alert(1)</script>\r\n\x1b[31mred")
