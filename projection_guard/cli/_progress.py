"""How far something has come: a bar on a terminal with rich, else a line now and then; nothing beside JSON."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Final, Self

from ._screen import Screen, rich_console

__all__ = ["Progress", "lasting"]

_LINE_EVERY_SECONDS: Final = 5.0


def lasting(seconds: float) -> str:
    """Say a time: 12 s, 3 min, 2.5 h, 4 d."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} d"


class Progress:
    """Shows on standard error how far something has come, while the block lasts."""

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen = screen
        self._title = title
        self._bar: Any = None
        self._task: Any = None
        self._line_at = time.monotonic() + _LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        console = None if self._screen.is_json else rich_console(self._screen.err)
        if console is not None:
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn
            from rich.progress import Progress as Bar

            note = TextColumn("{task.fields[note]}", markup=False)
            self._bar = Bar(
                TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), note, console=console
            )
            self._task = self._bar.add_task(self._title, total=1.0, note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, share: float, note: str) -> None:
        """Say how far it is, from 0 to 1, and what there is to say of it."""
        if self._bar is not None:
            self._bar.update(self._task, completed=share, note=note)
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + _LINE_EVERY_SECONDS
            self._screen.remark(f"{self._title}: {share:.0%}, {note}")
