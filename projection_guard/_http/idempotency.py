"""The Idempotency-Key header: a request that is sent again is answered as it was, and does nothing twice.

After the IETF's draft-ietf-httpapi-idempotency-key-header: the same key with another request is 422, one that is still
being answered 409. A request that was refused has done nothing, and releases its key. One that was broken off may have
been done: its key is answered 409 from then on, and says where to look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Final, cast
from uuid import uuid4

from .._model import Json
from .._service import Service
from .._store import requests
from ..errors import ProjectionGuardError, StoreUnavailable
from .messages import Request, Response
from .problems import FieldError, Problem

__all__ = ["once"]

_HEADER: Final = "idempotency-key"


async def once(
    service: Service, request: Request, *, route: str, actor: str, respond: Callable[[], Awaitable[Response]]
) -> Response:
    """Respond, unless this was answered before: then give that answer again. Raises `Problem` 409, 422."""
    key = request.headers.get(_HEADER)
    if key is None:
        return await respond()
    asked = requests.Asked(actor=actor, key=_checked(key), digest=_digest(route, request), token=uuid4().hex)
    earlier = await service.write(lambda connection: requests.take(connection, asked))
    if earlier is not None:
        return _again(earlier)
    try:
        response = await respond()
    except BaseException as error:
        leave = requests.release if _has_done_nothing(error) else requests.break_off
        with suppress(ProjectionGuardError):  # then it counts as broken off once its time is over
            await service.context.io.shielded(service.write(lambda connection: leave(connection, asked)))
        raise
    content: Json = {"body": response.body.decode("ascii"), "headers": cast("Json", dict(response.headers))}
    await service.write(lambda connection: requests.answer(connection, asked, status=response.status, content=content))
    return response


def _has_done_nothing(error: BaseException) -> bool:
    """Return whether a request was refused. What a database or a defect broke off may have been done."""
    is_ours = isinstance(error, (Problem, ProjectionGuardError))
    return is_ours and not isinstance(error, StoreUnavailable)


def _checked(key: str) -> str:
    bare = key.strip().removeprefix('"').removesuffix('"')  # the draft quotes it, most clients do not
    if not 1 <= len(bare) <= 255 or not bare.isprintable():
        errors = [FieldError(field="Idempotency-Key", detail="It takes 1 to 255 printable characters")]
        detail = "Idempotency-Key: it takes 1 to 255 printable characters"
        raise Problem(status=422, kind="invalid-field", detail=detail, errors=errors)
    return bare


def _digest(route: str, request: Request) -> str:
    """Tell a request from another one: by its route, its path, its query and its body."""
    body = request.body if isinstance(request.body, bytes) else b""
    asked = [route, request.path.rstrip("/"), repr(sorted(request.query))]
    return sha256(b"\0".join([part.encode("utf-8", "replace") for part in asked] + [body])).hexdigest()


def _again(earlier: requests.Earlier) -> Response:
    if not earlier.is_same:
        detail = "This Idempotency-Key was used for another request; take a new one for each"
        raise Problem(status=422, kind="key-reused", detail=detail)
    if earlier.is_broken_off:
        detail = (
            "An earlier request with this Idempotency-Key was broken off, and may have been done: look at the audit "
            "log, and where it was not, send it with a new key"
        )
        raise Problem(status=409, kind="broken-off", detail=detail)
    if earlier.status is None:
        detail = "A request with this Idempotency-Key is being answered right now; ask again shortly"
        raise Problem(status=409, kind="in-progress", detail=detail, headers={"Retry-After": "1"})
    content = cast("dict[str, Json]", earlier.content)
    headers = cast("dict[str, str]", content["headers"])
    again = Response(status=earlier.status, body=str(content["body"]).encode("ascii"), headers=headers)
    return replace(again, headers={**headers, "Idempotency-Replayed": "true"})
