"""Health and admin routes and the dashboard for Flask, over a blocking guard.

    app.register_blueprint(health_blueprint(guard, authorize=who), url_prefix="/api/v1")
    app.register_blueprint(admin_blueprint(guard, authorize=who), url_prefix="/api/v1")
    app.register_blueprint(dashboard_blueprint(guard, authorize=who), url_prefix="/ops")      # at /ops/dashboard

`who(request)` answers with an `Actor`, with an operator's name, or with None; it may `abort`. Without `authorize`
nobody gets in; the bare summary and the probes are open to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

try:
    from flask import Blueprint, Request, Response, request
    from flask.blueprints import BlueprintSetupState
    from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
    from werkzeug.routing import BaseConverter

    from ._dashboard.site import ROOT, dashboard_of
    from ._http import messages
    from ._http.access import Actor, Need, Role, Who
    from ._http.api import Api
    from ._http.endpoint import Endpoint
    from ._http.mounting import (
        AdminOptions,
        HealthOptions,
        PageOptions,
        admin_api,
        check_blocking,
        health_api,
        identified,
        refusal,
    )
    from ._http.openapi import Document, document, operation_id
    from ._http.problems import Problem, consumed, too_large
    from ._http.routes import ADMIN, HEALTH, everything
    from ._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(f"projection_guard.flask needs {error.name}: pip install 'projection-guard[flask]'") from error

from ._guard import ProjectionGuard
from ._io.protocol import drive

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

Authorize = Callable[[Request], Who]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody."""


def health_blueprint(
    guard: ProjectionGuard, *, authorize: Authorize | None = None, **options: Unpack[HealthOptions]
) -> Blueprint:
    """Return the routes under /health; docs/http.md lists the options. Raises `ConfigurationError`."""
    check_blocking(guard, authorize, "Flask")
    return _blueprint("projection_guard_health", health_api(guard, authorize, **options), HEALTH, authorize)


def admin_blueprint(
    guard: ProjectionGuard, *, authorize: Authorize | None = None, **options: Unpack[AdminOptions]
) -> Blueprint:
    """Return the routes under /admin; docs/http.md lists the options. Raises `ConfigurationError`."""
    check_blocking(guard, authorize, "Flask")
    return _blueprint("projection_guard_admin", admin_api(guard, authorize, **options), ADMIN, authorize)


def dashboard_blueprint(
    guard: ProjectionGuard, *, authorize: Authorize | None = None, **options: Unpack[PageOptions]
) -> Blueprint:
    """Return the pages under /dashboard, for people; docs/dashboard.md lists the options.

    Where `authorize` aborts with a redirection, the browser is sent there: to where people sign in, say. Raises
    `ConfigurationError`.
    """
    check_blocking(guard, authorize, "Flask")
    dashboard = dashboard_of(guard, authorize, **options)

    def serve(path: str = "") -> Response:
        if dashboard.is_open(path):
            return _written(dashboard.file(path))
        actor = identified(authorize, request, partial(_refused, may_redirect=True))
        return _written(drive(dashboard.respond(_read({"path": path}, dashboard.longest_bytes), actor)))

    blueprint = Blueprint("projection_guard_dashboard", __name__)
    for rule, endpoint in ((f"/{ROOT}", "root"), (f"/{ROOT}/", "overview"), (f"/{ROOT}/<path:path>", "page")):
        blueprint.add_url_rule(rule, endpoint=endpoint, view_func=serve, methods=["GET", "POST"], merge_slashes=False)
    return blueprint


def openapi(*, prefix: str = "", title: str = "projection_guard") -> Document:
    """Return the OpenAPI document of the routes, mounted under `prefix`; /admin/projections/openapi.json serves it."""
    return document(everything(), prefix=prefix, title=title)


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
        actor = None if endpoint.needs is Need.NOBODY else identified(authorize, request, _refused)
        return _written(drive(api.respond(endpoint, _read(path_parameters), actor)))

    return serve


def _written(response: messages.Response) -> Response:
    return Response(
        response.body,
        status=response.status,
        content_type=response.media_type,
        headers=dict(response.headers),
    )


def _refused(error: Exception, *, may_redirect: bool = False) -> Problem | None:
    if not isinstance(error, HTTPException):
        return None
    response: Any = error.get_response()
    kept = ("WWW-Authenticate", "Retry-After", *(("Location",) if may_redirect else ()))
    headers = {name: value for name, value in response.headers.items() if name in kept}
    return refusal(response.status_code, str(error.description or error.name), headers, may_redirect=may_redirect)


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
