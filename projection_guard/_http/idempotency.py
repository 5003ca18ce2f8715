"""The Idempotency-Key header: a request that is sent again is answered as it was, and does nothing twice.

After the IETF's draft-ietf-httpapi-idempotency-key-header: the same key with another request is 422, one that is still
being answered 409. Only an answer of success uses a key up: after any other one nothing was done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import cast
from uuid import uuid4

from .._model import Json
from .._service import Service
from .._store import requests
from .messages import Request, Response
from .problems import FieldError, Problem

__all__ = ["once"]

_HEADER = "idempotency-key"


async def once(service: Service, request: Request, actor: str, respond: Callable[[], Awaitable[Response]]) -> Response:
    """Respond, unless this was answered before: then give that answer again. Raises `Problem` 409, 422."""
    key = request.headers.get(_HEADER)
    if key is None:
        return await respond()
    asked = requests.Asked(actor=actor, key=_checked(key), digest=_digest(request), token=uuid4().hex)
    earlier = await service.write(lambda connection: requests.take(connection, asked))
    if earlier is not None:
        return _again(earlier)
    try:
        response = await respond()
    except BaseException:
        await service.context.io.shielded(service.write(lambda connection: requests.release(connection, asked)))
        raise
    content: Json = {"body": response.body.decode("ascii"), "headers": cast("Json", dict(response.headers))}
    await service.write(lambda connection: requests.answer(connection, asked, status=response.status, content=content))
    return response


def _checked(key: str) -> str:
    bare = key.strip().removeprefix('"').removesuffix('"')  # the draft quotes it, most clients do not
    if not 1 <= len(bare) <= 255 or not bare.isprintable():
        errors = [FieldError(field="Idempotency-Key", detail="It takes 1 to 255 printable characters")]
        detail = "Idempotency-Key: it takes 1 to 255 printable characters"
        raise Problem(status=422, kind="invalid-field", detail=detail, errors=errors)
    return bare


def _digest(request: Request) -> str:
    asked = [request.method.encode(), request.path.encode("utf-8", "replace"), request.body or b""]
    return sha256(b"\0".join(asked)).hexdigest()


def _again(earlier: requests.Earlier) -> Response:
    if not earlier.is_same:
        detail = "This Idempotency-Key was used for another request; take a new one for each"
        raise Problem(status=422, kind="key-reused", detail=detail)
    if earlier.status is None:
        detail = "A request with this Idempotency-Key is being answered right now; ask again shortly"
        raise Problem(status=409, kind="in-progress", detail=detail, headers={"Retry-After": "1"})
    content = cast("dict[str, Json]", earlier.content)
    headers = cast("dict[str, str]", content["headers"])
    again = Response(status=earlier.status, body=str(content["body"]).encode("ascii"), headers=headers)
    return replace(again, headers={**headers, "Idempotency-Replayed": "true"})
