"""Events that no projection takes: each type is logged once, and loudly where none was ever taken.

A name in `handles=` that is mistyped, or a module that nobody imports, is no error: `publish` returns nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

__all__ = ["Untaken"]

log = logging.getLogger("projection_guard")
_SUSPICIOUS: Final = 100
_MOST_TYPES: Final = 100
_SHOWN: Final = 5


class Untaken:
    """Is told of what was published, in several threads at once. `is_fine`: some event was taken."""

    __slots__ = ("_number", "_types", "is_fine")

    def __init__(self) -> None:
        self.is_fine = False
        self._number = 0
        self._types: dict[str, None] = {}

    def note(self, event_type: str, projections: Collection[str]) -> None:
        """Note an event that none of these projections takes."""
        if event_type not in self._types and len(self._types) < _MOST_TYPES:
            self._types[event_type] = None
            log.debug("no projection takes events of type %s", event_type)
        if self.is_fine:
            return
        self._number += 1
        if self._number >= _SUSPICIOUS:
            self.is_fine = True  # said once
            log.warning(
                "%d events were published and no projection has taken any, of types such as %s: %s",
                self._number,
                ", ".join(repr(each) for each in list(self._types)[:_SHOWN]),
                "handles= names others. It goes by classes, or by types' names letter by letter"
                if projections
                else "none is registered here. Import the modules that register them",
            )
