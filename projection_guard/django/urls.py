"""Health and admin routes and the dashboard for Django, over a blocking guard.

    urlpatterns = [
        path("api/v1/", include([*health_urls(guard, authorize=who), *admin_urls(guard, authorize=who)])),
        path("ops/", include(dashboard_urls(guard, authorize=who))),                # at /ops/dashboard/
    ]

`who(request)` answers with an `Actor`, with an operator's name, or with None; it may raise `PermissionDenied`. Without
`authorize` nobody gets in; the bare summary and the probes are open to all. Django's CSRF tokens play no part: a POST
that a browser sends for another site is refused by what it says of itself (docs/http.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Unpack, cast

try:
    from django.core.exceptions import PermissionDenied, RequestDataTooBig
    from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
    from django.http.request import RawPostDataException, UnreadablePostError
    from django.urls import URLPattern
    from django.urls import re_path as django_re_path

    from .._dashboard.site import ROOT, dashboard_of
    from .._http import messages
    from .._http.access import Actor, Need, Role, Who
    from .._http.api import Api
    from .._http.endpoint import Endpoint
    from .._http.matching import NoRoute, Routes
    from .._http.mounting import (
        AdminOptions,
        HealthOptions,
        PageOptions,
        admin_api,
        check_blocking,
        health_api,
        identified,
        refusal,
    )
    from .._http.problems import Problem, consumed, gone, too_large
    from .._http.routes import ADMIN, HEALTH
    from .._http.views import Redact, Redacted
except ImportError as error:
    raise ImportError(
        f"projection_guard.django.urls needs {error.name}: pip install 'projection-guard[django]'"
    ) from error

from .._guard import ProjectionGuard
from .._io.protocol import drive

__all__ = ["Actor", "Authorize", "Redact", "Redacted", "Role", "admin_urls", "dashboard_urls", "health_urls"]

Authorize = Callable[[HttpRequest], Who | HttpResponse]
"""Says who sends a request: an `Actor`, an operator's name, or None for nobody; or a response that refuses it."""
View = Callable[..., HttpResponse]
re_path: Any = django_re_path  # Django has no type hints: what is read of its objects is said in `_Asked`
_KEPT = ("WWW-Authenticate", "Retry-After")


class _Asked(Protocol):
    """What is read of a request."""

    method: str
    path: str
    headers: Mapping[str, str]
    GET: Any
    META: Mapping[str, str]
    body: bytes


def health_urls(
    guard: ProjectionGuard, *, authorize: Authorize | None = None, **options: Unpack[HealthOptions]
) -> list[URLPattern]:
    """Return the routes under /health; docs/http.md lists the options. Raises `ConfigurationError`."""
    check_blocking(guard, authorize, "Django")
    return _patterns("health", health_api(guard, authorize, **options), HEALTH, authorize)


def admin_urls(
    guard: ProjectionGuard, *, authorize: Authorize | None = None, **options: Unpack[AdminOptions]
) -> list[URLPattern]:
    """Return the routes under /admin; docs/http.md lists the options. Raises `ConfigurationError`."""
    check_blocking(guard, authorize, "Django")
    return _patterns("admin", admin_api(guard, authorize, **options), ADMIN, authorize)


def dashboard_urls(
    guard: ProjectionGuard, *, authorize: Authorize | None = None, **options: Unpack[PageOptions]
) -> list[URLPattern]:
    """Return the pages under /dashboard, for people; docs/dashboard.md lists the options.

    Where `authorize` returns a redirection, the browser is sent there: to where people sign in, say. Raises
    `ConfigurationError`.
    """
    check_blocking(guard, authorize, "Django")
    dashboard = dashboard_of(guard, authorize, **options)

    def serve(request: HttpRequest, rest: str = "") -> HttpResponse:
        path = rest.removeprefix("/")
        if dashboard.is_open(path):
            return _written(dashboard.file(path))
        actor = _identified(authorize, request, may_redirect=True)
        return _written(drive(dashboard.respond(_read(request, {"path": path}, dashboard.longest_bytes), actor)))

    return [_pattern(ROOT, serve, ("GET", "HEAD", "POST"))]


def _patterns(root: str, api: Api, endpoints: Sequence[Endpoint], authorize: Authorize | None) -> list[URLPattern]:
    routes = Routes(endpoints)

    def serve(request: HttpRequest, rest: str = "") -> HttpResponse:
        try:
            match = routes.match(str(request.method), f"/{root}{rest}")
        except NoRoute as error:
            if error.allowed:
                return HttpResponseNotAllowed(error.allowed)
            raise Http404 from None
        actor = None if match.endpoint.needs is Need.NOBODY else _identified(authorize, request)
        return _written(drive(api.respond(match.endpoint, _read(request, match.parameters), actor)))

    return [_pattern(root, serve, ("GET", "HEAD", "POST"))]


def _pattern(root: str, serve: View, methods: tuple[str, ...]) -> URLPattern:
    def view(request: HttpRequest, rest: str | None = None) -> HttpResponse:
        if str(request.method) not in methods:
            return HttpResponseNotAllowed(methods)
        return serve(request, rest or "")

    exempt: Any = view
    exempt.csrf_exempt = True  # our routes look at where a request comes from themselves
    pattern: URLPattern = re_path(rf"^{root}(?P<rest>/[\s\S]*)?\Z", exempt, name=f"projection_guard_{root}")
    return pattern


def _identified(
    authorize: Authorize | None, request: HttpRequest, *, may_redirect: bool = False
) -> Actor | Problem | None:
    if authorize is None:
        return None

    def asked(request: HttpRequest) -> object:
        answer = authorize(request)
        if isinstance(answer, HttpResponse):
            raise _Answered(answer)
        return answer

    return identified(asked, request, partial(_refused, may_redirect=may_redirect))


class _Answered(Exception):
    """`authorize` has answered the request itself."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status_code)
        self.response: Any = response


def _refused(error: Exception, *, may_redirect: bool) -> Problem | None:
    if isinstance(error, PermissionDenied):
        return refusal(403, str(error) or "The application does not let this caller in", {}, may_redirect=False)
    if not isinstance(error, _Answered):
        return None
    response = error.response
    kept = (*_KEPT, "Location") if may_redirect else _KEPT
    headers: dict[str, str] = {name: value for name, value in response.items() if name in kept}
    detail: str = response.content.decode(errors="replace")[:300] or response.reason_phrase
    return refusal(response.status_code, detail, headers, may_redirect=may_redirect)


def _read(
    request: HttpRequest, path_parameters: dict[str, str], longest_bytes: int = messages.LONGEST_BODY_BYTES
) -> messages.Request:
    asked = cast("_Asked", request)
    return messages.Request(
        method=asked.method,
        path=asked.path,
        host=asked.headers.get("Host", ""),
        path_parameters=path_parameters,
        query=tuple((name, value) for name, values in asked.GET.lists() for value in values),
        headers={name.lower(): value for name, value in asked.headers.items()},
        body=b"" if asked.method in ("GET", "HEAD") else _body(asked, longest_bytes),
    )


def _body(request: _Asked, longest_bytes: int) -> bytes | Problem:
    """Read the body, also where the application has read and kept it; of one that is too long nothing."""
    told = request.META.get("CONTENT_LENGTH") or None
    if told is None and "Transfer-Encoding" in request.headers and hasattr(request, "environ"):
        return Problem(status=411, kind="length-required", detail="Say how long the body is, by Content-Length")
    if told is not None and told.isdigit() and int(told) > longest_bytes:
        return too_large(longest_bytes)
    try:
        found = request.body
    except RequestDataTooBig:
        return too_large(longest_bytes)
    except RawPostDataException:
        return consumed()
    except UnreadablePostError:
        return gone()
    return too_large(longest_bytes) if len(found) > longest_bytes else bytes(found)


def _written(response: messages.Response) -> HttpResponse:
    return HttpResponse(
        response.body, status=response.status, content_type=response.media_type, headers=dict(response.headers)
    )
