"""What both the routes and the pages do with a request that is not answered as it was meant: name it, and log it."""

from __future__ import annotations

import logging
from typing import Final
from uuid import uuid4

from .._wording import without_values
from ..errors import ProjectionGuardError
from .access import Actor
from .messages import Request
from .problems import Problem, as_problem, unexpected

__all__ = ["log_refusal", "problem_of", "request_id_of"]

log = logging.getLogger("projection_guard")
_REFUSALS: Final = (401, 403, 429)


def request_id_of(request: Request) -> str:
    """Return the id that a request brings, or a new one."""
    given = request.headers.get("x-request-id")
    is_usable = given is not None and 1 <= len(given) <= 255 and given.isascii() and given.isprintable()
    return given if given is not None and is_usable else uuid4().hex


def problem_of(error: Exception, route: str, request_id: str, actor: Actor | Problem | None) -> Problem:
    """Say what an error is to whoever asked; one that nobody should have met is logged, under the request's id."""
    problem = error if isinstance(error, Problem) else _known(error, route, request_id)
    if problem.kind == "not-configured" and not isinstance(actor, Actor):
        return unexpected()
    return problem


def _known(error: Exception, route: str, request_id: str) -> Problem:
    known = as_problem(error) if isinstance(error, ProjectionGuardError) else None
    if known is not None:
        if known.status >= 500:
            log.warning("route %s: %s (request %s)", route, error, request_id)
        return known
    log.error("route %s met %s (request %s)", route, type(error).__name__, request_id, exc_info=without_values(error))
    return unexpected()


def log_refusal(problem: Problem, route: str, request_id: str, actor: Actor | Problem | None) -> None:
    """Log that somebody was not let in, or not as often as he asked."""
    if problem.status in _REFUSALS:
        who = actor.name if isinstance(actor, Actor) else "nobody"
        log.warning("route %s: refused to %s, %s (request %s)", route, who, problem.kind, request_id)
