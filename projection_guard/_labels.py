"""Values of labels, few enough for a metrics store: an application may make classes of errors as it runs."""

from __future__ import annotations

from typing import Final

__all__ = ["OTHER", "FewOf"]

OTHER: Final = "other"


class FewOf:
    """The first so many values that a projection brings stand for themselves, later ones are `OTHER`."""

    def __init__(self, most: int = 50) -> None:
        self._most = most
        self._seen: dict[str, set[str]] = {}

    def of(self, projection: str, value: str) -> str:
        """Return the value, or `OTHER`."""
        seen = self._seen.setdefault(projection, set())
        if value not in seen:
            if len(seen) >= self._most:
                return OTHER
            seen.add(value)
        return value
