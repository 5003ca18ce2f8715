"""How a worker service tells others that it is well: a file, a port with `/livez` and `/readyz`, systemd's socket."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Final

from ._shift import Pulse
from .errors import ConfigurationError

__all__ = ["Condition", "HealthFile", "HealthPort", "Page", "condition", "notify_systemd"]

log = logging.getLogger("projection_guard")
_DEAD_AFTER_SECONDS: Final = 300.0
"""More than the longest that one look may take: connecting to a server that says nothing is given up after 130 s by
the system, a statement after 30 s, and either is tried again for 20 s."""
_LONGEST_REQUEST_SECONDS: Final = 10.0
_FILE_EVERY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What the probes answer: `is_alive`, restart it if not; `is_ready`, it gets on with its work; `why` not."""

    is_alive: bool
    is_ready: bool
    why: str


def condition(pulse: Pulse, *, is_stopping: bool, now: float, began: float) -> Condition:
    """Judge a worker by its pulse; times are the process's monotonic clock's, `began` when it was started."""
    silent = now - max(pulse.turned_at, began)
    if silent > _DEAD_AFTER_SECONDS:
        return Condition(is_alive=False, is_ready=False, why=f"it has not looked for work for {silent:.0f} s")
    if is_stopping:
        return Condition(is_alive=True, is_ready=False, why="it is stopping")
    if pulse.looked_at == 0.0:
        return Condition(is_alive=True, is_ready=False, why="it has not looked for work yet")
    if pulse.errors_in_a_row:
        return Condition(is_alive=True, is_ready=False, why="it could not look for work; its log says why")
    return Condition(is_alive=True, is_ready=True, why="it is well")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Something that the health port shows beside the probes: its path, and what makes its type and content."""

    path: str
    content: Callable[[], tuple[str, bytes]]


class HealthFile:
    """A file whose time of change says when the worker was last alive; it is there while the worker is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_at = 0.0
        self._last: Condition | None = None
        self._trouble: str | None = None

    def show(self, found: Condition) -> None:
        """Write what is the case, when it has changed and every 5 s. Where that fails, the log says so once."""
        if not found.is_alive or (found == self._last and time.monotonic() < self._next_at):
            return
        self._last, self._next_at = found, time.monotonic() + _FILE_EVERY_SECONDS
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            beside.write_text(f"{'ready' if found.is_ready else 'not ready'}: {found.why}\n", encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            if error.strerror != self._trouble:
                log.warning("the health file %s could not be written: %s", self._path, error.strerror)
            self._trouble = error.strerror
        else:
            self._trouble = None

    def remove(self) -> None:
        """Take it away."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class HealthPort:
    """A small HTTP server for probes: `/livez` and `/readyz` answer 200 or 503 with why; any number of pages beside."""

    def __init__(self, host: str, port: int, look: Callable[[], Condition], pages: tuple[Page, ...]) -> None:
        handler = _handler(look, {page.path: page.content for page in pages})
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._server = _server_of(family)((host, port), handler)
        except OSError as error:
            raise ConfigurationError(
                f"The health port {host}:{port} cannot be opened ({error.strerror}); choose another one"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="projection_guard-health", daemon=True, args=(0.1,)
        )

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def server_bind(self) -> None:
        """Bind, and leave out the look-up of the host's name: where names are not resolved, it takes long."""
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away."""


def _server_of(family: socket.AddressFamily) -> type[_Server]:
    """Return a server for addresses of IPv4 or IPv6; it is the class that says which."""
    return type("_Server", (_Server,), {"address_family": family})


def _handler(look: Callable[[], Condition], pages: dict[str, Callable[[], tuple[str, bytes]]]) -> type:
    class Handler(BaseHTTPRequestHandler):
        timeout = _LONGEST_REQUEST_SECONDS
        server_version = "projection-guard"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in pages:
                self._page(pages[path])
            elif path in ("/livez", "/readyz"):
                found = look()
                is_well = found.is_alive if path == "/livez" else found.is_ready
                told = json.dumps({"status": "ok" if is_well else "unavailable", "reason": found.why})
                self._answer(200 if is_well else 503, "application/json", told.encode())
            else:
                known = ", ".join(["/livez", "/readyz", *pages])
                self._answer(404, "text/plain; charset=utf-8", f"There is {known}.\n".encode())

        def _page(self, content: Callable[[], tuple[str, bytes]]) -> None:
            try:
                kind, body = content()
            except Exception as error:
                log.warning("the health port could not answer %s: %s", self.path, type(error).__name__)
                self._answer(500, "text/plain; charset=utf-8", b"That could not be made; the log says why.\n")
                return
            self._answer(200, kind, body)

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name for it)
            """Say nothing of probes."""

    return Handler


def notify_systemd(message: str) -> None:
    """Tell systemd, where it has started this process as `Type=notify`: "READY=1", "STOPPING=1", "WATCHDOG=1".

    The protocol is that of sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names.
    """
    name = os.environ.get("NOTIFY_SOCKET")
    if not name or not hasattr(socket, "AF_UNIX"):
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as pipe:
        pipe.connect(address)
        pipe.sendall(message.encode())
