"""Health and admin routes and the dashboard for FastAPI, over a blocking or an async guard.

    app.include_router(health_router(guard, authorize=who), prefix="/api/v1")
    app.include_router(admin_router(guard, authorize=who), prefix="/api/v1")
    app.include_router(dashboard_router(guard, authorize=who), prefix="/ops")      # at /ops/dashboard

`who(request)` answers with an `Actor`, with an operator's name, or with None; it may be async, and may raise
`HTTPException`. Without `authorize` nobody gets in; the bare summary and the probes are open to all.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, cast

try:
    from anyio import CapacityLimiter, to_thread
    from anyio.lowlevel import RunVar
    from fastapi import APIRouter, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.routing import APIRoute
    from starlette.concurrency import run_in_threadpool
    from starlette.convertors import Convertor, register_url_convertor
    from starlette.exceptions import HTTPException as StarletteHTTPException
    from starlette.requests import ClientDisconnect

    from ._dashboard.forms import LONGEST_FORM_BYTES
    from ._dashboard.site import ROOT, Dashboard
    from ._http import messages
    from ._http.access import Actor, Need, Role
    from ._http.api import Api
    from ._http.endpoint import Endpoint
    from ._http.mounting import named, not_understood, open_api, settings_of
    from ._http.openapi import operation, operation_id
    from ._http.problems import FieldError, Problem, consumed, too_large
    from ._http.routes import ADMIN, HEALTH
    from ._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(
        f"projection_guard.fastapi needs {error.name}: pip install 'projection-guard[fastapi]'"
    ) from error

from ._async_guard import AsyncProjectionGuard
from ._desk import service_of
from ._guard import ProjectionGuard
from ._io.protocol import drive

__all__ = ["Actor", "Authorize", "Redact", "Redacted", "Role", "admin_router", "dashboard_router", "health_router"]

Guard = ProjectionGuard | AsyncProjectionGuard
Authorize = Callable[[Request], object]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody; plain or async."""


def health_router(
    guard: Guard,
    *,
    authorize: Authorize | None = None,
    public_summary: bool = True,
    redact: Redact | None = None,
    ready_at_worst: str | None = None,
) -> APIRouter:
    """Return the routes under /health.

    `public_summary`: names and statuses are open to all. `redact(what, value)` returns what may be shown of an error's
    text; give the admin routes the same one.
    `ready_at_worst`: the worst status ("degraded", say) with which the process still counts as ready; None leaves
    projections out of that. Raises `ConfigurationError`.
    """
    api = open_api(
        guard,
        is_closed=authorize is None,
        public_summary=public_summary,
        redact=redact,
        ready_at_worst=ready_at_worst,
    )
    return _router(guard, api, HEALTH, authorize)


def admin_router(
    guard: Guard,
    *,
    authorize: Authorize | None = None,
    payloads_for: Role | None = None,
    redact: Redact | None = None,
    trusted_origins: Collection[str] = (),
    rate_limit: str | None = "10/minute",
    rate_limit_storage: str = "memory://",
) -> APIRouter:
    """Return the routes under /admin.

    `payloads_for`: from which role on events are shown, None shows them to nobody. `redact(what, value)` returns what
    may be shown of an error's text, a traceback or an event. `trusted_origins`: other sites whose pages may act for
    their visitors. `rate_limit` is per actor and route, on replay, rebuild, reset and bulk actions, counted by the
    library `limits` in `rate_limit_storage`: "memory://" is this process. Raises `ConfigurationError`.
    """
    api = open_api(
        guard,
        is_closed=authorize is None,
        payloads_for=payloads_for,
        redact=redact,
        trusted_origins=trusted_origins,
        rate_limit=rate_limit,
        rate_limit_storage=rate_limit_storage,
    )
    return _router(guard, api, ADMIN, authorize)


def dashboard_router(
    guard: Guard,
    *,
    authorize: Authorize | None = None,
    payloads_for: Role | None = None,
    redact: Redact | None = None,
    trusted_origins: Collection[str] = (),
    rate_limit: str | None = "10/minute",
    rate_limit_storage: str = "memory://",
    name: str = "Projections",
) -> APIRouter:
    """Return the pages under /dashboard, for people; the other options are those of `admin_router`.

    Where `authorize` raises an `HTTPException` with a status of 3xx and a `Location`, the browser is sent there: to
    where people sign in, say. `name` stands at the top of each page. Raises `ConfigurationError`.
    """
    settings = settings_of(
        is_closed=authorize is None,
        payloads_for=payloads_for,
        redact=redact,
        trusted_origins=trusted_origins,
        rate_limit=rate_limit,
        rate_limit_storage=rate_limit_storage,
    )
    dashboard = Dashboard(service_of(guard), settings, name=name)

    async def serve(request: Request) -> Response:
        path = str(request.path_params.get("path", ""))
        if dashboard.is_open(path):
            return _written(dashboard.file(path))
        actor = await _identified(authorize, request, may_redirect=True)
        try:
            asked = await _read(request, LONGEST_FORM_BYTES)
        except ClientDisconnect:
            return Response(status_code=499)
        answering = dashboard.respond(asked, actor)
        if isinstance(guard, AsyncProjectionGuard):
            return _written(await answering)
        return _written(await to_thread.run_sync(partial(drive, answering), limiter=_threads()))

    router = APIRouter(include_in_schema=False)
    for path in (f"/{ROOT}", f"/{ROOT}/{{path:path}}"):
        router.add_api_route(path, serve, methods=["GET", "HEAD", "POST"], name="projection_guard_dashboard")
    return router


class _NameConvertor(Convertor[str]):
    """A projection's name in a path: anything at all, slashes and line ends too."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


_NAME = "projection_guard_name"
register_url_convertor(_NAME, _NameConvertor())


_MOST_THREADS = 20
_own_threads: RunVar[CapacityLimiter] = RunVar("projection_guard_threads")


def _threads() -> CapacityLimiter:
    """Return which threads of this loop's are ours: so many, so that a silent database uses up no others."""
    try:
        return _own_threads.get()
    except LookupError:
        _own_threads.set(CapacityLimiter(_MOST_THREADS))
        return _own_threads.get()


def _router(guard: Guard, api: Api, endpoints: Sequence[Endpoint], authorize: Authorize | None) -> APIRouter:
    router = APIRouter(route_class=_route_class(api), tags=["projections"])
    for endpoint in endpoints:
        serve = _served(guard, api, endpoint, authorize)
        path = endpoint.path.replace("{name}", f"{{name:{_NAME}}}")
        described = operation(endpoint)
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
            openapi_extra=described,
        )
        if not endpoint.path.endswith("{name}"):
            router.add_api_route(
                f"{path}/", serve, methods=[endpoint.method], include_in_schema=False, response_model=None
            )
    return router


def _served(
    guard: Guard, api: Api, endpoint: Endpoint, authorize: Authorize | None
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def serve(request: Request) -> Response:
        actor = None if endpoint.needs is Need.NOBODY else await _identified(authorize, request)
        asked = await _read(request)
        if endpoint.is_instant or isinstance(guard, AsyncProjectionGuard):
            return _written(await api.respond(endpoint, asked, actor))
        work = partial(drive, api.respond(endpoint, asked, actor))
        return _written(await to_thread.run_sync(work, limiter=_threads()))

    return serve


async def _identified(
    authorize: Authorize | None, request: Request, *, may_redirect: bool = False
) -> Actor | Problem | None:
    if authorize is None:
        return None
    try:
        if inspect.iscoroutinefunction(authorize):
            answer: object = await authorize(request)
        else:
            answer = await run_in_threadpool(authorize, request)
            if inspect.isawaitable(answer):
                answer = await cast("Awaitable[object]", answer)
    except StarletteHTTPException as refused:
        return _refused(refused, may_redirect=may_redirect)
    except Exception as error:
        return not_understood(error)
    return named(answer)


def _refused(error: StarletteHTTPException, *, may_redirect: bool = False) -> Problem:
    status = error.status_code if error.status_code >= (300 if may_redirect else 400) else 401
    return Problem(status=status, kind="refused", detail=str(error.detail), headers=dict(error.headers or {}))


async def _read(request: Request, longest_bytes: int = messages.LONGEST_BODY_BYTES) -> messages.Request:
    return messages.Request(
        method=request.method,
        path=_path(request),
        host=request.headers.get("host", ""),
        path_parameters=dict(request.path_params),
        query=tuple(request.query_params.multi_items()),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=b"" if request.method == "GET" else await _body(request, longest_bytes),
    )


def _path(request: Request) -> str:
    """Return the whole path. A proxy that strips the root's path leaves it to us to say so."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    return path if path.startswith(f"{root}/") else root + path


async def _body(request: Request, longest_bytes: int) -> bytes | Problem:
    """Read the body; of one that is too long no more is read than shows that."""
    found = bytearray()
    try:
        async for chunk in request.stream():
            found += chunk
            if len(found) > longest_bytes:
                return too_large(longest_bytes)
    except RuntimeError:  # Starlette's word for a stream that somebody has read, without keeping what he read
        return consumed()
    return bytes(found)


def _written(response: messages.Response) -> Response:
    return Response(
        content=response.body,
        status_code=response.status,
        media_type=response.media_type,
        headers=dict(response.headers),
    )


def _route_class(api: Api) -> type[APIRoute]:
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
                    return _written(api.refuse(_without_body(request), _refused(error)))
                except RequestValidationError as error:
                    return _written(api.refuse(_without_body(request), _invalid(error)))

            return handle

    return Route


def _without_body(request: Request) -> messages.Request:
    return messages.Request(
        method=request.method,
        path=_path(request),
        host="",
        path_parameters={},
        query=(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=b"",
    )


def _invalid(error: RequestValidationError) -> Problem:
    errors = [
        FieldError(field=".".join(map(str, found["loc"])), detail=str(found["msg"])) for found in error.errors()[:50]
    ]
    said = "; ".join(f"{each.field}: {each.detail}" for each in errors[:5])
    return Problem(status=422, kind="invalid-field", detail=said, errors=errors)
