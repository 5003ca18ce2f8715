"""What goes in and out: a request and a response in no framework's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from .._model import Json

__all__ = ["LONGEST_BODY_BYTES", "Request", "Response", "json_response", "with_headers"]

LONGEST_BODY_BYTES = 65_536
"""No body that these routes take is longer; adapters read one byte more at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as an adapter read it. `path` is the whole one, decoded; headers are by lower-case name.

    `body` is a problem where it could not be read, or is longer than `LONGEST_BODY_BYTES`.
    """

    method: str
    path: str
    host: str
    path_parameters: Mapping[str, str]
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes | Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What an adapter has to send."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


_ALWAYS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def with_headers(response: Response, request_id: str | None) -> Response:
    """Add what every answer has, unless it says otherwise itself, and the id of the request that it answers."""
    named = {} if request_id is None else {"X-Request-ID": request_id}
    return replace(response, headers={**_ALWAYS, **named, **response.headers})


def json_response(
    status: int, content: Json, *, media_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """Make a response of JSON. Nothing in it can end a script element or a line of a log."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Response(status=status, body=text.encode("ascii"), media_type=media_type, headers=headers or {})
