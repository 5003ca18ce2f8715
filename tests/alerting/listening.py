"""A real HTTP receiver on loopback, which notes what it is sent and answers as it is told."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

from projection_guard import Alert, AlertKind

__all__ = ["Requests", "an_alert", "listening"]


def an_alert() -> Alert:
    """Return an alert like any other."""
    now = datetime.now(UTC)
    return Alert(
        id=uuid4(),
        incident=uuid4(),
        kind=AlertKind.LAG,
        state="firing",
        severity="warning",
        title="P: 301 s behind",
        text="Start more workers \N{EM DASH} or look for locks.",
        projection="P",
        worker=None,
        facts={"lag_seconds": 301.0},
        since=now,
        at=now,
    )


@dataclass
class Requests:
    """What was sent. `answer` is the status that is answered, with these `headers` more."""

    url: str = ""
    answer: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def listening(certificate: Path | None = None) -> Generator[Requests]:
    """Listen while the block runs, by https where a certificate with its key is given."""
    requests = Requests()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(requests.answer)
            for name, value in requests.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            requests.seen.append((self.path, {}, b"a redirect was followed"))
            self.send_response(204)
            self.end_headers()

        def handle(self) -> None:
            with suppress(ssl.SSLError, ConnectionError):  # the other side went away
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    requests.url = f"http://127.0.0.1:{server.server_port}"
    if certificate is not None:
        requests.url = f"https://localhost:{server.server_port}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
