"""POST .../amend: an operator to whom the application shows events edits one; the original is kept."""

from __future__ import annotations

from typing import Any

import httpx

from projection_guard import Failure
from tests.bed import happened
from tests.flow.acting import audit, snapshot
from tests.flow.amending import WRONG, Choosy
from tests.http.serving import Served
from tests.http.stage import Stage
from tests.http.test_access import is_problem


def broken(stage: Stage) -> Failure:
    """Let A#1 fail for what it holds, with A#2 behind it."""
    stage.planned[0] = Choosy("P")
    stage.guard.publish(happened("A", WRONG, 1, event_id="A#1"))
    stage.guard.publish(happened("A", 2, 2))
    (failure,) = stage.guard.failures("P").items
    assert isinstance(failure, Failure)
    return failure


def path_of(failure: Failure, word: str = "") -> str:
    """Return a failure's path, and of what can be done with it."""
    return f"/admin/projections/failures/{failure.id}{word}"


def amend(client: httpx.Client, failure: Failure, payload: Any, **more: Any) -> httpx.Response:
    """Ask to amend an event."""
    return client.post(path_of(failure, "/amend"), json={"event_payload": payload, **more})


def editable(served: Served, failure: Failure, **changes: Any) -> Any:
    """Return an event as an operator gets it, with something changed in it."""
    payload = served.operator.get(path_of(failure, "/editable")).json()["event_payload"]
    payload["data"].update(changes)
    return payload


def test_an_operator_edits_an_event_and_it_heals_in_order(stage: Stage) -> None:
    """The answer is that of a retry; the detail says who amended it, and shows the original."""
    failure = broken(stage)
    served = stage.serve(payloads_for="operator")
    before = served.viewer.get(path_of(failure)).json()
    assert (before["amended"], before["amended_by"], before["amended_at"]) == (False, None, None)
    again = amend(served.operator, failure, editable(served, failure, n=WRONG + 1)).json()
    assert (again["outcome"], again["attempts"], again["failure"]["state"]) == ("failed", 2, "scheduled")
    answered = amend(served.operator, failure, editable(served, failure, n=1), note="a typo").json()
    assert (answered["outcome"], answered["failure"]["resolved_by"]) == ("applied", "Olga")
    assert answered["failure"]["resolution_method"] == "manual_retry"
    stage.bed.wait_until(lambda: stage.guard.work() and stage.bed.effects("P") == [("A", 1), ("A", 2)])
    detail = served.operator.get(path_of(failure)).json()
    assert (detail["amended"], detail["amended_by"]) == (True, "Olga")
    assert detail["amended_at"] >= detail["failed_at"]
    assert detail["event_payload"]["data"]["n"] == WRONG
    assert audit(stage.bed) == [("amend", "Olga", "P", None), ("amend", "Olga", "P", "a typo")]


def test_only_an_operator_to_whom_events_are_shown_edits_one(stage: Stage) -> None:
    """Nobody is 401, a viewer 403 also where he sees events, and an operator who sees none, or not all of it, too."""
    failure = broken(stage)
    payload = stage.guard.codec.encode(happened("A", 1, 1))
    before = snapshot(stage.bed)
    hidden = stage.serve()
    assert is_problem(amend(hidden.client, failure, payload), 401)
    for served, said in (
        (hidden, "does not show events here"),
        (stage.serve(payloads_for="operator", redact=lambda what, value: f"({what})"), "redacts this event"),
    ):
        for refused in (amend(served.operator, failure, payload), served.operator.get(path_of(failure, "/editable"))):
            assert is_problem(refused, 403)
            assert refused.json()["type"].endswith(":payloads-hidden")
            assert said in refused.json()["detail"]
    shown = stage.serve(payloads_for="viewer")
    for refused in (
        amend(shown.viewer, failure, payload),
        shown.viewer.get(path_of(failure, "/editable")),
        shown.viewer.post(path_of(failure, "/unamend"), json={}),
    ):
        assert is_problem(refused, 403)
    assert snapshot(stage.bed) == before
    texts_only = stage.serve(payloads_for="operator", redact=lambda what, value: value if "payload" in what else "-")
    assert amend(texts_only.operator, failure, payload).json()["outcome"] == "applied"


def test_another_event_is_refused_by_what_changed(stage: Stage) -> None:
    """422, with no value of the event in it; a body that lacks it names the field."""
    failure = broken(stage)
    served = stage.serve(payloads_for="operator")
    before = snapshot(stage.bed)
    refused = amend(served.operator, failure, editable(served, failure, stream_id="canary"))
    assert is_problem(refused, 422)
    assert "its stream_id changed" in refused.json()["detail"]
    assert "canary" not in refused.text
    for body in ({}, {"event_payload": None}, {"event_payload": 1, "more": 2}):
        assert is_problem(served.operator.post(path_of(failure, "/amend"), json=body), 422)
    assert snapshot(stage.bed) == before


def test_an_amendment_is_withdrawn(stage: Stage) -> None:
    """The answer says whether there was one."""
    failure = broken(stage)
    served = stage.serve(payloads_for="operator")
    amend(served.operator, failure, editable(served, failure, n=WRONG + 1))
    answered = served.operator.post(path_of(failure, "/unamend"), json={"note": "was none"}).json()
    assert (answered["withdrawn"], answered["event_id"], answered["projection_name"]) == (True, "A#1", "P")
    assert served.operator.post(path_of(failure, "/unamend")).json()["withdrawn"] is False
    assert served.viewer.get(path_of(failure)).json()["amended"] is False
    assert editable(served, failure)["data"]["n"] == WRONG
    assert audit(stage.bed)[-1] == ("unamend", "Olga", "P", "was none")


def test_what_has_ended_is_not_amended(stage: Stage) -> None:
    """409, with who ended it and when."""
    failure = broken(stage)
    served = stage.serve(payloads_for="operator")
    payload = editable(served, failure, n=1)
    served.operator.post(path_of(failure, "/resolve"), json={"compensation_strategy": "skip"})
    refused = amend(served.operator, failure, payload)
    assert is_problem(refused, 409)
    assert refused.json()["resolved_by"] == "Olga"


def test_an_amendment_that_is_sent_again_with_its_key_is_done_once(stage: Stage) -> None:
    """As every POST."""
    failure = broken(stage)
    served = stage.serve(payloads_for="operator")
    body = {"event_payload": editable(served, failure, n=1)}
    answers = [
        served.operator.post(path_of(failure, "/amend"), json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert audit(stage.bed) == [("amend", "Olga", "P", None)]
