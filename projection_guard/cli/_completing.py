"""The command that writes a script of completion for a shell."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Final

from ._command import Asked, Command
from ._exits import Exit, Refused

__all__ = ["completion"]

_SHELLS: Final = ("bash", "zsh", "tcsh")


def completion(parser: Callable[[], ArgumentParser]) -> Command:
    """Return the command, for a parser which holds it, too."""

    def run(asked: Asked) -> int:
        try:
            import shtab
        except ImportError:
            raise Refused(
                kind="not-installed", detail="Completion needs shtab: pip install 'projection-guard[cli]'"
            ) from None
        script = str(shtab.complete(parser(), asked.options.shell))
        asked.screen.answer({"shell": asked.options.shell, "script": script}, lambda: asked.screen.raw(script))
        return Exit.FINE

    return Command(
        words="completion",
        help="write what lets a shell complete this command's words",
        run=run,
        options=_shell,
        has_guard=False,
    )


def _shell(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=_SHELLS, help="for which shell")
