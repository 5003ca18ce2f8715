"""Who may do what. Closed by default: without `authorize` there is nobody but the anonymous caller."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal
from urllib.parse import urlsplit

from .._core.admin import check_actor
from ..errors import ConfigurationError
from .messages import Request
from .problems import Problem

__all__ = ["Actor", "Need", "Role", "Who", "actor_of", "admitted", "check_origin", "refuse"]

Role = Literal["viewer", "operator"]
"""What an `Actor` may do: a viewer looks, an operator acts, too."""


class Need(IntEnum):
    """What a route asks of its caller. `SUMMARY`: nobody sees the bare names and statuses, viewers all of it."""

    NOBODY = 0
    SUMMARY = 1
    VIEWER = 2
    OPERATOR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who sends a request, as `authorize` answers: a viewer may look, an operator may also act.

    The name stands in the audit log beside what is done.
    """

    name: str
    role: Role = "viewer"

    def __post_init__(self) -> None:
        check_actor(self.name)
        if self.role not in ("viewer", "operator"):
            raise ConfigurationError(f"Actor(role=...) takes 'viewer' or 'operator', not {self.role!r}")

    @property
    def is_operator(self) -> bool:
        """True for one who may act."""
        return self.role == "operator"

    def may(self, need: Need) -> bool:
        """Return whether a route that asks this is open to this actor."""
        return need < Need.OPERATOR or self.is_operator


Who = Actor | str | None
"""What `authorize` answers: an `Actor`, the name of an operator, or None for nobody."""


def actor_of(answer: object) -> Actor | None:
    """Read what `authorize` answered: an `Actor`, a name (of an operator), or nothing, which is nobody.

    Raises `ConfigurationError` for anything else: what is not understood lets nobody in.
    """
    if answer is None or answer is False:
        return None
    if isinstance(answer, Actor):
        return answer
    if isinstance(answer, str):
        return Actor(name=answer, role="operator")
    raise ConfigurationError(
        f"authorize has to return an Actor, an operator's name, or None; it returned {type(answer).__name__}"
    )


def refuse(actor: Actor | None, *, is_closed: bool) -> Problem:
    """Say why somebody is not let in. `is_closed`: the application has not said who may come in at all."""
    if is_closed:
        detail = "Nobody has been given access: the application mounts these routes without authorize="
        return Problem(status=403, kind="closed", detail=detail)
    if actor is None:
        return Problem(status=401, kind="not-authenticated", detail="Say who you are: this route is not public")
    return Problem(
        status=403, kind="not-allowed", detail=f"{actor.name!r} may look but not act: that takes the role 'operator'"
    )


def admitted(given: Actor | Problem | None, need: Need, *, is_closed: bool, is_open: bool = False) -> Actor | None:
    """Return who is let in; None is nobody in particular, where that is enough. Raises `Problem`."""
    if isinstance(given, Actor):
        if given.may(need):
            return given
        raise refuse(given, is_closed=False)
    if is_open:
        return None
    raise given or refuse(None, is_closed=is_closed)


def check_origin(request: Request, trusted: frozenset[str]) -> None:
    """Refuse what a browser sends on behalf of another site (CSRF), by Fetch Metadata and Origin.

    Whoever is no browser sends neither and passes. `trusted` are origins, such as `https://admin.example`.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() in trusted:
        return
    site = request.headers.get("sec-fetch-site")
    is_foreign = site not in ("same-origin", "none") if site is not None else _is_elsewhere(origin, request.host)
    if is_foreign:
        raise Problem(
            status=403,
            kind="cross-site",
            detail="A page of another site sent this request; name its origin in trusted_origins= if that is meant",
        )


def _is_elsewhere(origin: str | None, host: str) -> bool:
    """Compare hosts only: a proxy that ends TLS hides the scheme from us."""
    if origin is None:
        return False
    try:
        return _without_port(urlsplit(origin).netloc) != _without_port(host)
    except ValueError:
        return True


def _without_port(host: str) -> str:
    return host.lower().removesuffix(":443").removesuffix(":80")
