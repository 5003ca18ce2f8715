"""What a page's `after` is made of: opaque to the caller, stable while new rows arrive."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Final, TypeGuard, cast
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from .._model import check_text
from ..errors import InvalidArgument

__all__ = [
    "NO_CURSOR",
    "beyond",
    "cursor",
    "read_cursor",
    "read_identity",
    "read_moment",
    "read_number",
    "read_time_cursor",
    "read_whole",
    "time_cursor",
]

NO_CURSOR: Final = "after= is not a cursor of this list; pass the `after` of the page before, unchanged"


def time_cursor(moment: datetime, identity: UUID) -> str:
    """Make the cursor of a list by time, newest first."""
    return cursor(moment.isoformat(), str(identity))


def cursor(*parts: str) -> str:
    """Make a cursor."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def read_cursor(after: str, length: int) -> list[str]:
    """Read a cursor of so many parts. Raises `InvalidArgument`."""
    try:
        padded = after.encode("ascii") + b"=" * (-len(after) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        parts = None
    if not _is_texts(parts) or len(parts) != length:
        raise InvalidArgument(NO_CURSOR)
    for part in parts:
        check_text(part, "after")
    return parts


def read_number(part: str) -> int:
    """Read a number in a cursor, 0 or more, of 64 bits. Raises `InvalidArgument`."""
    if not (part.isascii() and part.isdecimal() and len(part) < 20 and int(part) < 2**63):
        raise InvalidArgument(NO_CURSOR)
    return int(part)


def read_whole(part: str) -> int:
    """Read a whole number in a cursor, of 64 bits. Raises `InvalidArgument`."""
    return -read_number(part[1:]) if part.startswith("-") else read_number(part)


def read_moment(part: str) -> datetime:
    """Read a time in a cursor. Raises `InvalidArgument`."""
    try:
        moment = datetime.fromisoformat(part)
        moment.astimezone(UTC)  # what lies outside of the years that there are is no cursor of ours
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(NO_CURSOR) from error
    if moment.tzinfo is None:
        raise InvalidArgument(NO_CURSOR)
    return moment


def read_identity(part: str) -> UUID:
    """Read an id in a cursor. Raises `InvalidArgument`."""
    try:
        return UUID(part)
    except ValueError as error:
        raise InvalidArgument(NO_CURSOR) from error


def _is_texts(parts: object) -> TypeGuard[list[str]]:
    return isinstance(parts, list) and all(isinstance(part, str) for part in cast("list[object]", parts))


def beyond(
    moment: InstrumentedAttribute[datetime], identity: InstrumentedAttribute[UUID], after: str
) -> ColumnElement[bool]:
    """Say what follows a cursor in a list by time, newest first. Raises `InvalidArgument`."""
    at, last = read_time_cursor(after)
    return tuple_(moment, identity) < tuple_(
        bindparam("cursor_at", at, type_=moment.type), bindparam("cursor_id", last, type_=identity.type)
    )


def read_time_cursor(after: str) -> tuple[datetime, UUID]:
    """Read the cursor of a list by time. Raises `InvalidArgument`."""
    failed_at, failure_id = read_cursor(after, 2)
    return read_moment(failed_at), read_identity(failure_id)
