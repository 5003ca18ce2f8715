"""POST .../untaint: an operator says that a tainted stream was mended by hand; who said so is on record."""

from __future__ import annotations

from typing import Any

import httpx

from tests.flow.acting import audit, snapshot
from tests.http.serving import Served
from tests.http.stage import Stage
from tests.http.test_access import is_problem

REASON = "an event was skipped by alice"


def untaint(served: Served, body: Any, name: str = "P", **more: Any) -> httpx.Response:
    """Ask an operator's request to end a taint."""
    return served.operator.post(f"/admin/projections/{name}/untaint", json=body, **more)


def tainted(served: Served) -> list[str]:
    """Return which streams are listed as tainted."""
    items = served.viewer.get("/admin/projections/P/streams?state=tainted").json()["items"]
    return [stream["stream_id"] for stream in items]


def test_a_taint_is_ended_and_health_says_so(stage: Stage) -> None:
    """The answer says whether there was one."""
    stage.guard.resolve(stage.failed().id, "skip", actor="alice")
    served = stage.serve()
    assert served.viewer.get("/health/projections/P").json()["tainted_streams"] == 1
    assert tainted(served) == ["A"]
    answered = untaint(served, {"stream_id": "A", "tainted_reason": REASON, "note": "mended"})
    assert (answered.status_code, answered.json()) == (
        200,
        {"projection_name": "P", "stream_id": "A", "untainted": True},
    )
    health = served.viewer.get("/health/projections/P").json()
    assert (health["tainted_streams"], health["reasons"]) == (0, [])
    assert tainted(served) == []
    assert untaint(served, {"stream_id": "A"}).json()["untainted"] is False
    assert audit(stage.bed)[-1] == ("untaint", "Olga", "P", "mended")
    (entry,) = served.viewer.get("/admin/projections/audit?action=untaint").json()["items"]
    assert (entry["details"]["stream_id"], entry["details"]["tainted_reason"]) == ("A", REASON)
    assert entry["request_id"]


def test_what_is_not_tainted_as_it_was_seen_is_409(stage: Stage) -> None:
    """Somebody else has skipped something since; nothing is written."""
    stage.guard.resolve(stage.failed().id, "skip", actor="alice")
    served = stage.serve()
    before = snapshot(stage.bed)
    refused = untaint(served, {"stream_id": "A", "tainted_reason": "an event was skipped by bob"})
    assert is_problem(refused, 409)
    assert REASON in refused.json()["detail"]
    assert tainted(served) == ["A"]
    assert snapshot(stage.bed) == before


def test_who_may_not_act_ends_no_taint(stage: Stage) -> None:
    """Nobody is 401, a viewer 403, a page of another site and a form are refused."""
    stage.guard.resolve(stage.failed().id, "skip", actor="alice")
    served = stage.serve()
    path, body = "/admin/projections/P/untaint", {"stream_id": "A"}
    before = snapshot(stage.bed)
    assert is_problem(served.client.post(path, json=body), 401)
    assert is_problem(served.viewer.post(path, json=body), 403)
    assert is_problem(untaint(served, body, headers={"Sec-Fetch-Site": "cross-site"}), 403)
    assert is_problem(served.operator.post(path, data=body), 415)
    assert snapshot(stage.bed) == before


def test_what_cannot_be_meant_is_refused_by_the_fields_name(stage: Stage) -> None:
    """A projection that nobody knows is 404, and a line that is one whole is no stream's."""
    stage.order = "global"
    stage.guard.resolve(stage.failed().id, "skip", actor="alice")
    served = stage.serve()
    for body, field in (
        ({}, "stream_id"),
        ({"stream_id": "a\0b"}, "stream_id"),
        ({"stream_id": "A", "reason": "x"}, "reason"),
        ({"stream_id": "A", "note": ""}, "note"),
    ):
        refused = untaint(served, body)
        assert is_problem(refused, 422)
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    refused = untaint(served, {"stream_id": "A"})
    assert is_problem(refused, 422)
    assert "tainted as a whole" in refused.json()["detail"]
    assert is_problem(untaint(served, {"stream_id": "A"}, name="Q"), 404)
    assert untaint(served, {"stream_id": ""}).json()["untainted"] is True


def test_one_that_is_sent_again_with_its_key_is_done_once(stage: Stage) -> None:
    """As every POST."""
    stage.guard.resolve(stage.failed().id, "skip", actor="alice")
    served = stage.serve()
    answers = [untaint(served, {"stream_id": "A"}, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.json()["untainted"] for answer in answers] == [True, True]
    assert [entry[0] for entry in audit(stage.bed)] == ["skip", "untaint"]
