"""Who may do what: closed by default, a viewer looks, an operator acts, and every route says which it is."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httpx

from projection_guard._http.access import Need
from projection_guard._http.endpoint import Endpoint
from projection_guard._http.routes import everything
from tests.http.stage import Stage

EXPECTED = {
    "live": "nobody",
    "ready": "nobody",
    "health_of_all": "summary",
    "health": "viewer",
    "checkpoint": "viewer",
    "failures_of_projection": "viewer",
    "openapi": "viewer",
    "status": "viewer",
    "audit": "viewer",
    "failures": "viewer",
    "failure_groups": "viewer",
    "failure": "viewer",
    "bulk_actions": "viewer",
    "bulk_action": "viewer",
    "replays": "viewer",
    "replay": "viewer",
    "parked": "viewer",
    "streams": "viewer",
    "stream": "viewer",
    "skipped": "viewer",
    "history": "viewer",
    "resolve": "operator",
    "editable": "operator",
    "amend": "operator",
    "unamend": "operator",
    "untaint": "operator",
    "propose_bulk": "operator",
    "confirm_bulk": "operator",
    "cancel_bulk": "operator",
    "begin_replay": "operator",
    "begin_rebuild": "operator",
    "begin_verify": "operator",
    "cancel_replay": "operator",
    "pause_replay": "operator",
    "resume_replay": "operator",
    "reset": "operator",
    "pause": "operator",
    "resume": "operator",
}
"""What each route is meant to ask of its caller. A route that stands here not, or otherwise, fails the test below."""


def test_every_route_has_the_rule_that_was_meant_for_it() -> None:
    """Whoever adds a route says here whom it lets in."""
    assert {endpoint.name: endpoint.needs.name.lower() for endpoint in everything()} == EXPECTED


def test_a_route_that_acts_is_for_operators() -> None:
    """No POST is open to viewers."""
    assert {endpoint.needs for endpoint in everything() if endpoint.method == "POST"} == {Need.OPERATOR}


def ask(client: httpx.Client, endpoint: Endpoint) -> httpx.Response:
    """Send a request that is in order but for who sends it."""
    path = endpoint.path
    for name in endpoint.parameters:
        path = path.replace(f"{{{name}}}", "P" if name == "name" else str(uuid4()))
    json: Any = dict(endpoint.example) if endpoint.method == "POST" else None
    required = [name for name, field in endpoint.query.model_fields.items() if field.is_required()]
    return client.request(endpoint.method, path, json=json, params=dict.fromkeys(required, "A"))


def is_problem(response: httpx.Response, status: int) -> bool:
    """Return whether this is a problem document of that status, and says who asked and where."""
    content = response.json()
    return (
        response.status_code == status
        and response.headers["content-type"] == "application/problem+json"
        and content["status"] == status
        and content["type"].startswith("urn:problem-type:projection-guard:")
        and content["request_id"] == response.headers["x-request-id"]
        and unquote(content["instance"]) == response.request.url.path
    )


def test_nobody_gets_past_a_route_that_asks_for_somebody(stage: Stage) -> None:
    """401 on all but the bare summary and the probes; a viewer is refused what acts; nothing was done."""
    served = stage.serve()
    for endpoint in everything():
        anonymous = ask(served.client, endpoint)
        if endpoint.needs in (Need.NOBODY, Need.SUMMARY):
            assert anonymous.status_code == 200, endpoint.name
        else:
            assert is_problem(anonymous, 401), endpoint.name
        by_viewer = ask(served.viewer, endpoint)
        if endpoint.needs is Need.OPERATOR:
            assert is_problem(by_viewer, 403), endpoint.name
            assert "operator" in by_viewer.json()["detail"]
        else:
            assert by_viewer.status_code in (200, 404), endpoint.name
    assert stage.bed.value("SELECT count(*) FROM projection_audit_log") == 0
    assert stage.bed.value("SELECT count(*) FROM projection_replays") == 0


def test_without_authorize_everything_is_closed_but_the_bare_summary(stage: Stage) -> None:
    """P7: also for whoever shows a token. The summary has names and statuses, nothing else."""
    stage.failed()
    served = stage.serve(is_open=False)
    for endpoint in everything():
        response = ask(served.operator, endpoint)
        if endpoint.needs in (Need.NOBODY, Need.SUMMARY):
            assert response.status_code == 200, endpoint.name
        else:
            assert is_problem(response, 403), endpoint.name
    assert served.client.get("/health/projections").json() == [{"projection_name": "P", "health_status": "degraded"}]


def test_the_bare_summary_can_be_closed_too(stage: Stage) -> None:
    """`public_summary=False`; viewers still see all of it."""
    served = stage.serve(public_summary=False)
    assert is_problem(served.client.get("/health/projections"), 401)
    assert served.viewer.get("/health/projections").json()[0]["active_failures"] == 0


def test_what_the_application_refuses_is_told_in_its_own_words(stage: Stage) -> None:
    """HTTPException, or abort, becomes a problem document with its status and its headers."""
    served = stage.serve()
    response = served.client.get("/admin/projections/status", headers={"Authorization": "Bearer stranger"})
    assert is_problem(response, 401)
    assert "No such token" in response.json()["detail"]


def test_a_page_of_another_site_cannot_act_for_its_visitor(stage: Stage) -> None:
    """CSRF: what a browser says of where a request comes from is believed."""
    served = stage.serve()
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "text/plain"},
    ):
        refused = 415 if "Content-Type" in headers else 403
        assert is_problem(served.operator.post("/admin/projections/P/pause", headers=headers), refused), headers
    assert stage.guard.health("P").state == "active"


def test_ones_own_pages_and_trusted_ones_may_act(stage: Stage) -> None:
    """Same origin, whoever is no browser, and what `trusted_origins` names."""
    served = stage.serve(trusted_origins=["https://ops.example/"])
    own = str(served.operator.base_url.copy_with(path="")).rstrip("/")
    for headers in (
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": own},
        {"Origin": own},
        {"Origin": "https://admin.example", "Host": "admin.example:443"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://ops.example"},
    ):
        assert served.operator.post("/admin/projections/P/pause", headers=headers).status_code == 200, headers


def test_events_are_shown_to_whom_the_application_says(stage: Stage) -> None:
    """Hidden by default; tracebacks are for operators; the hook has the last word."""
    failure = stage.failed(parked=1)
    hidden = stage.serve()
    detail = hidden.operator.get(f"/admin/projections/failures/{failure.id}").json()
    assert (detail["event_payload"], detail["event_payload_hidden"]) == (None, True)
    assert "ValueError" in detail["error_traceback"]
    assert hidden.viewer.get(f"/admin/projections/failures/{failure.id}").json()["error_traceback"] is None
    assert hidden.operator.get("/admin/projections/P/parked").json()["items"][0]["event_payload"] is None
    shown = stage.serve(payloads_for="operator")
    path = f"/admin/projections/failures/{failure.id}"
    assert "A#1" in str(shown.operator.get(path).json()["event_payload"])
    assert shown.viewer.get(path).json()["event_payload_hidden"] is True
    assert "A#2" in str(shown.operator.get("/admin/projections/P/parked").json()["items"][0]["event_payload"])
    redacted = stage.serve(payloads_for="viewer", redact=lambda what, value: f"({what})")
    detail = redacted.operator.get(path).json()
    assert detail["event_payload"] == "(event_payload)"
    assert detail["error_message"] == detail["attempts"][0]["error_message"] == "(error_message)"
    assert detail["error_traceback"] == "(error_traceback)"
    for listed in (
        "/health/projections/P/failures",
        "/admin/projections/failures",
        "/admin/projections/failures/groups",
    ):
        assert redacted.viewer.get(listed).json()["items"][0]["error_message"] == "(error_message)"
