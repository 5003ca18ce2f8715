"""Questions before something that cannot be taken back: answered by a person, or beforehand by `--yes`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

from ._exits import Refused, WrongUsage
from ._screen import Screen

__all__ = ["check_answerable", "confirm", "confirm_by_name"]


def check_answerable(screen: Screen, *, yes: bool) -> None:
    """Raise `WrongUsage` where nobody can be asked, before anything is prepared for it."""
    if screen.is_json and not yes:
        raise WrongUsage("With --json nobody is asked; say --yes where it is meant")


def confirm(screen: Screen, question: str, *, yes: bool) -> None:
    """Go on only where somebody says yes. Raises `Refused`."""
    if yes:
        return
    if _answer(screen, f"{question} [y/N] ").lower() not in ("y", "yes"):
        raise _nothing_done()


def confirm_by_name(screen: Screen, consequences: str, name: str, *, yes: bool) -> None:
    """Go on only where somebody types the projection's name. Raises `Refused`."""
    if yes:
        return
    screen.remark(consequences)
    if _answer(screen, f"Type its name, {name}, to go on: ") != name:
        raise _nothing_done()


def _nothing_done() -> Refused:
    return Refused(kind="not-confirmed", detail="Nothing was done: it was not confirmed (--yes does so beforehand)")


def _answer(screen: Screen, question: str) -> str:
    check_answerable(screen, yes=False)
    screen.err.write(screen.hidden.out_of(question))
    screen.err.flush()
    with _ctrl_c_interrupts():
        line = sys.stdin.readline()
    if not line.endswith("\n"):
        screen.err.write("\n")
    return line.strip()


@contextmanager
def _ctrl_c_interrupts() -> Generator[None]:
    """Let Ctrl-C end the reading of a line also where a loop has taken the signal for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
