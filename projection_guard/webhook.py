"""A signed webhook as a receiver of alerts, by the Standard Webhooks specification (standardwebhooks.com), version 1.

    AlertPolicy(to=[SignedWebhook("https://ops.example.org/alerts", secret="whsec_...")])

The receiver verifies `webhook-signature` with the same secret, and drops an id that it has seen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from ._addresses import checked_addresses
from ._alerts import Alert
from .errors import AlertNotDelivered, ConfigurationError

__all__ = ["SignedWebhook"]

_PREFIX: Final = "whsec_"
_SHORTEST_KEY, _LONGEST_KEY = 24, 64
_MOST_BYTES_READ: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_PRINTABLE: Final = re.compile(r"[!-~]+")


class SignedWebhook:
    """Posts each alert as JSON, signed with HMAC-SHA256, to one address.

    `secret` is "whsec_" and the base64 of 24 to 64 random bytes; several, the newest first, let it be exchanged without
    a gap. The name is resolved once, and the address that was looked at is the one that is connected to: one that is
    not public is refused, unless `allow_private` (which allows http, too). No redirect is followed and no proxy is
    used; of the answer the status is read, and at most 16 KiB. Everything but resolving the name ends within
    `timeout_seconds`.
    Calling it raises `AlertNotDelivered` unless the answer is 2xx.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Sequence[str],
        allow_private: bool = False,
        timeout_seconds: float = 8.0,
        name: str = "SignedWebhook",
    ) -> None:
        self.name = name
        self._url = _checked(url, allow_private=allow_private)
        self._keys = [_key_of(each) for each in ([secret] if isinstance(secret, str) else secret)]
        if not self._keys:
            raise ConfigurationError("SignedWebhook(secret=...) takes a secret, or several")
        if not 0 < timeout_seconds <= 300:
            raise ConfigurationError("SignedWebhook(timeout_seconds=...) takes seconds above 0, at most 300")
        self._allow_private = allow_private
        self._timeout_seconds = timeout_seconds
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None

    def __repr__(self) -> str:
        return f"SignedWebhook({self._url.scheme}://{self._url.hostname}/...)"

    def __call__(self, alert: Alert) -> None:
        """Post an alert. Raises `AlertNotDelivered`."""
        body = json.dumps(
            {
                "type": f"projection_guard.alert.{alert.state}",
                "timestamp": alert.at.isoformat(),
                "data": alert.as_json(),
            },
            separators=(",", ":"),
        ).encode()
        request = self._head(str(alert.id), int(time.time()), body) + body
        try:
            status = self._exchange(request)
        except AlertNotDelivered:
            raise
        except (OSError, ValueError) as error:  # what else a socket raises says nothing of ours
            raise AlertNotDelivered(f"{self._url.hostname} was not reached ({type(error).__name__})") from error
        if 300 <= status < 400:
            raise AlertNotDelivered(f"{self._url.hostname} answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise AlertNotDelivered(f"{self._url.hostname} answered {status}")

    def _head(self, message_id: str, timestamp: int, body: bytes) -> bytes:
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        lines = (
            f"POST {path} HTTP/1.1",
            f"Host: {self._url.netloc}",
            "User-Agent: projection_guard",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Accept: */*",
            "Connection: close",
            f"webhook-id: {message_id}",
            f"webhook-timestamp: {timestamp}",
            f"webhook-signature: {self._signatures(message_id, timestamp, body)}",
        )
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")

    def _signatures(self, message_id: str, timestamp: int, body: bytes) -> str:
        signed = f"{message_id}.{timestamp}.".encode() + body
        digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in self._keys)
        return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)

    def _exchange(self, request: bytes) -> int:
        host = self._url.hostname or ""
        port = self._url.port or (80 if self._tls is None else 443)
        addresses = checked_addresses(host, port, allow_private=self._allow_private)
        end = time.monotonic() + self._timeout_seconds
        with self._connected(addresses, end) as connection:
            connection.settimeout(_left(end))
            connection.sendall(request)
            return _status(connection, end)

    def _connected(self, addresses: Sequence[tuple[int, Any]], end: float) -> socket.socket:
        """Connect to the first address that answers; one that does not leaves the others their share of the time."""
        refusal: OSError | None = None
        for number, (family, address) in enumerate(addresses):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(_left(end) / (len(addresses) - number))
                connection.connect(address)
                if self._tls is None:
                    return connection
                connection.settimeout(_left(end))
                return self._tls.wrap_socket(connection, server_hostname=self._url.hostname)
            except OSError as error:
                refusal = error
                connection.close()
            except BaseException:
                connection.close()
                raise
        raise refusal or AlertNotDelivered(f"{self._url.hostname} has no address")


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the whole exchange is over")
    return left


def _status(connection: socket.socket, end: float) -> int:
    """Read the head of the answer, past interim ones, and nothing of its body."""
    read = b""
    while True:
        head, separator, rest = read.partition(b"\r\n\r\n")
        found = _STATUS.match(read)
        if separator and found is None:
            raise AlertNotDelivered("the answer is not one of HTTP/1.1")
        if separator and found is not None:
            if not head.startswith(b"HTTP/1.1 1"):
                return int(found[1])
            read = rest
            continue
        if len(read) > _MOST_BYTES_READ:
            raise AlertNotDelivered("the head of the answer is longer than 16 KiB")
        connection.settimeout(_left(end))
        more = connection.recv(4096)
        if not more:
            raise AlertNotDelivered("the connection was closed before there was an answer")
        read += more


def _checked(url: str, *, allow_private: bool) -> SplitResult:
    """Read an address. Raises `ConfigurationError`, which does not repeat it: it may hold a token."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigurationError("SignedWebhook(url): this is not a URL") from None
    if not _PRINTABLE.fullmatch(url) or not parts.hostname:
        raise ConfigurationError(
            "SignedWebhook(url): a URL has a host, and is written in printable ASCII without spaces"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and allow_private):
        raise ConfigurationError("SignedWebhook(url): only https is sent to; http too with allow_private=True")
    if "@" in parts.netloc:
        raise ConfigurationError("SignedWebhook(url): leave user and password out; the signature says who it is from")
    return parts


def _key_of(secret: str) -> bytes:
    """Read a secret. Raises `ConfigurationError`, which does not repeat it."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise ConfigurationError("SignedWebhook(secret=...): a secret is 'whsec_' and the base64 of 24 to 64 bytes")
    return key
