"""How numbers, spans and times are told to people: short, and exact where one looks closer."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from .._policy import UNLIMITED

__all__ = ["ago", "amount", "exact", "of_retries", "plural", "rate", "shortened", "span", "visible"]

_STEPS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
_JUST_NOW_SECONDS: Final = 5.0
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
"""Characters that are not seen, or turn the direction of writing: with them a name looks like another one.

Joiners are not among them: scripts and emoji are written with those.
"""


def span(seconds: float) -> str:
    """Tell how long something lasts: the two biggest units that say anything."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.001:
        return "less than 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, told = round(seconds), list[str]()
    for size, unit in _STEPS:
        if left >= size:
            told.append(f"{int(left // size)} {unit}")
            left = round(left % size)
    if left and seconds < 3_600:
        told.append(f"{left} s")
    return " ".join(told[:2])


def ago(moment: datetime, now: datetime) -> str:
    """Tell how long ago a moment is, or in what time it comes, by its biggest unit."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < _JUST_NOW_SECONDS:
        return "just now" if seconds >= 0 else "now"
    size, unit = next(((size, unit) for size, unit in _STEPS if abs(seconds) >= size), (1.0, "s"))
    told = f"{int(abs(seconds) // size)} {unit}"
    return f"{told} ago" if seconds > 0 else f"in {told}"


def exact(moment: datetime) -> str:
    """Tell a moment to the second, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def amount(number: int) -> str:
    """Tell a number with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def rate(per_second: float | None) -> str:
    """Tell how many events there are in a second; slow ones by the minute."""
    if per_second is None:
        return "\u2013"
    if per_second == 0:
        return "0/s"
    if per_second < 0.1:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second:.1f}/s" if per_second < 10 else f"{amount(round(per_second))}/s"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Tell a number of things: `1 failure`, `2 failures`."""
    return f"{amount(number)} {one if number == 1 else many or one + 's'}"


def of_retries(most: int) -> str:
    """Tell of how many a retry is one; nothing where they have no end."""
    return "" if most == UNLIMITED else f" of {amount(most)}"


def visible(text: str) -> str:
    """Write characters that deceive the eye as JSON does, by their numbers."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shortened(text: str, longest: int) -> str:
    """Return the first line of a text, cut where it is too long for its place."""
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "\u2026"
