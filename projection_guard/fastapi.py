"""Health and admin routes and the dashboard for FastAPI, over a blocking or an async guard.

    app.include_router(health_router(guard, authorize=who), prefix="/api/v1")
    app.include_router(admin_router(guard, authorize=who), prefix="/api/v1")
    app.include_router(dashboard_router(guard, authorize=who), prefix="/ops")      # at /ops/dashboard

`who(request)` answers with an `Actor`, with an operator's name, or with None; it may be async, and may raise
`HTTPException`. Without `authorize` nobody gets in; the bare summary and the probes are open to all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Unpack

try:
    from fastapi import APIRouter, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.routing import APIRoute
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.requests import ClientDisconnect

    from ._dashboard.site import ROOT, dashboard_of
    from ._http.access import Actor, Role, Who
    from ._http.api import Api
    from ._http.asgi import Door, Guard
    from ._http.endpoint import Endpoint
    from ._http.mounting import AdminOptions, HealthOptions, PageOptions, admin_api, health_api
    from ._http.on_starlette import door_of, path_of, without_body, written
    from ._http.openapi import operation, operation_id
    from ._http.problems import FieldError, Problem
    from ._http.routes import ADMIN, HEALTH
    from ._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(
        f"projection_guard.fastapi needs {error.name}: pip install 'projection-guard[fastapi]'"
    ) from error

__all__ = ["Actor", "Authorize", "Redact", "Redacted", "Role", "admin_router", "dashboard_router", "health_router"]

Authorize = Callable[[Request], Who | Awaitable[Who]]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody; plain or async."""


def health_router(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[HealthOptions]) -> APIRouter:
    """Return the routes under /health; docs/http.md lists the options. Raises `ConfigurationError`."""
    return _router(health_api(guard, authorize, **options), HEALTH, door_of(guard, authorize))


def admin_router(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[AdminOptions]) -> APIRouter:
    """Return the routes under /admin; docs/http.md lists the options. Raises `ConfigurationError`."""
    return _router(admin_api(guard, authorize, **options), ADMIN, door_of(guard, authorize))


def dashboard_router(guard: Guard, *, authorize: Authorize | None = None, **options: Unpack[PageOptions]) -> APIRouter:
    """Return the pages under /dashboard, for people; docs/dashboard.md lists the options.

    Where `authorize` raises an `HTTPException` with a status of 3xx and a `Location`, the browser is sent there: to
    where people sign in, say. Raises `ConfigurationError`.
    """
    dashboard, door = dashboard_of(guard, authorize, **options), door_of(guard, authorize)

    async def serve(request: Request) -> Response:
        path = str(request.path_params.get("path", ""))
        return await door.show(dashboard, request, path, dashboard.longest_bytes)

    router = APIRouter(include_in_schema=False)
    for path in (f"/{ROOT}", f"/{ROOT}/{{path:path}}"):
        router.add_api_route(path, serve, methods=["GET", "HEAD", "POST"], name="projection_guard_dashboard")
    return router


def _router(api: Api, endpoints: Sequence[Endpoint], door: Door[Request, Response]) -> APIRouter:
    router = APIRouter(route_class=_route_class(api, door), tags=["projections"])
    for endpoint in endpoints:
        serve, path = _served(api, endpoint, door), path_of(endpoint)
        router.add_api_route(
            path,
            serve,
            methods=[endpoint.method],
            status_code=endpoint.status,
            summary=endpoint.summary,
            operation_id=operation_id(endpoint),
            name=operation_id(endpoint),
            response_model=None,
            responses={},
            openapi_extra=operation(endpoint),
        )
        if not endpoint.path.endswith("{name}"):
            router.add_api_route(
                f"{path}/", serve, methods=[endpoint.method], include_in_schema=False, response_model=None
            )
    return router


def _served(
    api: Api, endpoint: Endpoint, door: Door[Request, Response]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def serve(request: Request) -> Response:
        return await door.answer(api, endpoint, request)

    return serve


def _route_class(api: Api, door: Door[Request, Response]) -> type[APIRoute]:
    class Route(APIRoute):
        """Makes a problem document of what a dependency of the application raises; its handlers see nothing of it."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    return await handler(request)
                except ClientDisconnect:
                    return Response(status_code=499)
                except StarletteHTTPException as error:
                    problem = door.refused(error)
                    assert problem is not None, "that is how FastAPI refuses"
                    return written(api.refuse(without_body(request), problem))
                except RequestValidationError as error:
                    return written(api.refuse(without_body(request), _invalid(error)))

            return handle

    return Route


def _invalid(error: RequestValidationError) -> Problem:
    errors = [
        FieldError(field=".".join(map(str, found["loc"])), detail=str(found["msg"])) for found in error.errors()[:50]
    ]
    said = "; ".join(f"{each.field}: {each.detail}" for each in errors[:5])
    return Problem(status=422, kind="invalid-field", detail=said, errors=errors)
