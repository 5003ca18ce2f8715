"""What is one framework's own: its hooks before ours, mounts, statuses that only it knows; and a database away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import flask
import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from werkzeug.exceptions import HTTPException as FlaskHTTPException

import projection_guard.fastapi
import projection_guard.flask
from projection_guard import AsyncProjectionGuard, ConfigurationError, ProjectionGuard

PAUSE = "/admin/projections/P/pause"
JSON = {"Content-Type": "application/json"}
SECRETS = ("svc_user", "hidden", "127.0.0.1", "internal_db", "psycopg")
NO_ANSWERS = [True, 5, "", b"Olga", ["Olga"], "a\0b", "x" * 256]


class Client:
    """Asks an application of FastAPI without a server, each time on a loop of its own."""

    def __init__(self, app: FastAPI, root_path: str = "") -> None:
        self._transport = httpx.ASGITransport(app=app, root_path=root_path)

    def get(self, path: str) -> httpx.Response:
        """Ask."""
        return asyncio.run(self.ask("GET", path))

    def post(self, path: str, **options: Any) -> httpx.Response:
        """Act."""
        return asyncio.run(self.ask("POST", path, **options))

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask on the loop that runs."""
        async with httpx.AsyncClient(transport=self._transport, base_url="http://testserver") as client:
            return await client.request(method, path, **options)


@pytest.fixture
def guard(sqlite_url: str) -> Iterator[ProjectionGuard]:
    """A guard with one projection."""
    with ProjectionGuard(sqlite_url, worker="external") as made:
        made.projection("P", handles=["Happened"])(lambda event, connection: None)
        yield made


def flask_app(guard: ProjectionGuard, who: Any = lambda request: "Olga") -> flask.Flask:
    """Return an application with all routes."""
    app = flask.Flask("tests.http")
    app.register_blueprint(projection_guard.flask.health_blueprint(guard, authorize=who))
    app.register_blueprint(projection_guard.flask.admin_blueprint(guard, authorize=who))
    return app


def fastapi_app(guard: Any, who: Any = lambda request: "Olga", **options: Any) -> FastAPI:
    """Return an application with all routes."""
    app = FastAPI(**options)
    app.include_router(projection_guard.fastapi.health_router(guard, authorize=who))
    app.include_router(projection_guard.fastapi.admin_router(guard, authorize=who))
    return app


def test_a_body_that_the_application_has_read_first_is_read_all_the_same(guard: ProjectionGuard) -> None:
    """In Flask: kept by get_data(), or gone by stream.read(): then it is refused, not taken for none."""

    def who(request: flask.Request) -> str:
        assert request.get_data() == b'{"bogus": 1}'
        return "Olga"

    client = flask_app(guard, who).test_client()
    assert client.post(PAUSE, data='{"bogus": 1}', headers=JSON).status_code == 422
    client = flask_app(guard, lambda request: str(request.stream.read()) and "Olga").test_client()
    assert client.post(PAUSE, data='{"reason": "x"}', headers=JSON).status_code == 400
    assert guard.health("P").state == "active"


def test_a_body_that_authorize_has_read_first_is_read_all_the_same(guard: ProjectionGuard) -> None:
    """In FastAPI."""

    async def who(request: Any) -> str:
        assert await request.body() == b'{"bogus": 1}'
        return "Olga"

    async def greedy(request: Any) -> str:
        async for _ in request.stream():
            pass
        return "Olga"

    client = Client(fastapi_app(guard, who))
    assert client.post(PAUSE, content='{"bogus": 1}', headers=JSON).status_code == 422
    client = Client(fastapi_app(guard, greedy))
    assert client.post(PAUSE, content='{"reason": "x"}', headers=JSON).status_code == 400
    assert guard.health("P").state == "active"


def test_a_body_is_refused_where_the_server_does_not_say_where_it_ends(guard: ProjectionGuard) -> None:
    """411, not an empty body."""
    response = flask_app(guard).test_client().post(PAUSE, headers={"Transfer-Encoding": "chunked", **JSON})
    assert response.status_code == 411


@pytest.mark.parametrize("status", [419, 599])
def test_a_status_that_only_the_application_knows_is_told_as_it_is(guard: ProjectionGuard, status: int) -> None:
    """As a problem document."""

    def refuse(request: object) -> str:
        raise HTTPException(status, "gone", headers={"X-Why": "w\u00f6rd"})

    client = Client(fastapi_app(guard, refuse))
    response = client.get("/admin/projections/status")
    assert (response.status_code, response.json()["title"]) == (status, "Error")

    class Expired(FlaskHTTPException):
        code = status
        description = "gone"

    def abort(request: object) -> str:
        raise Expired

    told = flask_app(guard, abort).test_client().get("/admin/projections/status")
    assert (told.status_code, told.get_json(force=True)["detail"]) == (status, "gone")


def test_what_a_dependency_of_the_application_refuses_is_a_problem_too(guard: ProjectionGuard) -> None:
    """With an id; the application's own handlers see nothing of it."""

    def closed() -> None:
        raise HTTPException(402, "not paid")

    def wants(number: int) -> None: ...

    app = FastAPI()
    router = projection_guard.fastapi.health_router(guard)
    app.include_router(router, dependencies=[Depends(closed)])
    app.include_router(router, prefix="/other", dependencies=[Depends(wants)])
    client = Client(app)
    refused, invalid = client.get("/health/projections"), client.get("/other/health/projections")
    assert (refused.status_code, refused.json()["detail"]) == (402, "not paid")
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    assert (invalid.status_code, invalid.json()["errors"][0]["field"]) == (422, "query.number")


def test_liveness_asks_nobody(guard: ProjectionGuard) -> None:
    """Not even who is asking."""

    def who(request: object) -> str:
        raise AssertionError("asked")

    client = Client(fastapi_app(guard, who))
    assert client.get("/health/projections/live").status_code == 200
    assert flask_app(guard, who).test_client().get("/health/projections/live").status_code == 200


def test_liveness_waits_for_no_thread_that_waits_for_a_database(guard: ProjectionGuard) -> None:
    """All threads that the routes may use hang; the probe is answered."""
    hangs, end = threading.Semaphore(0), threading.Event()

    def redact(what: str, value: object) -> object:
        hangs.release()
        assert end.wait(30)
        return value

    guard.publisher().publish({"event_id": "A#1", "event_type": "Happened", "stream_id": "A", "n": 1})

    @guard.projection("Q", handles=["Happened"])
    def broken(event: Any, connection: Any) -> None:
        raise ZeroDivisionError

    broken({"event_id": "A#2", "event_type": "Happened", "stream_id": "A", "n": 2})
    app = FastAPI()
    app.include_router(
        projection_guard.fastapi.health_router(guard, authorize=lambda request: "Olga", redact=redact)  # type: ignore[arg-type]
    )

    async def all_at_once() -> int:
        client = Client(app)
        asked = [asyncio.create_task(client.ask("GET", "/health/projections/Q/failures")) for _ in range(30)]
        for _ in range(20):
            assert await asyncio.to_thread(hangs.acquire, timeout=60)
        live = await client.ask("GET", "/health/projections/live")
        end.set()
        await asyncio.gather(*asked)
        return live.status_code

    assert asyncio.run(all_at_once()) == 200


@pytest.mark.parametrize("kind", ["fastapi", "flask"])
def test_nobody_is_told_where_the_database_is(kind: str) -> None:
    """It is away: 503, and no more than that."""
    away = "postgresql+psycopg://svc_user:hidden@127.0.0.1:1/internal_db?connect_timeout=1"
    with ProjectionGuard(away, worker="external") as guard:
        guard.projection("P", handles=["Happened"])(lambda event, connection: None)
        client: Any = flask_app(guard).test_client() if kind == "flask" else Client(fastapi_app(guard))
        for path in ("/health/projections", "/health/projections/ready", "/admin/projections/status"):
            response = client.get(path)
            assert response.status_code == 503
            told = [
                word for word in ("svc_user", "hidden", "127.0.0.1", "internal_db", "psycopg") if word in response.text
            ]
            assert not told


def test_a_job_is_watched_where_the_application_is_mounted(guard: ProjectionGuard) -> None:
    """Behind a proxy that strips a part of the path, and under a mount."""
    outer = FastAPI()
    outer.mount("/sub", fastapi_app(guard))
    body = {"compensation_strategy": "skip", "filter": {"stream_id": "A"}}
    client = Client(fastapi_app(guard), root_path="/proxy")
    begun = client.post("/admin/projections/bulk", json=body)
    assert begun.headers["location"].startswith("/proxy/admin/projections/bulk/")
    client = Client(outer)
    begun = client.post("/sub/admin/projections/bulk", json=body)
    assert begun.headers["location"].startswith("/sub/admin/projections/bulk/")
    assert client.get(begun.headers["location"]).status_code == 200


def test_what_cannot_be_mounted_is_refused_with_what_to_do(guard: ProjectionGuard, sqlite_url: str) -> None:
    """Options that cannot be, an async guard in Flask, something that is no guard."""
    anything: Any = projection_guard.fastapi
    blueprints: Any = projection_guard.flask
    with pytest.raises(ConfigurationError, match="rate_limit= takes a rate"):
        anything.admin_router(guard, rate_limit="often")
    with pytest.raises(ConfigurationError, match="payloads_for= takes"):
        anything.admin_router(guard, payloads_for="everybody")
    with pytest.raises(ConfigurationError, match="trusted_origins= takes origins"):
        blueprints.admin_blueprint(guard, trusted_origins="https://a.example")
    with pytest.raises(ConfigurationError, match="ready_at_worst= takes healthy, degraded"):
        blueprints.health_blueprint(guard, ready_at_worst="ill")
    with pytest.raises(ConfigurationError, match=r"use projection_guard\.fastapi with AsyncProjectionGuard"):
        blueprints.admin_blueprint(AsyncProjectionGuard("sqlite+aiosqlite://" + sqlite_url.removeprefix("sqlite://")))
    with pytest.raises(ConfigurationError, match="not str"):
        anything.health_router("guard")

    async def who(request: object) -> str:
        return "Olga"

    with pytest.raises(ConfigurationError, match="async function"):
        blueprints.admin_blueprint(guard, authorize=who)


@pytest.mark.parametrize(
    "answer", [True, 5, "", b"Olga", ["Olga"], "a\0b", "x" * 256], ids=lambda given: repr(given)[:12]
)
def test_an_authorize_that_answers_something_else_lets_nobody_in(guard: ProjectionGuard, answer: object) -> None:
    """What is not understood is a defect of the application, and closed."""
    client = Client(fastapi_app(guard, lambda request: answer))
    assert client.get("/admin/projections/status").status_code == 500
    assert flask_app(guard, lambda request: answer).test_client().get("/admin/projections/status").status_code == 500


def test_permission_error_is_a_refusal(guard: ProjectionGuard) -> None:
    """And says nothing of why."""

    def who(request: object) -> str:
        raise PermissionError("secret reason")

    client = Client(fastapi_app(guard, who))
    response: httpx.Response = client.get("/admin/projections/status")
    assert response.status_code == 403
    assert "secret" not in response.text
