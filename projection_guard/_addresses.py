"""Which addresses may be reached with an alert: public ones, unless the application says otherwise.

A receiver's address is the application's, but a name in it may resolve to anything, such as a cloud's metadata service.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, cast

from .errors import AlertNotDelivered

__all__ = ["AddressRefused", "checked_addresses", "is_public", "public_only"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_WATCHED: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_AZURE: Final = ipaddress.ip_address("168.63.129.16")
"""Azure's platform service: global by its number, and reached from each of its machines."""
_ASSIGNED: Final = ipaddress.ip_network("192.0.0.0/24")
"""For protocols' own purposes (RFC 6890), among them metadata services; older Pythons take most of it for global."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64: Final = ipaddress.ip_network("64:ff9b:1::/48")
"""Where in it an address of IPv4 stands is each network's own affair (RFC 8215)."""
_COMPATIBLE: Final = ipaddress.ip_network("::/96")


class AddressRefused(AlertNotDelivered, PermissionError):
    """An address is not public, and private ones were not allowed."""


def is_public(host: str) -> bool:
    """Return whether this is the address of a host on the public internet; False for what is no address at all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return _is_public(address if isinstance(address, ipaddress.IPv4Address) else _meant(address))


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (
        address.sixtofour or address.teredo or address.is_site_local or address in _LOCAL_NAT64
    ):  # tunnels that nobody uses any more, what private networks once were, and what they translate by themselves
        return False
    is_special = address.is_multicast or address.is_reserved or address == _AZURE or address in _ASSIGNED
    return address.is_global and not is_special


def _meant(address: ipaddress.IPv6Address) -> Address:
    """Return the address of IPv4 that is written in one of IPv6, mapped or translated, or else the one of IPv6."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if any(address in network for network in (_NAT64, _COMPATIBLE)):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def checked_addresses(host: str, port: int, *, allow_private: bool) -> list[tuple[int, Any]]:
    """Resolve a name once; return families and addresses to connect to. Raises `AddressRefused`, `AlertNotDelivered`.

    One that is not public spoils all of them: a name that means both is not what it seems.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AlertNotDelivered(f"the name {host} could not be resolved") from error
    if not allow_private and not all(is_public(str(address[0])) for *_, address in found):
        raise AddressRefused(f"{host} is not at a public address; allow_private=True lets it be reached all the same")
    return [(family, address) for family, _, _, _, address in found]


class _Refused:
    """Whether a connection was refused."""

    __slots__ = ("any",)

    def __init__(self) -> None:
        self.any = False


_refused: Final[ContextVar[_Refused | None]] = ContextVar("projection_guard_public_only", default=None)
_installing: Final = threading.Lock()
_is_installed = False


@contextmanager
def public_only() -> Generator[None]:
    """Let other people's code connect to public addresses only, in this thread or task, while the block runs.

    The interpreter itself asks (an audit hook) with the very address that is connected to, so that it does not matter
    how often a name is resolved. Raises `AddressRefused` in the end where a connection was refused.
    """
    _install()
    refused = _Refused()
    token = _refused.set(refused)
    try:
        yield
    except Exception:
        if not refused.any:
            raise
    finally:
        _refused.reset(token)
    if refused.any:
        raise AddressRefused("it is not at a public address; allow_private=True lets it be reached all the same")


def _install() -> None:
    global _is_installed  # noqa: PLW0603 - a hook cannot be taken away again, and there is to be one
    with _installing:
        if not _is_installed:
            sys.addaudithook(_hook)
            _is_installed = True


def _hook(
    event: str,
    arguments: tuple[Any, ...],
    watched: frozenset[str] = _WATCHED,
    current: ContextVar[_Refused | None] = _refused,
) -> None:
    if event not in watched:
        return
    refused = current.get()
    if refused is None:
        return
    host = _host_of(arguments[1])
    if host is not None and not is_public(host):
        refused.any = True
        raise AddressRefused("not a public address")


def _host_of(address: object) -> str | None:
    """Return the host in a socket's address; None where it is none of the network."""
    return str(cast("tuple[object, ...]", address)[0]) if isinstance(address, tuple) else None
