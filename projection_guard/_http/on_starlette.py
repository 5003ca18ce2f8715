"""What FastAPI's and Starlette's adapters have in common: Starlette's requests, responses and paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from . import messages
from .asgi import Door, Guard, whole_path
from .endpoint import Endpoint
from .problems import Problem, consumed, gone

__all__ = ["NAME", "door_of", "path_of", "without_body", "written"]


class _NameConvertor(Convertor[str]):
    """A projection's name in a path: anything at all, slashes and line ends too."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


NAME: Final = "projection_guard_name"
register_url_convertor(NAME, _NameConvertor())


def path_of(endpoint: Endpoint) -> str:
    """Return a route's path as Starlette writes it."""
    return endpoint.path.replace("{name}", f"{{name:{NAME}}}")


def door_of(guard: Guard, authorize: Callable[[Request], object] | None) -> Door[Request, Response]:
    """Return where requests come in."""
    return Door(guard=guard, authorize=authorize, refuses=HTTPException, unread=_unread, written=written)


def written(response: messages.Response) -> Response:
    """Make Starlette's response of ours."""
    return Response(
        content=response.body,
        status_code=response.status,
        media_type=response.media_type,
        headers=dict(response.headers),
    )


def without_body(request: Request) -> messages.Request:
    """Read a request that came to no route."""
    return messages.Request(
        method=request.method,
        path=whole_path(request.scope),
        host="",
        path_parameters={},
        query=(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=b"",
    )


def _unread(_: Request, error: Exception) -> Problem:
    if isinstance(error, ClientDisconnect):
        return gone()
    if isinstance(error, RuntimeError):  # Starlette's word for a stream that somebody has read, keeping nothing of it
        return consumed()
    raise error
