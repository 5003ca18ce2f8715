"""Which route a path leads to, for frameworks whose own patterns know no name with slashes in the middle of a path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .endpoint import Endpoint

__all__ = ["Match", "NoRoute", "Routes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A route, and what its path's parameters are."""

    endpoint: Endpoint
    parameters: dict[str, str]


@dataclass(eq=False)
class NoRoute(Exception):
    """No route is meant. `allowed` are the methods that this path takes: none where there is no such path."""

    allowed: list[str]


class Routes:
    """Routes that are tried in their order, each with and without a slash at its end."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._routes = [(re.compile(_pattern(endpoint)), endpoint) for endpoint in endpoints]

    def match(self, method: str, path: str) -> Match:
        """Return the route for a path, decoded, without what stands before the routes' own. Raises `NoRoute`."""
        found = [(endpoint, match) for pattern, endpoint in self._routes if (match := pattern.fullmatch(path))]
        for endpoint, match in found:
            if endpoint.method == ("GET" if method == "HEAD" else method):
                return Match(endpoint=endpoint, parameters=match.groupdict())
        raise NoRoute(sorted({endpoint.method for endpoint, _ in found}))


def _pattern(endpoint: Endpoint) -> str:
    """Return a route's path as a regular expression. A projection's name is anything at all, slashes too."""
    path = "".join(_piece(piece) for piece in re.split(r"(\{\w+\})", endpoint.path))
    return path if endpoint.path.endswith("{name}") else f"{path}/?"


def _piece(piece: str) -> str:
    if not piece.startswith("{"):
        return re.escape(piece)
    name = piece[1:-1]
    return rf"(?P<{name}>[\s\S]+)" if name == "name" else f"(?P<{name}>[^/]+)"
