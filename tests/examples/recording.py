"""Makes the moving picture of the demo that README and docs show: `python -m tests.examples.recording`.

The demo runs in a real terminal, a pseudo-terminal whose screen `pyte` keeps. A frame is taken a moment after something
new was done to the service, and one at the end. The SVG has no scripts, fonts or links.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Final

import pyte

__all__ = ["COLUMNS", "IMAGE", "Frame", "drawn", "record"]

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = ROOT / "docs" / "images" / "demo.svg"
COLUMNS: Final = 100
LINES: Final = 30
PANELS: Final = 2
LONGEST_SECONDS: Final = 170
SETTLES_SECONDS: Final = 0.8
SHOWN_SECONDS: Final = 2.6
_WIDE, _HIGH, _MARGIN = 8.4, 19, 14
_PAPER, _INK = "#0d1117", "#e6edf3"
_COLOURS: Final = {
    "default": _INK,
    "black": "#8b949e",
    "red": "#ff7b72",
    "green": "#56d364",
    "brown": "#e3b341",
    "yellow": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "white": _INK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Characters beside each other that look alike."""

    column: int
    text: str
    colour: str
    is_bold: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a screen showed at one moment, line by line."""

    lines: tuple[tuple[Run, ...], ...]

    @property
    def text(self) -> str:
        """The words of it, a line each."""
        return "\n".join("".join(run.text for run in line) for line in self.lines)


def record(*words: str) -> list[Frame]:
    """Run the demo in a terminal; return what is worth being shown of it, in order."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    command = [sys.executable, "-m", "projection_guard", "demo", *words]
    demo = subprocess.Popen(
        command, cwd=ROOT, stdin=its, stdout=its, stderr=its, env=os.environ | {"TERM": "xterm-256color"}
    )
    os.close(its)
    try:
        frames = _watched(ours)
        if demo.wait(LONGEST_SECONDS) != 0:
            raise RuntimeError(f"the demo ended with {demo.returncode}:\n{frames[-1].text}")
    finally:
        demo.kill()
        demo.wait()
        os.close(ours)
    return frames


def _watched(terminal: int) -> list[Frame]:
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    frames: list[Frame] = []
    told, due = 0, None
    while written := _read(terminal):
        stream.feed(written)
        now = time.monotonic()
        if sum(line.startswith("╰") and line.rstrip().endswith("╯") for line in screen.display) != PANELS:
            continue  # it is being drawn
        done = sum(line.startswith("│ * ") for line in screen.display)
        if done != told:
            told, due = done, now + SETTLES_SECONDS
        elif due is not None and now >= due:
            frames.append(_frame(screen))
            due = None
    return [*frames, _frame(screen)]


def _read(terminal: int) -> bytes:
    """Return what the program wrote; nothing once it has ended, which a terminal tells by an error."""
    if not select.select([terminal], [], [], LONGEST_SECONDS)[0]:
        raise TimeoutError(f"the demo said nothing for {LONGEST_SECONDS} s")
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def _frame(screen: pyte.Screen) -> Frame:
    lines: list[tuple[Run, ...]] = []
    for number in range(screen.lines):
        cells = [(column, screen.buffer[number][column]) for column in range(screen.columns)]
        runs = [list(alike) for _, alike in groupby(cells, key=lambda cell: (cell[1].fg, cell[1].bold))]
        made = (_run(run) for run in runs)
        lines.append(tuple(run for run in made if run.text.strip()))
    return Frame(lines=tuple(lines))


def _run(cells: list[tuple[int, pyte.screens.Char]]) -> Run:
    column, first = cells[0]
    text = "".join(cell.data for _, cell in cells)
    colour = first.fg if first.fg in _COLOURS else f"#{first.fg}"
    return Run(
        column=column + len(text) - len(text.lstrip()),
        text=text.strip(),
        colour=_COLOURS.get(colour, colour),
        is_bold=first.bold,
    )


def drawn(frames: list[Frame]) -> str:
    """Return an SVG that shows the frames one after the other, for ever; the last alone to whom motion is too much."""
    wide, high = COLUMNS * _WIDE + 2 * _MARGIN, LINES * _HIGH + 2 * _MARGIN
    share = 100 / len(frames)
    shows = "\n".join(f".f{n} {{ animation-delay: {n * SHOWN_SECONDS:.1f}s }}" for n in range(len(frames)))
    style = (
        f"text {{ font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre }}\n"
        f"g {{ visibility: hidden; animation: show {len(frames) * SHOWN_SECONDS:.1f}s step-end infinite }}\n"
        f"@keyframes show {{ 0% {{ visibility: visible }} {share:.3f}% {{ visibility: hidden }} }}\n{shows}\n"
        f"@media (prefers-reduced-motion) {{ g {{ animation: none }} .f{len(frames) - 1} {{ visibility: visible }} }}"
    )
    body = "\n".join(_group(number, frame) for number, frame in enumerate(frames))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" role="img" '
        f'aria-label="make demo in a terminal: read models fail, park, heal and drain">\n<style>{style}</style>\n'
        f'<rect width="100%" height="100%" rx="8" fill="{_PAPER}"/>\n{body}\n</svg>\n'
    )


def _group(number: int, frame: Frame) -> str:
    texts = "\n".join(_text(row, run) for row, line in enumerate(frame.lines) for run in line)
    return f'<g class="f{number}">\n{texts}\n</g>'


def _text(row: int, run: Run) -> str:
    """Return the words where they stood, as wide as they were there, whatever the font."""
    weight = ' font-weight="bold"' if run.is_bold else ""
    return (
        f'<text x="{_MARGIN + run.column * _WIDE:.1f}" y="{_MARGIN + (row + 0.75) * _HIGH:.1f}" '
        f'textLength="{len(run.text) * _WIDE:.1f}" fill="{run.colour}"{weight}>{escape(run.text, quote=False)}</text>'
    )


if __name__ == "__main__":
    IMAGE.write_text(drawn(record("--repo", ".")), encoding="utf-8")
