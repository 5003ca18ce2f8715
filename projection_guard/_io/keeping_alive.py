"""Keepalives on connections of drivers that have no option for them: a black-holed link ends with an error.

Engines that the guard makes have them. psycopg is told the same by options of its own.
"""

from __future__ import annotations

import socket
from typing import Any, Final

__all__ = ["keep_alive"]

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))


def keep_alive(dbapi_connection: Any, _: object) -> None:
    """Let a connection that is black-holed end with an error after half a minute, as psycopg's do."""
    link = _link_of(getattr(dbapi_connection, "driver_connection", dbapi_connection))
    if link is None or link.family == getattr(socket, "AF_UNIX", None):
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _link_of(driver: Any) -> socket.socket | None:
    """Return the socket: asyncpg and asyncmy have a transport, aiomysql a writer, PyMySQL the socket itself."""
    transport = getattr(driver, "_transport", None) or getattr(driver, "_writer", None)
    link: socket.socket | None = (
        getattr(driver, "_sock", None) if transport is None else transport.get_extra_info("socket")
    )
    return link
