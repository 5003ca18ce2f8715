"""What is written: JSON for programs, aligned text for people, colours where a terminal and rich are there.

Answers go to standard output; questions, progress, remarks and refusals to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

from ._exits import Refused
from ._secrets import Hidden

__all__ = ["Cell", "Screen", "counted", "printable", "rich_console"]

_STYLES: Final = {
    "healthy": "green",
    "ok": "green",
    "degraded": "yellow",
    "warning": "yellow",
    "critical": "bold red",
    "exhausted": "red",
    "problem": "bold red",
    "offline": "bold white on red",
}
Cell = str | int | float | None


def printable(text: str) -> str:
    """Return a text in one line that leaves a terminal as it is: ids and errors come from events."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def counted(number: int, noun: str) -> str:
    """Say how many: 1 failure, 2 failures."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _said(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:g}" if isinstance(cell, float) else printable(str(cell))


def _plain_table(names: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[str]:
    widths = [max(len(row[place]) for row in [names, *rows]) for place in range(len(names))]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, numeric, strict=True)
        return "  ".join(each.rjust(width) if number else each.ljust(width) for each, width, number in cells).rstrip()

    return [line(row) for row in [names, *rows]]


def rich_console(stream: TextIO) -> Any:
    """Return rich's console for a terminal that wants it; None elsewhere, and where rich is not installed."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False, markup=False, emoji=False)


@dataclass(slots=True, kw_only=True)
class Screen:
    """Where a command writes."""

    is_json: bool
    hidden: Hidden
    out: TextIO = sys.stdout
    err: TextIO = sys.stderr
    watches: bool = False

    def answer(self, value: object, people: Callable[[], object]) -> None:
        """Give the answer: as JSON, or as `people` write it."""
        if not self.is_json:
            people()
            return
        indent = None if self.watches else 2  # one line a round for whoever watches
        told = self.hidden.out_of_all(value)
        self.out.write(json.dumps(told, ensure_ascii=True, allow_nan=False, indent=indent) + "\n")
        self.out.flush()

    def say(self, text: str = "") -> None:
        """Write a line of the answer for people."""
        self.out.write(self.hidden.out_of(printable(text)) + "\n")

    def marked(self, mark: str, text: str) -> None:
        """Write a line that begins with a word of a verdict, in its colour where there are any."""
        console = rich_console(self.out)
        if console is None:
            self.say(f"{mark:<9}{text}")
            return
        from rich.text import Text

        line = Text(f"{mark:<9}", style=_STYLES.get(mark, ""))
        console.print(line.append(self.hidden.out_of(printable(text)), style="default not bold"), soft_wrap=True)

    def raw(self, text: str) -> None:
        """Write text of ours as it is: SQL, a script."""
        self.out.write(text if text.endswith("\n") else text + "\n")

    def remark(self, text: str) -> None:
        """Say something beside the answer; programs are not told."""
        if not self.is_json:
            self.err.write(self.hidden.out_of(printable(text)) + "\n")
            self.err.flush()

    def table(self, names: Sequence[str], rows: Sequence[Sequence[Cell]], *, none: str) -> None:
        """Write a table; where it has no rows, `none` says so."""
        if not rows:
            self.say(none)
            return
        numeric = [all(not isinstance(row[place], str) for row in rows) for place in range(len(names))]
        told = [[self.hidden.out_of(_said(cell)) for cell in row] for row in rows]
        console = rich_console(self.out)
        if console is None:
            self.out.write("\n".join(_plain_table([name.upper() for name in names], told, numeric)) + "\n")
            return
        console.print(_rich_table(names, told, numeric))

    def pairs(self, pairs: Sequence[tuple[str, Cell]]) -> None:
        """Write names and what they stand for, one a line."""
        width = max(len(name) for name, _ in pairs)
        for name, cell in pairs:
            self.say(f"{name.ljust(width)}  {_said(cell)}")

    def block(self, title: str, text: str) -> None:
        """Write a text of several lines, indented."""
        self.say(f"{title}:")
        for line in text.splitlines():
            self.say(f"    {line}")

    def begin_again(self) -> None:
        """Wipe a terminal before the next look, so that each stands in the same place."""
        if self.out.isatty() and not self.is_json and os.environ.get("TERM") != "dumb":
            self.out.write("\x1b[H\x1b[2J")

    def refuse(self, refused: Refused) -> None:
        """Say why a command was not done."""
        detail = self.hidden.out_of(printable("; ".join(line.strip() for line in refused.detail.splitlines())))
        if self.is_json:
            told = {"error": refused.kind, "detail": detail, "exit_code": int(refused.code)}
            self.err.write(json.dumps(told, ensure_ascii=True) + "\n")
        else:
            self.err.write(f"projection-guard: {detail}\n")
        self.err.flush()


def _rich_table(names: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, number in zip(names, numeric, strict=True):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table
