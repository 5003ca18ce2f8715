"""Requests that are wrong, too many, too long, sent twice, or meet a database that is away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.bed import happened
from tests.http.stage import Stage
from tests.http.test_access import is_problem

PAUSE = "/admin/projections/P/pause"


ILL_BODIES = [
    (b"{", "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b'{"reason": "\\ud800"}', "application/json", 400),
    (b'["reason"]', "application/json", 422),
    (b'"reason"', "application/json", 422),
    (b'{"reason": 5}', "application/json", 422),
    (b'{"why": "x"}', "application/json", 422),
    (b"reason=x", "application/x-www-form-urlencoded", 415),
    (b'{"reason": "x"}', "text/plain", 415),
    (b'{"reason": "' + b"x" * 70_000 + b'"}', "application/json", 413),
]


def test_a_body_that_is_not_what_was_asked_for(stage: Stage) -> None:
    """Each has its status, and nothing was done."""
    served = stage.serve()
    for content, media_type, status in ILL_BODIES:
        response = served.operator.post(PAUSE, content=content, headers={"Content-Type": media_type})
        assert is_problem(response, status), content[:24]
    assert stage.guard.health("P").state == "active"


def test_a_body_without_a_length_is_bounded_too(stage: Stage) -> None:
    """Chunked: it is not read to its end."""
    served = stage.serve()
    chunks = (b" " * 10_000 for _ in range(100))
    response = served.operator.post(PAUSE, content=chunks, headers={"Content-Type": "application/json"})
    assert is_problem(response, 413)


def test_no_body_is_an_empty_one(stage: Stage) -> None:
    """Where nothing has to be said."""
    served = stage.serve()
    assert served.operator.post(PAUSE).status_code == 200
    assert served.operator.post("/admin/projections/P/resume", json={}).status_code == 200


def test_expensive_requests_are_limited_by_actor_and_say_when_to_come_again(stage: Stage) -> None:
    """429 with Retry-After; others are not held up, nor is looking."""
    served = stage.serve(rate_limit="2/minute")
    path = "/admin/projections/P/reset"
    assert [served.operator.post(path).status_code for _ in range(2)] == [200, 200]
    response = served.operator.post(path)
    assert is_problem(response, 429)
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert served.other.post(path).status_code == 200
    assert served.operator.get("/admin/projections/status").status_code == 200
    unlimited = stage.serve(rate_limit=None)
    assert {unlimited.operator.post(path).status_code for _ in range(3)} == {200}


def test_a_request_with_the_same_key_is_answered_as_it_was(stage: Stage) -> None:
    """Nothing is done twice, in whichever process it arrives; another request with that key is refused."""
    failure = stage.failed()
    first, second = stage.serve(), stage.serve()
    path = f"/admin/projections/failures/{failure.id}/resolve"
    key = {"Idempotency-Key": "k-1"}
    answered = first.operator.post(path, json={"compensation_strategy": "skip"}, headers=key)
    again = second.operator.post(path, json={"compensation_strategy": "skip"}, headers=key)
    assert (answered.status_code, again.status_code) == (200, 200)
    assert answered.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert stage.bed.value("SELECT count(*) FROM projection_audit_log") == 1
    assert is_problem(second.operator.post(path, json={"compensation_strategy": "retry"}, headers=key), 422)
    others = second.other.post(path, json={"compensation_strategy": "skip"}, headers=key)
    assert is_problem(others, 409), "a key is its actor's own"


def test_a_key_is_not_used_up_by_what_was_refused(stage: Stage) -> None:
    """Nothing was done under it."""
    stage.follow().append("A")
    stage.guard.catch_up()
    served = stage.serve()
    running = served.operator.post("/admin/projections/P/replay", json={"from_sequence": 1}).json()
    key = {"Idempotency-Key": '"k-2"'}
    assert is_problem(served.operator.post("/admin/projections/P/replay", json={}, headers=key), 409)
    served.operator.post(f"/admin/projections/replays/{running['id']}/cancel")
    assert served.operator.post("/admin/projections/P/replay", json={}, headers=key).status_code == 202


def test_a_key_whose_request_was_broken_off_is_not_tried_again(stage: Stage) -> None:
    """What it was may have been done: here it was, and the answer failed after that."""
    failure = stage.failed()
    calls: list[str] = []

    def redact(what: str, value: object) -> object:
        calls.append(what)
        if len(calls) == 1:
            raise RuntimeError("the hook has a defect")
        return value

    served = stage.serve(redact=redact)
    path = f"/admin/projections/failures/{failure.id}/resolve"
    key, body = {"Idempotency-Key": "k-4"}, {"compensation_strategy": "retry"}
    assert is_problem(served.operator.post(path, json=body, headers=key), 500)
    again = served.operator.post(path, json=body, headers=key)
    assert is_problem(again, 409)
    assert again.json()["type"].endswith("broken-off")
    assert stage.guard.failure(failure.id).retry_count == 1


def test_refused_requests_with_one_key_at_once_are_each_refused(stage: Stage) -> None:
    """One releases the key while another one looks for it: that is nobody's outage."""
    served = stage.serve()

    def ask(number: int) -> int:
        key = {"Idempotency-Key": f"k-{number % 3}"}
        return served.operator.post("/admin/projections/Q/pause", headers=key).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(48))) <= {404, 409}


def test_of_several_with_one_key_at_once_one_is_done(stage: Stage) -> None:
    """The others get its answer, or are told that it is under way."""
    served = stage.serve(rate_limit=None)
    start = threading.Barrier(4)

    def ask(_: int) -> httpx.Response:
        start.wait()
        return served.operator.post("/admin/projections/P/reset", headers={"Idempotency-Key": "k-3"})

    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(response.status_code for response in pool.map(ask, range(4)))
    assert 200 in statuses
    assert set(statuses) <= {200, 409}
    assert stage.bed.value("SELECT count(*) FROM projection_audit_log WHERE action = 'reset_done'") == 1


def test_a_key_that_is_none_is_refused(stage: Stage) -> None:
    """By the header's name."""
    served = stage.serve()
    for key in ("", "x" * 256):
        response = served.operator.post(PAUSE, headers={"Idempotency-Key": key})
        assert is_problem(response, 422)
        assert response.json()["errors"][0]["field"] == "Idempotency-Key"


def test_a_defect_of_ours_tells_nothing_of_itself(stage: Stage) -> None:
    """500: no traceback, no SQL, the id under which the log has it. The hook of the application raises here."""
    failure = stage.failed()

    def broken(what: str, value: object) -> str:
        raise RuntimeError("SELECT secret FROM vault")

    served = stage.serve(redact=broken)
    response = served.operator.get(f"/admin/projections/failures/{failure.id}")
    assert is_problem(response, 500)
    assert "secret" not in response.text
    assert "Traceback" not in response.text


def test_what_the_application_does_wrong_in_on_reset_is_no_outage(stage: Stage) -> None:
    """The database refuses its statement: 500, nothing of it is told, and the projection is as it was."""
    stage.guard.publish(happened("A", 1))
    stage.bed.change("DROP TABLE effects")
    response = stage.serve().operator.post("/admin/projections/P/reset")
    assert is_problem(response, 500)
    assert "effects" not in response.text
    assert stage.guard.health("P").state == "active"
