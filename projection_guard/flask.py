"""Health and admin routes and the dashboard for Flask, over a blocking guard.

    app.register_blueprint(health_blueprint(guard, authorize=who), url_prefix="/api/v1")
    app.register_blueprint(admin_blueprint(guard, authorize=who), url_prefix="/api/v1")
    app.register_blueprint(dashboard_blueprint(guard, authorize=who), url_prefix="/ops")      # at /ops/dashboard

`who(request)` answers with an `Actor`, with an operator's name, or with None; it may `abort`. Without `authorize`
nobody gets in; the bare summary and the probes are open to all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

try:
    from flask import Blueprint, Request, Response, request
    from flask.blueprints import BlueprintSetupState
    from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
    from werkzeug.routing import BaseConverter

    from ._dashboard.forms import LONGEST_FORM_BYTES
    from ._dashboard.site import ROOT, Dashboard
    from ._http import messages
    from ._http.access import Actor, Need, Role
    from ._http.api import Api
    from ._http.endpoint import Endpoint
    from ._http.mounting import named, not_understood, open_api, settings_of
    from ._http.openapi import Document, document, operation_id
    from ._http.problems import Problem, consumed, too_large
    from ._http.routes import ADMIN, HEALTH, everything
    from ._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(f"projection_guard.flask needs {error.name}: pip install 'projection-guard[flask]'") from error

from ._desk import service_of
from ._guard import ProjectionGuard
from ._io.protocol import drive
from .errors import ConfigurationError

__all__ = [
    "Actor",
    "Authorize",
    "Redact",
    "Redacted",
    "Role",
    "admin_blueprint",
    "dashboard_blueprint",
    "health_blueprint",
    "openapi",
]

Authorize = Callable[[Request], object]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody."""


def health_blueprint(
    guard: ProjectionGuard,
    *,
    authorize: Authorize | None = None,
    public_summary: bool = True,
    redact: Redact | None = None,
    ready_at_worst: str | None = None,
) -> Blueprint:
    """Return the routes under /health.

    `public_summary`: names and statuses are open to all. `redact(what, value)` returns what may be shown of an error's
    text; give the admin routes the same one.
    `ready_at_worst`: the worst status ("degraded", say) with which the process still counts as ready; None leaves
    projections out of that. Raises `ConfigurationError`.
    """
    _check(guard, authorize)
    api = open_api(
        guard,
        is_closed=authorize is None,
        public_summary=public_summary,
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


def dashboard_blueprint(
    guard: ProjectionGuard,
    *,
    authorize: Authorize | None = None,
    payloads_for: Role | None = None,
    redact: Redact | None = None,
    trusted_origins: Collection[str] = (),
    rate_limit: str | None = "10/minute",
    rate_limit_storage: str = "memory://",
    name: str = "Projections",
) -> Blueprint:
    """Return the pages under /dashboard, for people; the other options are those of `admin_blueprint`.

    Where `authorize` aborts with a redirection, the browser is sent there: to where people sign in, say. `name` stands
    at the top of each page. Raises `ConfigurationError`.
    """
    _check(guard, authorize)
    settings = settings_of(
        is_closed=authorize is None,
        payloads_for=payloads_for,
        redact=redact,
        trusted_origins=trusted_origins,
        rate_limit=rate_limit,
        rate_limit_storage=rate_limit_storage,
    )
    dashboard = Dashboard(service_of(guard), settings, name=name)

    def serve(path: str = "") -> Response:
        if dashboard.is_open(path):
            return _written(dashboard.file(path))
        actor = _identified(authorize, may_redirect=True)
        return _written(drive(dashboard.respond(_read({"path": path}, LONGEST_FORM_BYTES), actor)))

    blueprint = Blueprint("projection_guard_dashboard", __name__)
    for rule, endpoint in ((f"/{ROOT}", "root"), (f"/{ROOT}/", "overview"), (f"/{ROOT}/<path:path>", "page")):
        blueprint.add_url_rule(rule, endpoint=endpoint, view_func=serve, methods=["GET", "POST"], merge_slashes=False)
    return blueprint


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


class _NameConverter(BaseConverter):
    """A projection's name in a path: anything at all, slashes and line ends too."""

    regex = r"[\s\S]+"
    part_isolating = False


_NAME = "projection_guard_name"


def _add_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters[_NAME] = _NameConverter


def _blueprint(name: str, api: Api, endpoints: Sequence[Endpoint], authorize: Authorize | None) -> Blueprint:
    blueprint = Blueprint(name, __name__)
    blueprint.record(_add_converter)
    for endpoint in endpoints:
        path = endpoint.path
        for parameter in endpoint.parameters:
            kind = _NAME if parameter == "name" else "string"
            path = path.replace(f"{{{parameter}}}", f"<{kind}:{parameter}>")
        serve = _served(api, endpoint, authorize)
        for rule, name in ((path, operation_id(endpoint)), (f"{path}/", f"{operation_id(endpoint)}_slash")):
            blueprint.add_url_rule(rule, endpoint=name, view_func=serve, methods=[endpoint.method], merge_slashes=False)
    return blueprint


def _served(api: Api, endpoint: Endpoint, authorize: Authorize | None) -> Callable[..., Response]:
    def serve(**path_parameters: str) -> Response:
        actor = None if endpoint.needs is Need.NOBODY else _identified(authorize)
        return _written(drive(api.respond(endpoint, _read(path_parameters), actor)))

    return serve


def _written(response: messages.Response) -> Response:
    return Response(
        response.body,
        status=response.status,
        content_type=response.media_type,
        headers=dict(response.headers),
    )


def _identified(authorize: Authorize | None, *, may_redirect: bool = False) -> Actor | Problem | None:
    if authorize is None:
        return None
    try:
        answer = authorize(request)
    except HTTPException as refused:
        return _refused(refused, may_redirect=may_redirect)
    except Exception as error:
        return not_understood(error)
    return named(answer)


def _refused(error: HTTPException, *, may_redirect: bool) -> Problem:
    response: Any = error.get_response()
    status = response.status_code if response.status_code >= (300 if may_redirect else 400) else 401
    kept = ("WWW-Authenticate", "Retry-After", *(("Location",) if may_redirect else ()))
    headers = {name: value for name, value in response.headers.items() if name in kept}
    return Problem(status=status, kind="refused", detail=str(error.description or error.name), headers=headers)


def _read(path_parameters: dict[str, str], longest_bytes: int = messages.LONGEST_BODY_BYTES) -> messages.Request:
    return messages.Request(
        method=request.method,
        path=request.root_path.rstrip("/") + request.path,
        host=request.host,
        path_parameters=path_parameters,
        query=tuple(request.args.items(multi=True)),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=b"" if request.method == "GET" else _body(longest_bytes),
    )


def _body(longest_bytes: int) -> bytes | Problem:
    """Read the body, also where the application has read and kept it; of one that is too long only the beginning."""
    length = request.content_length
    if length is None:
        return _unmeasured(longest_bytes)
    if length > longest_bytes:
        return too_large(longest_bytes)
    try:
        found = request.get_data(cache=True)
    except RequestEntityTooLarge:
        return too_large(longest_bytes)
    return found if len(found) == length else consumed()


def _unmeasured(longest_bytes: int) -> bytes | Problem:
    """Read a body that says not how long it is: without the server's word for its end there is no reading it."""
    if "Transfer-Encoding" not in request.headers:
        return b""
    if not request.environ.get("wsgi.input_terminated"):
        return Problem(status=411, kind="length-required", detail="Say how long the body is, by Content-Length")
    found = request.stream.read(longest_bytes + 1) or request.get_data(cache=True)
    return too_large(longest_bytes) if len(found) > longest_bytes else found
