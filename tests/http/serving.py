"""Real servers for the contract suite: FastAPI under uvicorn over either guard, Flask under waitress.

    served = way.serve(bed_url, planned)       # a thread of this process, a port of its own
    served.dashboard                           # where its pages are
    served.client.get("/health/projections")   # as nobody
    served.viewer.get(...)   served.operator.post(...)

The guard behind the routes is the server's own. Tests publish and work through another one on the same database, as
another process would; both call the same handlers.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi import Request as FastAPIRequest
from flask import Flask, abort
from flask import Request as FlaskRequest
from waitress import wasyncore
from waitress.server import create_server

import projection_guard.fastapi
import projection_guard.flask
from projection_guard import AsyncProjectionGuard, ProjectionGuard

__all__ = ["PREFIX", "WAYS", "Mount", "Served", "Way"]

PREFIX = "/api/v1"
Register = Callable[[Any, bool], None]
"""Registers the test's projections with a guard; True says that its handlers have to be async."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where an application puts the routes, and what its server is told that a proxy takes off in front of that."""

    prefix: str = PREFIX
    root_path: str = ""


@dataclass(slots=True)
class Served:
    """A server that runs, and clients of it: of nobody, of a viewer, of an operator."""

    url: str
    client: httpx.Client
    viewer: httpx.Client
    operator: httpx.Client
    other: httpx.Client

    @property
    def dashboard(self) -> str:
        """The address of the overview."""
        return f"{self.url}/dashboard/"


@dataclass(frozen=True, slots=True)
class Way:
    """A framework over a kind of guard."""

    framework: Literal["fastapi", "flask"]
    kind: Literal["blocking", "async"]

    @property
    def is_async(self) -> bool:
        """True over an async guard."""
        return self.kind == "async"

    @contextmanager
    def serve(
        self,
        url: str,
        register: Register,
        guard_options: dict[str, Any],
        *,
        is_open: bool = True,
        mount: Mount | None = None,
        **options: Any,
    ) -> Generator[Served]:
        """Serve the routes, under `PREFIX` if not told otherwise, and the dashboard beside them.

        `is_open=False` gives no authorize; `options` are the admin routes' and the dashboard's.
        """
        serve = _serve_fastapi if self.framework == "fastapi" else _serve_flask
        kind = AsyncProjectionGuard if self.is_async else ProjectionGuard
        guard = kind(url, worker="external", **guard_options)
        register(guard, self.is_async)
        with (
            serve(guard, guard_options.get("source"), is_open, mount or Mount(), options) as base,
            ExitStack() as stack,
        ):
            clients = [stack.enter_context(_client(base, token)) for token in (None, "viewer", "operator", "other")]
            yield Served(base, *clients)


WAYS = (Way("fastapi", "blocking"), Way("fastapi", "async"), Way("flask", "blocking"))


def _client(base: str, token: str | None) -> httpx.Client:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    # Nothing here is encrypted: without this, each client would load the authorities' certificates.
    return httpx.Client(base_url=base, headers=headers, timeout=60, verify=False, trust_env=False)


def _who(request: Any, actor: Any) -> Any:
    """Say who it is: the token is the role; "stranger" is refused by the framework's own error."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token in ("operator", "other"):
        return actor(name="Olga" if token == "operator" else "Otto", role="operator")
    return actor(name="Viktor", role="viewer") if token == "viewer" else None


def _fastapi_who(request: FastAPIRequest) -> Any:
    if request.headers.get("Authorization") == "Bearer stranger":
        raise HTTPException(401, "No such token", headers={"WWW-Authenticate": "Bearer"})
    return _who(request, projection_guard.fastapi.Actor)


def _flask_who(request: FlaskRequest) -> Any:
    if request.headers.get("Authorization") == "Bearer stranger":
        abort(401, "No such token")
    return _who(request, projection_guard.flask.Actor)


_HEALTH_OPTIONS = ("public_summary", "ready_at_worst")
_BOTH = ("redact",)


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return those of the health routes, of the admin routes, of the dashboard."""
    health = {name: value for name, value in options.items() if name in (*_HEALTH_OPTIONS, *_BOTH)}
    pages = {name: value for name, value in options.items() if name not in _HEALTH_OPTIONS}
    return health, {name: value for name, value in pages.items() if name != "name"}, pages


@contextmanager
def _listening(mount: Mount) -> Generator[tuple[socket.socket, str]]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who comes before the server does waits, and is not refused
        yield listening, f"http://127.0.0.1:{listening.getsockname()[1]}{mount.prefix}"


@contextmanager
def _serve_fastapi(guard: Any, source: Any, is_open: bool, mount: Mount, options: dict[str, Any]) -> Generator[str]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        for used in filter(None, (guard, source)):
            closing = used.close()
            if closing is not None:
                await closing

    app = FastAPI(lifespan=lifespan)
    health, admin, pages = _split(options)
    who = _fastapi_who if is_open else None
    app.include_router(projection_guard.fastapi.health_router(guard, authorize=who, **health), prefix=mount.prefix)
    app.include_router(projection_guard.fastapi.admin_router(guard, authorize=who, **admin), prefix=mount.prefix)
    app.include_router(projection_guard.fastapi.dashboard_router(guard, authorize=who, **pages), prefix=mount.prefix)
    with _listening(mount) as (listening, url):
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", root_path=mount.root_path))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@contextmanager
def _serve_flask(guard: Any, source: Any, is_open: bool, mount: Mount, options: dict[str, Any]) -> Generator[str]:
    app = Flask("tests.http")
    health, admin, pages = _split(options)
    who = _flask_who if is_open else None
    for blueprint in (
        projection_guard.flask.health_blueprint(guard, authorize=who, **health),
        projection_guard.flask.admin_blueprint(guard, authorize=who, **admin),
        projection_guard.flask.dashboard_blueprint(guard, authorize=who, **pages),
    ):
        app.register_blueprint(blueprint, url_prefix=mount.prefix or None)
    with _listening(mount) as (listening, url):
        server: Any = create_server(app, sockets=[listening], threads=8, url_prefix=mount.root_path)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield url
        finally:
            # On the loop's own thread: whoever closes a socket under select() meets an error there.
            server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map, ignore_all=True))
            thread.join(60)
            server.task_dispatcher.shutdown()
            for used in filter(None, (guard, source)):
                used.close()
            assert not thread.is_alive()
