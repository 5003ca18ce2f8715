"""On behalf of which request calls are made: every audited action within carries its id.

An adapter of a framework wraps what it calls; `_store.audits` reads it where an entry is written.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import InvalidArgument

__all__ = ["act_for_nobody", "acting_for", "request_id", "within"]

_request_id: ContextVar[str | None] = ContextVar("projection_guard_request_id", default=None)


@contextmanager
def acting_for(request_id: str) -> Generator[None]:
    """Let every audited action of this block, in this thread or task, carry the id of the request that asked for it.

    1 to 255 characters, no control characters among them. Raises `InvalidArgument`.
    """
    if not _is_an_id(request_id):
        raise InvalidArgument("acting_for takes the id of a request: 1 to 255 characters, no control characters")
    with within(request_id):
        yield


@contextmanager
def within(request_id: str | None) -> Generator[None]:
    """Act for a request whose id is on record, or for none."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def _is_an_id(given: object) -> bool:
    return isinstance(given, str) and 1 <= len(given) <= 255 and all(map(_is_plain, given))


def _is_plain(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs")


def act_for_nobody() -> None:
    """Forget the request in which a worker happened to be started: what it does later is not that request's."""
    _request_id.set(None)


def request_id() -> str | None:
    """Return the id of the request that is acted for, if there is one."""
    return _request_id.get()
