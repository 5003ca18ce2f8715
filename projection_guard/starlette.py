"""Health and admin routes and the dashboard for Starlette, over a blocking or an async guard.

    Starlette(routes=[
        Mount("/api/v1", routes=[*health_routes(guard, authorize=who), *admin_routes(guard, authorize=who)]),
        Mount("/ops", routes=dashboard_routes(guard, authorize=who)),              # at /ops/dashboard
    ])

`who(request)` answers with an `Actor`, with an operator's name, or with None; it may be async, and may raise
`HTTPException`. Without `authorize` nobody gets in; the bare summary and the probes are open to all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Unpack

try:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ._dashboard.site import ROOT, dashboard_of
    from ._http.access import Actor, Role, Who
    from ._http.api import Api
    from ._http.asgi import Door, Guard
    from ._http.endpoint import Endpoint
    from ._http.mounting import AdminOptions, HealthOptions, PageOptions, admin_api, health_api
    from ._http.on_starlette import door_of, path_of
    from ._http.openapi import operation_id
    from ._http.routes import ADMIN, HEALTH
    from ._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(
        f"projection_guard.starlette needs {error.name}: pip install 'projection-guard[starlette]'"
    ) from error

__all__ = ["Actor", "Authorize", "Redact", "Redacted", "Role", "admin_routes", "dashboard_routes", "health_routes"]

Authorize = Callable[[Request], Who | Awaitable[Who]]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody; plain or async."""


def health_routes(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[HealthOptions]) -> list[Route]:
    """Return the routes under /health; docs/http.md lists the options. Raises `ConfigurationError`."""
    return _routes(health_api(guard, authorize, **options), HEALTH, door_of(guard, authorize))


def admin_routes(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[AdminOptions]) -> list[Route]:
    """Return the routes under /admin; docs/http.md lists the options. Raises `ConfigurationError`."""
    return _routes(admin_api(guard, authorize, **options), ADMIN, door_of(guard, authorize))


def dashboard_routes(
    guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[PageOptions]
) -> list[Route]:
    """Return the pages under /dashboard, for people; docs/dashboard.md lists the options.

    Where `authorize` raises an `HTTPException` with a status of 3xx and a `Location`, the browser is sent there: to
    where people sign in, say. Raises `ConfigurationError`.
    """
    dashboard, door = dashboard_of(guard, authorize, **options), door_of(guard, authorize)

    async def serve(request: Request) -> Response:
        path = str(request.path_params.get("path", ""))
        return await door.show(dashboard, request, path, dashboard.longest_bytes)

    paths = (f"/{ROOT}", f"/{ROOT}/{{path:path}}")
    return [Route(path, serve, methods=["GET", "POST"], name="projection_guard_dashboard") for path in paths]


def _routes(api: Api, endpoints: Sequence[Endpoint], door: Door[Request, Response]) -> list[Route]:
    return [
        Route(path, _served(api, endpoint, door), methods=[endpoint.method], name=operation_id(endpoint))
        for endpoint in endpoints
        for path in (path_of(endpoint), *([] if endpoint.path.endswith("{name}") else [f"{path_of(endpoint)}/"]))
    ]


def _served(
    api: Api, endpoint: Endpoint, door: Door[Request, Response]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def serve(request: Request) -> Response:
        return await door.answer(api, endpoint, request)

    return serve
