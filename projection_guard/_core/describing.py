"""Turn any exception into text that any database takes, whatever the exception does to avoid it.

The message holds no values where `_wording` knows how an error quotes them. The traceback holds frames only, for the
same reason.
"""

from __future__ import annotations

import hashlib
import os
import traceback
from pathlib import Path
from typing import Final

from .._policy import in_group
from .._store.failures import DescribedError
from .._wording import type_name, words_of

__all__ = ["describe", "storable"]

_LONGEST_MESSAGE: Final = 10_000
_LONGEST_TRACEBACK: Final = 50_000
_LONGEST_TYPE: Final = 255
_FRAMES: Final = 40
_MOST_TOLD: Final = 5
_CAUSED_BY: Final = "\n\n-- caused by --\n\n"
_WITH: Final = "\n\n-- with, in the group --\n\n"
_OURS: Final = f"{Path(__file__).parent.parent}{os.sep}"  # not a neighbour whose name begins like ours
"""Our own frames differ between a first delivery and a retry; like errors are alike in the handler's frames."""


def describe(error: BaseException) -> DescribedError:
    """Describe an error: its type, a bounded message, the frames it came through, a fingerprint of like errors."""
    named = storable(type_name(error), _LONGEST_TYPE)
    frames = _frames(error)
    places = [f"{frame.name}@{Path(frame.filename).name}" for frame in frames if not frame.filename.startswith(_OURS)]
    within = sorted({type_name(part) for part in in_group(error)})
    fingerprint = hashlib.sha256("\n".join([named, *within, *places[-8:]]).encode("utf-8", "replace")).hexdigest()[:32]
    return DescribedError(
        type=named,
        message=storable(words_of(error), _LONGEST_MESSAGE),
        traceback=storable(_traceback(error), _LONGEST_TRACEBACK) if frames else None,
        fingerprint=fingerprint,
    )


def storable(text: str, longest: int) -> str:
    """Make a text fit for a database: no NUL, no lone surrogates, no longer than `longest`; a cut is marked."""
    if len(text) > longest:
        mark = f"... [truncated, {len(text)} characters]"
        text = text[: max(longest - len(mark), 0)] + mark
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    try:
        return list(traceback.extract_tb(error.__traceback__, limit=-_FRAMES))
    except Exception:
        return []


def _from_the_handler(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Leave out our own frames before the first one of others: they are the way to the handler, always the same."""
    first = next((place for place, frame in enumerate(frames) if not frame.filename.startswith(_OURS)), 0)
    return frames[first:]


def _traceback(error: BaseException) -> str:
    """Tell the frames of an error, of what is in it where it is a group, and of what it came of."""
    parts: list[str] = []
    waiting: list[tuple[str, BaseException]] = [("", error)]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_TOLD:
        link, current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        parts.append(link + "".join(traceback.format_list(_from_the_handler(_frames(current)))) + type_name(current))
        before = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if before is not None:
            waiting.append((_CAUSED_BY, before))
        waiting.extend((_WITH, part) for part in reversed(in_group(current)))
    return "".join(parts)
