"""Health and admin routes for Flask, over a blocking guard.

    app.register_blueprint(health_blueprint(guard, authorize=who), url_prefix="/api/v1")
    app.register_blueprint(admin_blueprint(guard, authorize=who), url_prefix="/api/v1")

`who(request)` answers with an `Actor`, with an operator's name, or with None; it may `abort`. Without `authorize`
nobody gets in; the bare summary and the probes are open to all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

try:
    from flask import Blueprint, Request, Response, request
    from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

    from ._http import messages
    from ._http.access import Actor, Role
    from ._http.api import Api
    from ._http.endpoint import Endpoint
    from ._http.mounting import named, not_understood, open_api
    from ._http.openapi import Document, document, operation_id
    from ._http.problems import Problem
    from ._http.routes import ADMIN, HEALTH, everything
    from ._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(f"projection_guard.flask needs {error.name}: pip install 'projection-guard[flask]'") from error

from ._guard import ProjectionGuard
from ._io.protocol import drive
from .errors import ConfigurationError

__all__ = ["Actor", "Authorize", "Redact", "Redacted", "Role", "admin_blueprint", "health_blueprint", "openapi"]

Authorize = Callable[[Request], object]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody."""


def health_blueprint(
    guard: ProjectionGuard,
    *,
    authorize: Authorize | None = None,
    public_summary: bool = True,
    payloads_for: Role | None = None,
    redact: Redact | None = None,
    ready_at_worst: str | None = None,
) -> Blueprint:
    """Return the routes under /health.

    `public_summary`: names and statuses are open to all. `redact(what, value)` returns what may be shown of an error's
    text. `ready_at_worst`: the worst status ("degraded", say) with which the process still counts as ready; None leaves
    projections out of that. Raises `ConfigurationError`.
    """
    _check(guard, authorize)
    api = open_api(
        guard,
        is_closed=authorize is None,
        public_summary=public_summary,
        payloads_for=payloads_for,
        redact=redact,
        ready_at_worst=ready_at_worst,
    )
    return _blueprint("projection_guard_health", api, HEALTH, authorize)


def admin_blueprint(
    guard: ProjectionGuard,
    *,
    authorize: Authorize | None = None,
    payloads_for: Role | None = None,
    redact: Redact | None = None,
    trusted_origins: Collection[str] = (),
    rate_limit: str | None = "10/minute",
    rate_limit_storage: str = "memory://",
) -> Blueprint:
    """Return the routes under /admin.

    `payloads_for`: from which role on events are shown, None shows them to nobody. `redact(what, value)` returns what
    may be shown of an error's text, a traceback or an event. `trusted_origins`: other sites whose pages may act for
    their visitors. `rate_limit` is per actor and route, on replay, rebuild, reset and bulk actions, counted by the
    library `limits` in `rate_limit_storage`: "memory://" is this process. Raises `ConfigurationError`.
    """
    _check(guard, authorize)
    api = open_api(
        guard,
        is_closed=authorize is None,
        payloads_for=payloads_for,
        redact=redact,
        trusted_origins=trusted_origins,
        rate_limit=rate_limit,
        rate_limit_storage=rate_limit_storage,
    )
    return _blueprint("projection_guard_admin", api, ADMIN, authorize)


def openapi(*, prefix: str = "", title: str = "projection_guard") -> Document:
    """Return the OpenAPI document of the routes, mounted under `prefix`; /admin/projections/openapi.json serves it."""
    return document(everything(), prefix=prefix, title=title)


def _check(guard: object, authorize: object) -> None:
    if not isinstance(guard, ProjectionGuard):
        raise ConfigurationError(
            f"Flask runs over a ProjectionGuard, which blocks; use projection_guard.fastapi with {type(guard).__name__}"
        )
    if inspect.iscoroutinefunction(authorize):
        raise ConfigurationError(
            "authorize= is an async function, which Flask's routes cannot await; make it a plain one"
        )


def _blueprint(name: str, api: Api, endpoints: Sequence[Endpoint], authorize: Authorize | None) -> Blueprint:
    blueprint = Blueprint(name, __name__)
    for endpoint in endpoints:
        path = endpoint.path
        for parameter in endpoint.parameters:
            kind = "path" if parameter == "name" else "string"
            path = path.replace(f"{{{parameter}}}", f"<{kind}:{parameter}>")
        serve = _served(api, endpoint, authorize)
        for rule, name in ((path, operation_id(endpoint)), (f"{path}/", f"{operation_id(endpoint)}_slash")):
            blueprint.add_url_rule(rule, endpoint=name, view_func=serve, methods=[endpoint.method])
    return blueprint


def _served(api: Api, endpoint: Endpoint, authorize: Authorize | None) -> Callable[..., Response]:
    def serve(**path_parameters: str) -> Response:
        actor = _identified(authorize)
        response = drive(api.respond(endpoint, _read(path_parameters), actor))
        return Response(
            response.body,
            status=response.status,
            content_type=response.media_type,
            headers=dict(response.headers),
        )

    return serve


def _identified(authorize: Authorize | None) -> Actor | Problem | None:
    if authorize is None:
        return None
    try:
        answer = authorize(request)
    except HTTPException as refused:
        return _refused(refused)
    except Exception as error:
        return not_understood(error)
    return named(answer)


def _refused(error: HTTPException) -> Problem:
    response: Any = error.get_response()
    status = response.status_code if response.status_code >= 400 else 401
    headers = {name: value for name, value in response.headers.items() if name in ("WWW-Authenticate", "Retry-After")}
    return Problem(status=status, kind="refused", detail=error.description or error.name, headers=headers)


def _read(path_parameters: dict[str, str]) -> messages.Request:
    return messages.Request(
        method=request.method,
        path=request.root_path.rstrip("/") + request.path,
        host=request.host,
        path_parameters=path_parameters,
        query=tuple(request.args.items(multi=True)),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=b"" if request.method == "GET" else _body(),
    )


def _body() -> bytes | None:
    """Read the body, or None of one that is too long: what follows is not read."""
    if (request.content_length or 0) > messages.LONGEST_BODY_BYTES:
        return None
    try:
        found = request.stream.read(messages.LONGEST_BODY_BYTES + 1)
    except RequestEntityTooLarge:
        return None
    return None if len(found) > messages.LONGEST_BODY_BYTES else found
