"""What the adapters of ASGI frameworks have in common: read a request, ask who sends it, answer where it may wait."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar, cast
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from .._async_guard import AsyncProjectionGuard
from .._guard import ProjectionGuard
from .._io.protocol import drive
from . import messages
from .access import Actor, Need
from .api import Api
from .endpoint import Endpoint
from .mounting import named, not_understood, refusal
from .problems import Problem, too_large

__all__ = ["AsgiRequest", "Door", "Guard", "Pages", "behind", "whole_path"]

Guard = ProjectionGuard | AsyncProjectionGuard
W = TypeVar("W")


class AsgiRequest(Protocol):
    """A request, as far as Starlette's and Litestar's are alike."""

    @property
    def method(self) -> str: ...

    @property
    def scope(self) -> Any: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def query_params(self) -> Any: ...

    @property
    def path_params(self) -> Mapping[str, Any]: ...

    def stream(self) -> AsyncIterator[bytes]: ...


R = TypeVar("R", bound=AsgiRequest)


class HttpError(Protocol):
    """An error by which an application refuses a request."""

    status_code: int
    detail: str
    headers: Any


class Pages(Protocol):
    """The dashboard, as it is seen from here."""

    def is_open(self, path: str) -> bool:
        """Return whether a path leads to a file that everybody may have."""
        ...

    def file(self, path: str) -> messages.Response:
        """Answer with such a file."""
        ...

    def respond(
        self, request: messages.Request, actor: Actor | Problem | None
    ) -> Coroutine[object, None, messages.Response]:
        """Answer a request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Door(Generic[R, W]):
    """Where requests of one framework come in. `refuses` is its error by which an application refuses one.

    `unread(error)` says what an error in reading a body means; `written` makes its response of ours.
    """

    guard: Guard
    authorize: Callable[[R], object] | None
    refuses: type[Exception]
    unread: Callable[[R, Exception], Problem]
    written: Callable[[messages.Response], W]

    async def answer(
        self, api: Api, endpoint: Endpoint, request: R, path_parameters: Mapping[str, str] | None = None
    ) -> W:
        """Answer a request to a route."""
        actor = None if endpoint.needs is Need.NOBODY else await self._identified(request)
        asked = await self._read(request, request.path_params if path_parameters is None else path_parameters)
        return await self._run(api.respond(endpoint, asked, actor), is_instant=endpoint.is_instant)

    async def show(self, pages: Pages, request: R, path: str, longest_bytes: int) -> W:
        """Answer a request for a page; `path` is the part behind the dashboard's own."""
        if pages.is_open(path):
            return self.written(pages.file(path))
        actor = await self._identified(request, may_redirect=True)
        asked = await self._read(request, {"path": path}, longest_bytes)
        return await self._run(pages.respond(asked, actor))

    def refused(self, error: Exception, *, may_redirect: bool = False) -> Problem | None:
        """Tell what the application refused; None where that is not what the error says."""
        if not isinstance(error, self.refuses):
            return None
        said = cast("HttpError", error)
        return refusal(said.status_code, str(said.detail), dict(said.headers or {}), may_redirect=may_redirect)

    async def _run(self, answering: Coroutine[object, None, messages.Response], *, is_instant: bool = False) -> W:
        if is_instant or isinstance(self.guard, AsyncProjectionGuard):
            return self.written(await answering)
        return self.written(await to_thread.run_sync(partial(drive, answering), limiter=_threads()))

    async def _identified(self, request: R, *, may_redirect: bool = False) -> Actor | Problem | None:
        authorize = self.authorize
        if authorize is None:
            return None
        try:
            if inspect.iscoroutinefunction(authorize):
                answer: object = await authorize(request)
            else:
                answer = await to_thread.run_sync(authorize, request)
                if inspect.isawaitable(answer):
                    answer = await answer
        except Exception as error:
            return self.refused(error, may_redirect=may_redirect) or not_understood(error)
        return named(answer)

    async def _read(
        self, request: R, path_parameters: Mapping[str, str], longest_bytes: int = messages.LONGEST_BODY_BYTES
    ) -> messages.Request:
        return messages.Request(
            method=request.method,
            path=whole_path(request.scope),
            host=request.headers.get("host", ""),
            path_parameters=path_parameters,
            query=tuple(cast("Iterable[tuple[str, str]]", request.query_params.multi_items())),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=b"" if request.method == "GET" else await self._body(request, longest_bytes),
        )

    async def _body(self, request: R, longest_bytes: int) -> bytes | Problem:
        """Read the body; of one that is too long no more is read than shows that."""
        found = bytearray()
        try:
            async for chunk in request.stream():
                found += chunk
                if len(found) > longest_bytes:
                    return too_large(longest_bytes)
        except Exception as error:
            return self.unread(request, error)
        return bytes(found)


def whole_path(scope: Mapping[str, Any]) -> str:
    """Return the whole path, decoded. A proxy that strips the root's path leaves it to us to say so."""
    raw: bytes | None = scope.get("raw_path")
    path = str(scope["path"]) if raw is None else unquote(raw.partition(b"?")[0].decode("ascii"))
    root = str(scope.get("root_path", ""))
    return path if path.startswith(f"{root}/") else root + path


def behind(scope: Mapping[str, Any]) -> str:
    """Return the part of a path that a route's last parameter, `path`, stands for, as it was sent.

    For frameworks that take slashes away before they match, and tell a route's own path by `path_template`.
    """
    own: int = scope["path_template"].partition("/{path")[0].count("/")
    path = whole_path(scope).removeprefix(str(scope.get("root_path", "")))
    found = re.match(rf"(?:/+[^/]+){{{own}}}", path)
    return "" if found is None else path[found.end() :]


_MOST_THREADS: Final = 20
_own_threads: RunVar[CapacityLimiter] = RunVar("projection_guard_threads")


def _threads() -> CapacityLimiter:
    """Return which threads of this loop's are ours: so many, so that a silent database uses up no others."""
    try:
        return _own_threads.get()
    except LookupError:
        _own_threads.set(CapacityLimiter(_MOST_THREADS))
        return _own_threads.get()
