"""Real servers for the contract suite: FastAPI, Starlette, Litestar under uvicorn, Flask and Django under waitress.

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
import litestar
import uvicorn
from fastapi import FastAPI, HTTPException
from flask import Flask, abort
from litestar.exceptions import NotAuthorizedException
from starlette.applications import Starlette
from starlette.routing import Mount as StarletteMount
from waitress import wasyncore
from waitress.server import create_server

import projection_guard.fastapi
import projection_guard.flask
import projection_guard.litestar
import projection_guard.starlette
from projection_guard import AsyncProjectionGuard, ProjectionGuard
from tests import django_project

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

    framework: Literal["fastapi", "flask", "starlette", "litestar", "django"]
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
        make = _APPS[self.framework]
        serve = _serve_wsgi if self.framework in ("flask", "django") else _serve_asgi
        kind = AsyncProjectionGuard if self.is_async else ProjectionGuard
        guard = kind(url, worker="external", **guard_options)
        register(guard, self.is_async)
        with (
            serve(make, guard, guard_options.get("source"), is_open, mount or Mount(), options) as base,
            ExitStack() as stack,
        ):
            clients = [stack.enter_context(_client(base, token)) for token in (None, "viewer", "operator", "other")]
            yield Served(base, *clients)


WAYS = (
    Way("fastapi", "blocking"),
    Way("fastapi", "async"),
    Way("flask", "blocking"),
    Way("starlette", "blocking"),
    Way("starlette", "async"),
    Way("litestar", "blocking"),
    Way("litestar", "async"),
    Way("django", "blocking"),
)


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


def _stranger(request: Any) -> bool:
    return bool(request.headers.get("Authorization") == "Bearer stranger")


def _starlette_who(request: Any) -> Any:
    if _stranger(request):
        raise HTTPException(401, "No such token", headers={"WWW-Authenticate": "Bearer"})
    return _who(request, projection_guard.starlette.Actor)


def _litestar_who(request: Any) -> Any:
    if _stranger(request):
        raise NotAuthorizedException("No such token", headers={"WWW-Authenticate": "Bearer"})
    return _who(request, projection_guard.litestar.Actor)


def _flask_who(request: Any) -> Any:
    if _stranger(request):
        abort(401, "No such token")
    return _who(request, projection_guard.flask.Actor)


def _django_who(request: Any) -> Any:
    from django.http import HttpResponse

    if _stranger(request):
        return HttpResponse("No such token", status=401)
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


Make = Callable[[Any, bool, str, dict[str, Any], Any], Any]
"""Makes an application with all routes: of a guard, open or not, under a prefix, with options, with a lifespan."""


def _fastapi_app(guard: Any, is_open: bool, prefix: str, options: dict[str, Any], lifespan: Any) -> Any:
    app = FastAPI(lifespan=lifespan)
    health, admin, pages = _split(options)
    ours, who = projection_guard.fastapi, _starlette_who if is_open else None
    app.include_router(ours.health_router(guard, authorize=who, **health), prefix=prefix)
    app.include_router(ours.admin_router(guard, authorize=who, **admin), prefix=prefix)
    app.include_router(ours.dashboard_router(guard, authorize=who, **pages), prefix=prefix)
    return app


def _starlette_app(guard: Any, is_open: bool, prefix: str, options: dict[str, Any], lifespan: Any) -> Any:
    health, admin, pages = _split(options)
    ours, who = projection_guard.starlette, _starlette_who if is_open else None
    routes = [
        *ours.health_routes(guard, authorize=who, **health),
        *ours.admin_routes(guard, authorize=who, **admin),
        *ours.dashboard_routes(guard, authorize=who, **pages),
    ]
    return Starlette(routes=[StarletteMount(prefix, routes=routes)] if prefix else routes, lifespan=lifespan)


def _litestar_app(guard: Any, is_open: bool, prefix: str, options: dict[str, Any], lifespan: Any) -> Any:
    health, admin, pages = _split(options)
    ours, who = projection_guard.litestar, _litestar_who if is_open else None
    handlers = [
        ours.health_handler(guard, authorize=who, **health),
        ours.admin_handler(guard, authorize=who, **admin),
        ours.dashboard_handler(guard, authorize=who, **pages),
    ]
    router = litestar.Router(prefix or "/", route_handlers=handlers)
    return litestar.Litestar([router], lifespan=[lifespan], logging_config=None)


def _flask_app(guard: Any, is_open: bool, prefix: str, options: dict[str, Any], _: Any) -> Any:
    app = Flask("tests.http")
    health, admin, pages = _split(options)
    ours, who = projection_guard.flask, _flask_who if is_open else None
    for blueprint in (
        ours.health_blueprint(guard, authorize=who, **health),
        ours.admin_blueprint(guard, authorize=who, **admin),
        ours.dashboard_blueprint(guard, authorize=who, **pages),
    ):
        app.register_blueprint(blueprint, url_prefix=prefix or None)
    return app


def _django_app(guard: Any, is_open: bool, prefix: str, options: dict[str, Any], _: Any) -> Any:
    django_project.set_up()
    from django.urls import include, path

    import projection_guard.django.urls as ours

    health, admin, pages = _split(options)
    who = _django_who if is_open else None
    urls = [
        *ours.health_urls(guard, authorize=who, **health),
        *ours.admin_urls(guard, authorize=who, **admin),
        *ours.dashboard_urls(guard, authorize=who, **pages),
    ]
    return django_project.application([path(f"{prefix.strip('/')}/", include(urls))] if prefix else urls)


_APPS: dict[str, Make] = {
    "fastapi": _fastapi_app,
    "flask": _flask_app,
    "starlette": _starlette_app,
    "litestar": _litestar_app,
    "django": _django_app,
}


@contextmanager
def _serve_asgi(
    make: Make, guard: Any, source: Any, is_open: bool, mount: Mount, options: dict[str, Any]
) -> Generator[str]:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        yield
        for used in filter(None, (guard, source)):
            closing = used.close()
            if closing is not None:
                await closing

    app = make(guard, is_open, mount.prefix, options, lifespan)
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
def _serve_wsgi(
    make: Make, guard: Any, source: Any, is_open: bool, mount: Mount, options: dict[str, Any]
) -> Generator[str]:
    app = make(guard, is_open, mount.prefix, options, None)
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
