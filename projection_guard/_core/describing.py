"""Turn any exception into text that any database takes, whatever the exception does to avoid it.

The message of a database error is the driver's own: SQLAlchemy's would carry the statement's parameters, which are the
read model's data. The traceback holds frames only, for the same reason.
"""

from __future__ import annotations

import hashlib
import traceback
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError

from .._store.failures import DescribedError

__all__ = ["describe", "storable"]

_LONGEST_MESSAGE: Final = 10_000
_LONGEST_TRACEBACK: Final = 50_000
_LONGEST_TYPE: Final = 255
_FRAMES: Final = 40
_OURS: Final = str(Path(__file__).parent.parent)
"""Our own frames differ between a first delivery and a retry; like errors are alike in the handler's frames."""


def describe(error: BaseException) -> DescribedError:
    """Describe an error: its type, a bounded message, the frames it came through, a fingerprint of like errors."""
    named = storable(_type_name(error), _LONGEST_TYPE)
    frames = _frames(error)
    places = [f"{frame.name}@{Path(frame.filename).name}" for frame in frames if not frame.filename.startswith(_OURS)]
    fingerprint = hashlib.sha256("\n".join([named, *places[-8:]]).encode("utf-8", "replace")).hexdigest()[:32]
    return DescribedError(
        type=named,
        message=storable(_message(error), _LONGEST_MESSAGE),
        traceback=storable(_traceback(error), _LONGEST_TRACEBACK) if frames else None,
        fingerprint=fingerprint,
    )


def storable(text: str, longest: int) -> str:
    """Make a text fit for a database: no NUL, no lone surrogates, no longer than `longest`; a cut is marked."""
    if len(text) > longest:
        mark = f"... [truncated, {len(text)} characters]"
        text = text[: max(longest - len(mark), 0)] + mark
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _type_name(error: BaseException) -> str:
    original = _original(error)
    kind = type(original)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _original(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _message(error: BaseException) -> str:
    try:
        return str(_original(error))
    except Exception as refused:
        return f"<the exception has no text: its __str__ raised {type(refused).__name__}>"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    try:
        return list(traceback.extract_tb(error.__traceback__, limit=-_FRAMES))
    except Exception:
        return []


def _traceback(error: BaseException) -> str:
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < 5:
        seen.add(id(current))
        parts.append("".join(traceback.format_list(_frames(current))) + _type_name(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\n-- caused by --\n\n".join(parts)
