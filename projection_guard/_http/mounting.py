"""What both frameworks' adapters do before they translate: read the options, and whom `authorize` names."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

from .._desk import service_of
from .._model import HealthStatus
from .._wording import without_values
from ..errors import ConfigurationError
from .access import Actor, Role, actor_of
from .api import Api, Settings
from .limiting import Limiter
from .problems import Problem, unexpected
from .views import Redact

__all__ = ["named", "not_understood", "open_api", "settings_of"]

log = logging.getLogger("projection_guard")


def open_api(
    guard: object,
    *,
    is_closed: bool,
    public_summary: bool = True,
    payloads_for: Role | None = None,
    redact: Redact | None,
    trusted_origins: Collection[str] = (),
    ready_at_worst: str | None = None,
    rate_limit: str | None = None,
    rate_limit_storage: str = "memory://",
) -> Api:
    """Make what answers the routes. Raises `ConfigurationError` for an option that cannot be."""
    if ready_at_worst is not None and ready_at_worst not in list(HealthStatus):
        raise ConfigurationError(f"ready_at_worst= takes {', '.join(HealthStatus)} or None, not {ready_at_worst!r}")
    settings = settings_of(
        is_closed=is_closed,
        payloads_for=payloads_for,
        redact=redact,
        trusted_origins=trusted_origins,
        rate_limit=rate_limit,
        rate_limit_storage=rate_limit_storage,
    )
    worst = None if ready_at_worst is None else HealthStatus(ready_at_worst)
    return Api(service_of(guard), replace(settings, public_summary=public_summary, ready_at_worst=worst))


def settings_of(
    *,
    is_closed: bool,
    payloads_for: Role | None,
    redact: Redact | None,
    trusted_origins: Collection[str],
    rate_limit: str | None,
    rate_limit_storage: str,
) -> Settings:
    """Read the options that routes and pages have in common. Raises `ConfigurationError` for one that cannot be."""
    if payloads_for not in (None, "viewer", "operator"):
        raise ConfigurationError(f"payloads_for= takes 'viewer', 'operator' or None, not {payloads_for!r}")
    if isinstance(trusted_origins, str) or any("://" not in origin for origin in trusted_origins):
        raise ConfigurationError("trusted_origins= takes origins, such as ['https://admin.example']")
    return Settings(
        is_closed=is_closed,
        payloads_for=payloads_for,
        redact=redact,
        trusted_origins=frozenset(origin.lower().rstrip("/") for origin in trusted_origins),
        limiter=Limiter(rate_limit, rate_limit_storage),
    )


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
