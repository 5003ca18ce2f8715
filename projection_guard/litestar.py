"""Health and admin routes and the dashboard for Litestar, over a blocking or an async guard.

    Litestar([
        Router("/api/v1", route_handlers=[health_handler(guard, authorize=who), admin_handler(guard, authorize=who)]),
        Router("/ops", route_handlers=[dashboard_handler(guard, authorize=who)]),      # at /ops/dashboard
    ])

`who(request)` is an `Authorize`, and may raise `HTTPException`. Without it nobody gets in; the bare summary and the
probes are open to all. Litestar's own OpenAPI document leaves these routes out: GET /admin/projections/openapi.json
describes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Unpack

try:
    from litestar import Request, Response, route
    from litestar.exceptions import HTTPException, InternalServerException, MethodNotAllowedException, NotFoundException
    from litestar.handlers import HTTPRouteHandler as Handler

    from ._dashboard.site import ROOT, dashboard_of
    from ._http import messages
    from ._http.access import Actor, Role, Who
    from ._http.api import Api
    from ._http.asgi import Door, Guard, behind
    from ._http.endpoint import Endpoint
    from ._http.matching import NoRoute, Routes
    from ._http.mounting import AdminOptions, HealthOptions, PageOptions, admin_api, health_api
    from ._http.problems import Problem, consumed, gone
    from ._http.routes import ADMIN, HEALTH
    from ._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(
        f"projection_guard.litestar needs {error.name}: pip install 'projection-guard[litestar]'"
    ) from error

__all__ = ["Actor", "Authorize", "Redact", "Redacted", "Role", "admin_handler", "dashboard_handler", "health_handler"]

Asked = Request[Any, Any, Any]
Authorize = Callable[[Asked], Who | Awaitable[Who]]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody; plain or async."""


def health_handler(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[HealthOptions]) -> Handler:
    """Return the routes under /health; docs/http.md lists the options. Raises `ConfigurationError`."""
    return _handler("/health", health_api(guard, authorize, **options), HEALTH, _door_of(guard, authorize))


def admin_handler(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[AdminOptions]) -> Handler:
    """Return the routes under /admin; docs/http.md lists the options. Raises `ConfigurationError`."""
    return _handler("/admin", admin_api(guard, authorize, **options), ADMIN, _door_of(guard, authorize))


def dashboard_handler(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[PageOptions]) -> Handler:
    """Return the pages under /dashboard, for people; docs/dashboard.md has the options. Raises `ConfigurationError`."""
    dashboard, door = dashboard_of(guard, authorize, **options), _door_of(guard, authorize)

    @_route(f"/{ROOT}", f"/{ROOT}/{{path:path}}")
    async def projection_guard_dashboard(request: Asked) -> Response[bytes]:
        return await door.show(dashboard, request, behind(request.scope).removeprefix("/"), dashboard.longest_bytes)

    return projection_guard_dashboard


def _handler(root: str, api: Api, endpoints: Sequence[Endpoint], door: Door[Asked, Response[bytes]]) -> Handler:
    routes = Routes(endpoints)

    @_route(f"{root}/{{path:path}}")
    async def projection_guard(request: Asked) -> Response[bytes]:
        try:
            match = routes.match(request.method, root + behind(request.scope))
        except NoRoute as error:
            if error.allowed:
                raise MethodNotAllowedException(headers={"Allow": ", ".join(error.allowed)}) from None
            raise NotFoundException from None
        return await door.answer(api, match.endpoint, request, match.parameters)

    return projection_guard


def _route(*paths: str) -> Handler:
    return route([*paths], http_method=["GET", "HEAD", "POST"], include_in_schema=False, status_code=200)


def _door_of(guard: Guard, authorize: Authorize | None) -> Door[Asked, Response[bytes]]:
    return Door(guard=guard, authorize=authorize, refuses=HTTPException, unread=_unread, written=_written)


def _written(response: messages.Response) -> Response[bytes]:
    kind = response.media_type.removesuffix("; charset=utf-8")  # Litestar adds that itself
    return Response(response.body, status_code=response.status, media_type=kind, headers=dict(response.headers))


def _unread(request: Asked, error: Exception) -> Problem:
    if isinstance(error, InternalServerException):  # Litestar's word for both
        return gone() if request.is_connected else consumed()
    raise error
