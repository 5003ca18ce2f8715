"""What every framework must do: a route, a refusal, a page, an act on it; and where its own ways are its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from projection_guard import ProjectionGuard
from tests import django_project
from tests.bed import Bed
from tests.dashboard.test_forms import OWN, sent
from tests.http.serving import Mount, Way
from tests.http.stage import Stage

WAYS = [Way("starlette", "blocking"), Way("litestar", "async"), Way("django", "blocking")]
"""FastAPI and Flask are in every test of the contract and of the dashboard."""
JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=WAYS, ids=lambda way: way.framework)
def each(request: pytest.FixtureRequest, sqlite_url: str) -> Iterator[Stage]:
    """A stage for each."""
    bed = Bed("blocking", "sqlite", sqlite_url)
    made = Stage(bed, request.param)
    yield made
    made.close()
    bed.close()


def test_routes_pages_and_acts_work_under_a_prefix(each: Stage) -> None:
    """And what is no route is the framework's own 404 or 405; a body that is too long is not taken."""
    failure = each.failed("A")
    served = each.serve(mount=Mount(prefix="/a/b"))
    assert served.client.get("/health/projections/").json() == [{"projection_name": "P", "health_status": "degraded"}]
    assert served.client.get("/admin/projections/status").status_code == 401
    assert served.viewer.get("/health/projections/nobody").status_code == 404
    assert served.viewer.get("/health/elsewhere").status_code == 404
    assert served.operator.post("/health/projections").status_code == 405
    assert served.operator.post("/admin/projections/P/pause", content=b"x" * 70_000, headers=JSON).status_code == 413
    assert served.operator.post("/admin/projections/P/pause", json={"reason": "x"}).json()["action"] == "pause"
    assert served.operator.post("/admin/projections/P/resume/").status_code == 200
    page = served.operator.get("/dashboard/")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert served.viewer.get("/dashboard").headers["Location"] == "dashboard/"
    assert served.viewer.get("/dashboard/failures/?a=1").headers["Location"] == "../failures?a=1"
    each.handler.heal()
    done = sent(served.operator, f"failures/{failure.id}/retry")
    assert done.status_code == 303, done.text
    assert each.guard.failures("P").items == ()
    assert served.operator.head("/dashboard/").status_code == 200
    assert served.operator.head("/dashboard/").content == b""


def _asked(framework: str, guard: ProjectionGuard) -> Any:
    """Return an application of whose dashboard `authorize` sends everybody to where people sign in."""
    if framework == "starlette":
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException

        from projection_guard.starlette import dashboard_routes

        def who(_: Any) -> None:
            raise HTTPException(302, headers={"Location": "/login"})

        return Starlette(routes=dashboard_routes(guard, authorize=who))
    if framework == "litestar":
        from litestar import Litestar
        from litestar.exceptions import HTTPException as LitestarException

        from projection_guard.litestar import dashboard_handler

        async def awaited(_: Any) -> None:
            raise LitestarException(status_code=302, headers={"Location": "/login"})

        return Litestar([dashboard_handler(guard, authorize=awaited)], logging_config=None)
    django_project.set_up()
    from django.http import HttpResponseRedirect

    from projection_guard.django.urls import dashboard_urls

    return django_project.application(dashboard_urls(guard, authorize=lambda _: HttpResponseRedirect("/login")))


def _ask(
    app: Any, method: str, path: str, headers: dict[str, str], *, is_wsgi: bool, content: bytes = b""
) -> httpx.Response:
    if is_wsgi:
        with httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://h") as client:
            return client.request(method, path, headers=headers, content=content)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h") as client:
            return await client.request(method, path, headers=headers, content=content)

    return asyncio.run(ask())


@pytest.mark.parametrize("framework", ["starlette", "litestar", "django"])
def test_a_page_is_led_to_where_people_sign_in_and_a_form_is_not(framework: str, sqlite_url: str) -> None:
    """By the framework's own redirection."""
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        app = _asked(framework, guard)
        is_wsgi = framework == "django"
        page = _ask(app, "GET", "/dashboard/", {}, is_wsgi=is_wsgi)
        assert (page.status_code, page.headers["Location"]) == (302, "/login")
        form = _ask(app, "POST", "/dashboard/projections/P/pause", OWN, is_wsgi=is_wsgi)
        assert form.status_code == 401
        assert "Location" not in form.headers
        assert "Your session has ended" in form.text


def _reading(framework: str, guard: ProjectionGuard, *, keeps: bool) -> Any:
    """Return an application whose `authorize` reads the body first, by what keeps it or by what does not."""

    async def reads(request: Any) -> str:
        if keeps:
            assert await request.body() == b'{"bogus": 1}'
        else:
            assert [chunk async for chunk in request.stream()]
        return "Olga"

    if framework == "starlette":
        from starlette.applications import Starlette

        from projection_guard.starlette import admin_routes

        return Starlette(routes=admin_routes(guard, authorize=reads))
    if framework == "litestar":
        from litestar import Litestar

        from projection_guard.litestar import admin_handler

        return Litestar([admin_handler(guard, authorize=reads)], logging_config=None)
    django_project.set_up()
    from projection_guard.django.urls import admin_urls

    def who(request: Any) -> str:
        assert (request.body if keeps else request.read()) == b'{"bogus": 1}'
        return "Olga"

    return django_project.application(admin_urls(guard, authorize=who))


@pytest.mark.parametrize("framework", ["starlette", "litestar", "django"])
def test_a_body_that_authorize_has_read_first_is_read_all_the_same_or_refused(framework: str, sqlite_url: str) -> None:
    """Never taken for an empty one: that would pause, replay or reset what nobody asked for."""
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        guard.projection("P", handles=["Happened"])(lambda event, connection: None)
        for keeps, status in ((True, 422), (False, 400)):
            app = _reading(framework, guard, keeps=keeps)
            path, body = "/admin/projections/P/pause", b'{"bogus": 1}'
            answer = _ask(app, "POST", path, JSON, is_wsgi=framework == "django", content=body)
            assert answer.status_code == status, answer.text
        assert guard.health("P").state == "active"
