"""The demo's service kept open with its dashboard, and with something to mend: `make demo DEMO_ARGS=--serve`.

It serves this machine only, and everybody on it is an operator: it is for looking, with data that nobody needs.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import HTTPServer
from itertools import count
from typing import Any, Final

from sqlalchemy import Engine, create_engine
from tenacity import stop_after_attempt, wait_exponential, wait_fixed

from projection_guard import ProjectionGuard, RetryPolicy, SqlEventSource
from projection_guard.demo import read_models as rm
from projection_guard.demo.faults import Faults
from projection_guard.demo.history import Change, recorded
from projection_guard.demo.service import Place, register
from projection_guard.demo.store import EventStore, event_of

__all__ = ["Unserved", "serve"]

HOST: Final = "127.0.0.1"
AT_ONCE: Final = RetryPolicy(wait=wait_fixed(0.05), stop=stop_after_attempt(3), breaker=None)
UNHURRIED: Final = RetryPolicy(wait=wait_exponential(multiplier=3, max=60), stop=stop_after_attempt(5))
NAMELESS: Final = ("LICENSE", "Makefile", "docs/README", "deploy/Dockerfile", "bin/release", "bin/backup")
"""Documents without an extension, on which the bug in Documents fails."""
A_HICCUP_EVERY: Final = 15


class Unserved(Exception):
    """It cannot be served; the message says what to do."""


def serve(place: Place, port: int, *, say: Callable[[str], None]) -> None:
    """Keep the service open until Ctrl-C, which is raised once everything is closed. Raises `Unserved`."""
    with _listening(port) as listening, _engine_of(place) as engine:
        rm.metadata.create_all(engine)
        store, faults, feed = EventStore(engine), Faults(), rm.Feed(place.feed)
        say("")
        say("breaking something that you can mend ...")
        with ProjectionGuard(engine, worker="external") as guard:
            guard.migrate()
        with _guarded(engine, AT_ONCE, faults, feed) as guard:
            _break(guard, store, faults)
        with _guarded(engine, UNHURRIED, faults, feed) as guard, _trickle(guard, store, faults):
            server = _server(guard, listening)
            for line in _told(listening.getsockname()[1]):
                say(line)
            try:
                HTTPServer.serve_forever(server)  # werkzeug's own keeps Ctrl-C to itself
            finally:
                server.server_close()


def _told(port: int) -> list[str]:
    return [
        f"Open http://{HOST}:{port}/dashboard/",
        "  Documents: a bug made some events fail, others are parked behind them. Its fix is deployed: retry them all.",
        "  Authors: one event cannot be true. Open the failure, edit the event, and retry it; or skip it.",
        "  Folders: what fails now and then heals by itself. Everything can be paused and replayed, too.",
        "Ctrl-C ends it.",
    ]


@contextmanager
def _listening(port: int) -> Generator[socket.socket]:
    """Take the port before anything is done."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise Unserved(f"{HOST}:{port} cannot be listened on ({error}): --port N takes another one") from error
        listening.listen()
        yield listening


@contextmanager
def _engine_of(place: Place) -> Generator[Engine]:
    engine = create_engine(place.url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _guarded(engine: Engine, retry: RetryPolicy, faults: Faults, feed: rm.Feed) -> Generator[ProjectionGuard]:
    """Follow the service's log, with a worker; replays need a log that can be read again."""
    source = SqlEventSource(engine, "events", decode=event_of)
    with ProjectionGuard(engine, source=source, retry=retry) as guard:
        register(guard, faults, feed)
        with guard.worker(poll_seconds=0.2):
            yield guard
    source.close()


def _break(guard: ProjectionGuard, store: EventStore, faults: Faults) -> None:
    """Leave what a person has to decide: failures of a bug that is mended now, and an event that cannot be true."""
    faults.bug_in_documents = True
    for path in NAMELESS * 2:
        store.append(_change(path, added=12))
    store.append(_change("reports/2026-03.md", added=-3))
    store.append(_change("reports/2026-03.md", added=40))
    publisher = guard.publisher(wait=30)
    publisher.publish(store.append(_change("reports/2026-04.md", added=25)))
    waiting = threading.Event()
    while any(failure.next_retry_at is not None for failure in guard.failures(limit=100).items):
        waiting.wait(0.05)
    faults.bug_in_documents = False


def _change(path: str, *, added: int) -> Change:
    return Change("", "Olga Novak", "2026-04-01T09:30:00+00:00", path, added, 0)


@contextmanager
def _trickle(guard: ProjectionGuard, store: EventStore, faults: Faults) -> Generator[None]:
    """Let people go on working meanwhile: a change a second, some of which meet a hiccup."""
    ended, history, publisher = threading.Event(), recorded(400), guard.publisher()

    def publish() -> None:
        for number in count():
            if ended.wait(1.0):
                return
            event = store.append(history[number % len(history)])
            if number % A_HICCUP_EVERY == A_HICCUP_EVERY // 3:
                faults.hiccups.add(event.event_id)
            publisher.publish(event)

    thread = threading.Thread(target=publish, name="trickle", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _server(guard: ProjectionGuard, listening: socket.socket) -> Any:
    """Make a server of the dashboard. A page of another site that was led to this address is nobody here."""
    try:
        from flask import Flask, Request
        from werkzeug.serving import WSGIRequestHandler, make_server

        from projection_guard.flask import Actor, dashboard_blueprint
    except ImportError as error:
        raise Unserved("--serve needs flask: pip install 'projection-guard[demo]'") from error

    class Silent(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - werkzeug's name
            """Say nothing of each request."""

    port = listening.getsockname()[1]
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}

    def who(request: Request) -> Actor | None:
        return Actor(name="you", role="operator") if request.host in hosts else None

    app = Flask("projection_guard.demo")
    dashboard = dashboard_blueprint(guard, authorize=who, payloads_for="operator", name="Document service")
    app.register_blueprint(dashboard)
    app.add_url_rule("/", view_func=lambda: ("", 303, {"Location": "dashboard/"}), endpoint="root")
    return make_server(HOST, port, app, threaded=True, request_handler=Silent, fd=listening.fileno())
