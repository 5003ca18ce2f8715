"""The routes under /health: the summary, one projection, its checkpoint, its failures, the probes."""

from __future__ import annotations

from urllib.parse import quote

from tests.bed import happened
from tests.http.stage import Stage
from tests.http.test_access import is_problem


def test_health_tells_what_the_guard_judges(stage: Stage) -> None:
    """All, one, with and without a slash at the end."""
    stage.failed(parked=2)
    served = stage.serve()
    for path in ("/health/projections", "/health/projections/"):
        (health,) = served.viewer.get(path).json()
        assert (health["projection_name"], health["health_status"]) == ("P", "degraded")
        assert (health["active_failures"], health["parked_events"]) == (1, 2)
        assert health["lag_events"] == 3
        assert health["reasons"]
    for path in ("/health/projections/P", "/health/projections/P/"):
        assert served.viewer.get(path).json()["health_status"] == "degraded"


def test_the_checkpoint_and_the_failures_of_a_projection(stage: Stage) -> None:
    """As the tables tell them, times in UTC; resolved ones when they are asked for."""
    failure = stage.failed()
    stage.guard.publish(happened("B", 1, sequence=7))
    served = stage.serve()
    for slash in ("", "/"):
        checkpoint = served.viewer.get(f"/health/projections/P/checkpoint{slash}").json()
        assert checkpoint["last_event_sequence"] == 7
        assert checkpoint["checkpoint_at"].endswith("Z")
        (item,) = served.viewer.get(f"/health/projections/P/failures{slash}").json()["items"]
        assert (item["id"], item["event_id"], item["state"]) == (str(failure.id), "A#1", "scheduled")
        assert "lease_owner" not in item
    stage.guard.resolve(failure.id, "manual_fix", actor="Olga")
    assert served.viewer.get("/health/projections/P/failures").json() == {"items": [], "after": None}
    (item,) = served.viewer.get("/health/projections/P/failures?include_resolved=true").json()["items"]
    assert (item["state"], item["resolved_by"]) == ("resolved", "Olga")


def test_an_unknown_projection_is_404_and_those_there_are_named(stage: Stage) -> None:
    """Everywhere a projection is named."""
    served = stage.serve()
    for path in ("/health/projections/Q", "/health/projections/Q/checkpoint", "/health/projections/Q/failures"):
        response = served.viewer.get(path)
        assert is_problem(response, 404)
        assert "'P'" in response.json()["detail"]
    assert is_problem(served.operator.post("/admin/projections/Q/pause"), 404)
    assert is_problem(served.operator.get("/admin/projections/failures?projection_name=Q"), 404)


NAMES = [
    "a/b",
    "/begins",
    "two//slashes",
    "line\nend",
    "Käse & Brot",
    "…/checkpoint",
    "v1.2",
    "semi;colon",
    "x" * 255,
    "100%",
    "<script>alert(1)</script>",
    "'\"\\",
]


def test_names_of_every_kind_are_found_and_escaped(stage: Stage) -> None:
    """Slashes, dots, spaces, unicode, markup, 255 characters."""
    # Starlette's own `Mount` leads nowhere where there is a line end in the path.
    names = [name for name in NAMES if stage.way.framework != "starlette" or "\n" not in name]
    for name in names:
        stage.also(name)
    served = stage.serve()
    assert {health["projection_name"] for health in served.viewer.get("/health/projections").json()} == {"P", *names}
    for name in names:
        path = f"/health/projections/{quote(name, safe='')}"
        response = served.viewer.get(path)
        assert response.json()["projection_name"] == name, name
        assert "<" not in response.text
        assert served.viewer.get(f"{path}/checkpoint").json()["projection_name"] == name
        paused = served.operator.post(f"/admin/projections/{quote(name, safe='')}/pause")
        assert paused.json()["health"]["state"] == "paused"


def test_liveness_depends_on_nothing_and_readiness_on_the_database(stage: Stage) -> None:
    """Failures do not make a process unready, unless the application says so."""
    served, strict = stage.serve(), stage.serve(ready_at_worst="healthy")
    for slash in ("", "/"):
        assert served.client.get(f"/health/projections/live{slash}").json()["status"] == "live"
        assert strict.client.get(f"/health/projections/ready{slash}").json()["status"] == "ready"
    stage.failed()
    assert served.client.get("/health/projections/ready").status_code == 200
    response = strict.client.get("/health/projections/ready")
    assert (response.status_code, response.json()["status"]) == (503, "not_ready")
    assert strict.client.get("/health/projections/live").status_code == 200


def test_a_database_without_our_tables_is_not_ready(stage: Stage) -> None:
    """503, also where they go while the process runs; what is wrong is for the log."""
    served = stage.serve()
    assert served.client.get("/health/projections/ready").status_code == 200
    stage.bed.change("DROP TABLE projection_partitions")
    assert served.client.get("/health/projections/live").status_code == 200
    response = served.client.get("/health/projections/ready")
    assert (response.status_code, response.json()["status"]) == (503, "not_ready")
    late = stage.serve()
    assert is_problem(late.viewer.get("/health/projections"), 503)


def test_nothing_is_kept_by_caches_or_guessed_by_browsers(stage: Stage) -> None:
    """And the id of a request that was given comes back."""
    served = stage.serve()
    for path in ("/health/projections", "/admin/projections/status"):
        response = served.viewer.get(path, headers={"X-Request-ID": "r-17"})
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-request-id"] == "r-17"
