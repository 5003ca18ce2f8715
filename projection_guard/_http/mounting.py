"""What every framework's adapter does before it translates: read the options, and whom `authorize` names."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from typing import TypedDict, TypeVar, Unpack

from .._desk import service_of
from .._guard import ProjectionGuard
from .._model import HealthStatus
from .._wording import without_values
from ..errors import ConfigurationError
from .access import Actor, Role, actor_of
from .api import Api, Settings
from .limiting import Limiter
from .problems import Problem, unexpected
from .views import Redact

__all__ = [
    "AdminOptions",
    "HealthOptions",
    "PageOptions",
    "Refused",
    "admin_api",
    "check_blocking",
    "health_api",
    "identified",
    "named",
    "not_understood",
    "refusal",
    "settings_of",
]

R = TypeVar("R")
log = logging.getLogger("projection_guard")
Refused = Callable[[Exception], Problem | None]
"""Reads what `authorize` raised: the problem, where it is the framework's own way of saying so, else None."""


class HealthOptions(TypedDict, total=False):
    """Options of the routes under /health.

    `public_summary`: names and statuses are open to all. `redact(what, value)` returns what may be shown of an error's
    text; give the admin routes the same one. `ready_at_worst`: the worst status ("degraded", say) with which the
    process still counts as ready; None leaves projections out of that.
    """

    public_summary: bool
    redact: Redact | None
    ready_at_worst: str | None


class AdminOptions(TypedDict, total=False):
    """Options of the routes under /admin, and of the dashboard.

    `payloads_for`: from which role on events are shown, None shows them to nobody. `redact(what, value)` returns what
    may be shown of an error's text, a traceback or an event. `trusted_origins`: other sites whose pages may act for
    their visitors. `rate_limit` is per actor and route, on replay, rebuild, verify, reset and bulk actions, counted by
    the library `limits` in `rate_limit_storage`: "memory://" is this process.
    """

    payloads_for: Role | None
    redact: Redact | None
    trusted_origins: Collection[str]
    rate_limit: str | None
    rate_limit_storage: str


class PageOptions(AdminOptions, total=False):
    """Options of the dashboard: `name` stands at the top of each page."""

    name: str


def health_api(
    guard: object,
    authorize: object,
    *,
    public_summary: bool = True,
    redact: Redact | None = None,
    ready_at_worst: str | None = None,
) -> Api:
    """Make what answers the routes under /health. Raises `ConfigurationError` for an option that cannot be."""
    if ready_at_worst is not None and ready_at_worst not in list(HealthStatus):
        raise ConfigurationError(f"ready_at_worst= takes {', '.join(HealthStatus)} or None, not {ready_at_worst!r}")
    settings = Settings(
        is_closed=authorize is None,
        limiter=Limiter(None, "memory://"),
        public_summary=public_summary,
        redact=redact,
        ready_at_worst=None if ready_at_worst is None else HealthStatus(ready_at_worst),
    )
    return Api(service_of(guard), settings)


def admin_api(guard: object, authorize: object, **options: Unpack[AdminOptions]) -> Api:
    """Make what answers the routes under /admin. Raises `ConfigurationError` for an option that cannot be."""
    return Api(service_of(guard), settings_of(authorize, **options))


def settings_of(
    authorize: object,
    *,
    payloads_for: Role | None = None,
    redact: Redact | None = None,
    trusted_origins: Collection[str] = (),
    rate_limit: str | None = "10/minute",
    rate_limit_storage: str = "memory://",
) -> Settings:
    """Read the options that routes and pages have in common. Raises `ConfigurationError` for one that cannot be."""
    if payloads_for not in (None, "viewer", "operator"):
        raise ConfigurationError(f"payloads_for= takes 'viewer', 'operator' or None, not {payloads_for!r}")
    if isinstance(trusted_origins, str) or any("://" not in origin for origin in trusted_origins):
        raise ConfigurationError("trusted_origins= takes origins, such as ['https://admin.example']")
    return Settings(
        is_closed=authorize is None,
        payloads_for=payloads_for,
        redact=redact,
        trusted_origins=frozenset(origin.lower().rstrip("/") for origin in trusted_origins),
        limiter=Limiter(rate_limit, rate_limit_storage),
    )


def check_blocking(guard: object, authorize: object, framework: str) -> None:
    """Refuse what a framework that blocks cannot await. Raises `ConfigurationError`."""
    if not isinstance(guard, ProjectionGuard):
        raise ConfigurationError(
            f"{framework} runs over a ProjectionGuard, which blocks; use projection_guard.fastapi with "
            f"{type(guard).__name__}"
        )
    if inspect.iscoroutinefunction(authorize):
        raise ConfigurationError(
            f"authorize= is an async function, which {framework}'s routes cannot await; make it a plain one"
        )


def identified(authorize: Callable[[R], object] | None, request: R, refused: Refused) -> Actor | Problem | None:
    """Ask a plain `authorize` who sends a request."""
    if authorize is None:
        return None
    try:
        answer = authorize(request)
    except Exception as error:
        return refused(error) or not_understood(error)
    return named(answer)


def named(answer: object) -> Actor | Problem | None:
    """Read what `authorize` answered; what is not understood lets nobody in, and the log says why."""
    try:
        return actor_of(answer)
    except ValueError as error:
        log.error("authorize: %s", error)  # noqa: TRY400  # the sentence says it all
        return unexpected()


def not_understood(error: Exception) -> Problem:
    """Say that `authorize` did not come to an answer: a refusal by `PermissionError`, or a defect of its own."""
    if isinstance(error, PermissionError):
        return Problem(status=403, kind="not-allowed", detail="The application does not let this caller in")
    log.error("authorize raised %s", type(error).__name__, exc_info=without_values(error))
    return unexpected()


def refusal(status: int, detail: str, headers: Mapping[str, str], *, may_redirect: bool) -> Problem:
    """Tell what the application refused by its framework's own error. A redirection is for browsers only."""
    status = status if status >= (300 if may_redirect else 400) else 401
    return Problem(status=status, kind="refused", detail=detail, headers=headers)
