"""Lists: filtered, grouped, paged by a cursor that stays while rows come and go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from projection_guard._store.cursors import cursor
from tests.bed import happened
from tests.http.stage import Stage
from tests.http.test_access import is_problem


def test_failures_are_found_by_what_is_said_of_them(stage: Stage) -> None:
    """By projection, type of error, fingerprint, stream, state and time."""
    other = stage.also("Q")
    other.failing.add("C#1")
    other._error = lambda: KeyError("other")
    first = stage.failed("A", parked=1)
    second = stage.failed("B")
    stage.guard.publish(happened("C", 1))
    stage.guard.resolve(second.id, "manual_fix", actor="Olga")
    served = stage.serve()

    def found(query: str) -> list[str]:
        response = served.viewer.get(f"/admin/projections/failures?{query}")
        assert response.status_code == 200, response.text
        return sorted(item["event_id"] for item in response.json()["items"])

    assert found("") == ["A#1", "C#1"]
    assert found("include_resolved=true") == ["A#1", "B#1", "C#1"]
    assert found("projection_name=Q") == ["C#1"]
    assert found("error_type=KeyError") == ["C#1"]
    assert found(f"fingerprint={first.fingerprint}") == ["A#1"]
    assert found("stream_id=A") == ["A#1"]
    assert found("event_type=Happened") == ["A#1", "C#1"]
    assert found("event_type=Nothing") == []
    assert found("state=scheduled") == ["A#1", "C#1"]
    assert found("state=exhausted") == []
    assert found("state=parked") == ["A#1"]
    assert found("state=resolved") == ["B#1"]
    moment = quote((first.failed_at + timedelta(microseconds=1)).isoformat())
    assert found(f"failed_from={moment}&include_resolved=true") == ["B#1", "C#1"]
    assert found(f"failed_until={moment}") == ["A#1"]


def test_groups_count_what_is_alike(stage: Stage) -> None:
    """The biggest first, with a failure to look at."""
    for stream in "ABC":
        stage.failed(stream)
    stage.handler._error = lambda: KeyError("other")
    stage.failed("D")
    served = stage.serve()
    big, small = served.viewer.get("/admin/projections/failures/groups").json()["items"]
    assert (big["count"], big["error_type"], small["count"], small["error_type"]) == (3, "ValueError", 1, "KeyError")
    sample = served.viewer.get(f"/admin/projections/failures/{big['sample_failure_id']}").json()
    assert sample["fingerprint"] == big["fingerprint"]


def test_pages_go_on_where_the_last_one_ended(stage: Stage) -> None:
    """Each item once, also when new ones arrive meanwhile."""
    for number in range(5):
        stage.failed(f"S{number}")
    served = stage.serve()
    seen: list[str] = []
    after = ""
    while True:
        page = served.viewer.get(f"/admin/projections/failures?limit=2{after}").json()
        seen += [item["event_id"] for item in page["items"]]
        stage.failed(f"new{len(seen)}")
        if page["after"] is None:
            break
        after = f"&after={page['after']}"
    assert seen == [f"S{number}#1" for number in reversed(range(5))]


def test_parked_events_and_blocked_streams_are_listed(stage: Stage) -> None:
    """In the order in which they will be applied."""
    failure = stage.failed("A", parked=3)
    served = stage.serve()
    parked = served.viewer.get("/admin/projections/P/parked/?stream_id=A").json()["items"]
    assert [item["event_id"] for item in parked] == ["A#2", "A#3", "A#4"]
    assert {item["reason"] for item in parked} == {parked[0]["reason"]}
    (stream,) = served.viewer.get("/admin/projections/P/streams").json()["items"]
    assert (stream["stream_id"], stream["parked_events"], stream["failure_ids"]) == ("A", 3, [str(failure.id)])


def test_a_projections_history_is_drawn_from_samples(stage: Stage) -> None:
    """Empty before any worker has taken one; then a point for each part of the time, null where nothing is known."""
    stage.failed(parked=1)
    served = stage.serve()
    path = "/admin/projections/P/history"
    assert served.viewer.get(path).json() == {"projection_name": "P", "bucket_seconds": 900, "points": []}
    stage.guard.work()
    history = served.viewer.get(f"{path}?hours=1.5&points=90").json()
    assert (history["bucket_seconds"], len(history["points"])) == (60, 90)
    (point,) = [point for point in history["points"] if point["health_status"] is not None]
    assert point.pop("at").endswith("00Z")
    assert 0 < point.pop("lag_seconds") < 600
    assert point == {
        "events_per_second": None,
        "failures": None,
        "active_failures": 1,
        "parked_events": 1,
        "lag_events": 2,
        "avg_processing_time_ms": point["avg_processing_time_ms"],
        "health_status": "degraded",
    }
    for query, field in (
        ("hours=0", "hours"),
        ("hours=169", "hours"),
        ("points=1", "points"),
        ("points=501", "points"),
    ):
        refused = served.viewer.get(f"{path}?{query}")
        assert is_problem(refused, 422)
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert is_problem(served.viewer.get("/admin/projections/Q/history"), 404)


def test_a_stream_is_told_with_its_events(stage: Stage) -> None:
    """How it stands, and what has become of each event, page by page; its id may hold anything."""
    failure = stage.failed("A/ä?&", parked=2)
    served = stage.serve()
    path = f"/admin/projections/P/stream?stream_id={quote('A/ä?&', safe='')}"
    told = served.viewer.get(f"{path}&limit=2").json()
    first, second = told["page"]["items"]
    assert (told["stream_id"], told["blocked"], told["failure_ids"]) == ("A/ä?&", True, [str(failure.id)])
    assert (told["parked_events"], told["applied_events"], told["log_is_read"]) == (2, "recent", False)
    assert [(item["event_id"], item["state"]) for item in (first, second)] == [
        ("A/ä?&#3", "parked"),
        ("A/ä?&#2", "parked"),
    ]
    rest = served.viewer.get(f"{path}&after={told['page']['after']}").json()["page"]
    assert [(item["event_id"], item["state"], item["failure_id"]) for item in rest["items"]] == [
        ("A/ä?&#1", "failed", str(failure.id))
    ]
    assert rest["after"] is None
    assert served.viewer.get("/admin/projections/P/stream?stream_id=nobody").json()["page"]["items"] == []
    assert is_problem(served.viewer.get("/admin/projections/none/stream?stream_id=A"), 404)
    for query in ("", "?stream_id=", "?stream_id=A&limit=0", "?stream_id=A&after=abc", "?stream_id=A&state=failed"):
        assert is_problem(served.viewer.get(f"/admin/projections/P/stream{query}"), 422), query


def test_a_stream_of_the_log_is_told(stage: Stage) -> None:
    """All of its events, those that wait in the log too."""
    log = stage.follow()
    stage.bed.change("CREATE INDEX log_streams ON log (stream_id, sequence)")
    log.append("A", "B")
    stage.guard.catch_up()
    log.append("A")
    served = stage.serve()
    told = served.viewer.get("/admin/projections/P/stream?stream_id=A").json()
    assert told["log_is_read"]
    assert [item["state"] for item in told["page"]["items"]] == ["pending", "applied"]


def test_the_status_sums_up(stage: Stage) -> None:
    """All the fields of the contract, and no others."""
    for name in ("Q", "R"):
        stage.also(name)
    stage.failed()
    served = stage.serve()
    status = served.viewer.get("/admin/projections/status").json()
    assert status.pop("timestamp").endswith("Z")
    assert status == {
        "overall_status": "degraded",
        "total_projections": 3,
        "healthy_projections": 2,
        "degraded_projections": 1,
        "critical_projections": 0,
        "offline_projections": 0,
        "total_active_failures": 1,
        "total_events_processed": status["total_events_processed"],
    }


def test_who_did_what_can_be_looked_up(stage: Stage) -> None:
    """By projection, actor and action; a state before and after; the id of the request."""
    stage.also("Q")
    served = stage.serve()
    served.operator.post("/admin/projections/P/pause", json={"reason": "moving"}, headers={"X-Request-ID": "r-1"})
    served.other.post("/admin/projections/P/resume")
    served.other.post("/admin/projections/Q/pause")

    def entries(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = served.viewer.get(f"/admin/projections/audit?{query}").json()["items"]
        return found

    assert [entry["action"] for entry in entries("projection_name=P")] == ["resume", "pause"]
    assert [entry["projection_name"] for entry in entries("actor=Otto&action=pause")] == ["Q"]
    (pause,) = entries("actor=Olga")
    assert (pause["note"], pause["request_id"]) == ("moving", "r-1")
    assert (pause["details"]["before"], pause["details"]["after"]) == ("active", "paused")


MISUNDERSTOOD = [
    ("limit=0", "limit"),
    ("limit=1001", "limit"),
    ("limit=many", "limit"),
    ("state=broken", "state"),
    ("failed_from=2026-01-01T00:00:00", "failed_from"),
    ("failed_from=soon", "failed_from"),
    ("failed_from=1", "failed_from"),
    ("failed_from=99999999999999", "failed_from"),
    ("failed_from=0001-01-01T00:00:00%2B23:59", "failed_from"),
    ("failed_until=9999-12-31T23:59:59-23:59", "failed_until"),
    ("include_resolvd=true", "include_resolvd"),
    ("stream_id=a%00b", "stream_id"),
    ("stream_id=", "stream_id"),
    ("limit=1&limit=2", "limit"),
]


def test_a_question_that_is_not_understood_names_the_field(stage: Stage) -> None:
    """422; nothing that is misspelt is passed over."""
    served = stage.serve()
    for query, field in MISUNDERSTOOD:
        response = served.viewer.get(f"/admin/projections/failures?{query}")
        assert is_problem(response, 422), query
        assert [error["field"] for error in response.json()["errors"]] == [field]


def test_a_cursor_of_another_list_is_refused(stage: Stage) -> None:
    """422, and says what to pass."""
    served = stage.serve()
    early = cursor("0001-01-01T00:00:00+23:59", str(uuid4()))
    long = cursor("9" * 30)
    for path in (f"failures?after={early}", f"replays?after={early}", f"P/skipped?after={long}"):
        assert is_problem(served.viewer.get(f"/admin/projections/{path}"), 422), path
    for path in ("failures?after=abc", "audit?after=abc", "replays?after=abc", "P/streams?after=!", "P/parked?after=é"):
        response = served.viewer.get(f"/admin/projections/{path}")
        assert is_problem(response, 422), path
        assert "after" in response.json()["detail"]
