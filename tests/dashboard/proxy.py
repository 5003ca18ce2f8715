"""A proxy as people put one in front of applications: it takes a path off, and tells the application nothing of it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx

__all__ = ["Proxy", "proxied"]

_OF_THE_CONNECTION: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Proxy:
    """A proxy that runs. While `is_down` it hangs up on whoever comes."""

    url: str
    is_down: bool = False
    asked: int = 0

    def seen_from_outside(self, address: str) -> str:
        """Return where an address of the application is to be found."""
        return self.url + urlsplit(address).path.lstrip("/")


@contextmanager
def proxied(address: str, stripped: str = "/") -> Generator[Proxy]:
    """Run a proxy in front of the server that has this address; `stripped` is the path that it takes off."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}{stripped}")
    behind = urlunsplit((*urlsplit(address)[:2], "/", "", ""))
    with httpx.Client(base_url=behind, timeout=60, verify=False, trust_env=False) as client:
        server.RequestHandlerClass = _handler(proxy, client, stripped)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            server.server_close()
            thread.join(60)
            assert not thread.is_alive()


def _handler(proxy: Proxy, client: httpx.Client, stripped: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.asked += 1
            if proxy.is_down:
                self.close_connection = True
                return
            if not self.path.startswith(stripped):
                self.send_error(404)
                return
            told = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = client.request(self.command, self.path.removeprefix(stripped), headers=told, content=body)
            self.send_response(answer.status_code)
            for name, value in answer.headers.multi_items():
                if name not in (*_OF_THE_CONNECTION, "content-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET  # noqa: N815 - the standard library's names

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Say nothing."""

    return Handler
