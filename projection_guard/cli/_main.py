"""The command's frame: what it is given, what comes of it, and how it ends, whatever happens."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper

from .._wording import without_values
from ._command import Asked
from ._commands import COMMANDS
from ._exits import Exit, refusal_of
from ._parser import parsed, parser_of
from ._screen import Screen
from ._secrets import Hidden

__all__ = ["main"]


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code. Nothing is raised but `SystemExit`, after help was asked for."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show must not end the command
    logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())
    given = list(sys.argv[1:] if words is None else words)
    screen = Screen(is_json="--json" in given, hidden=Hidden(), out=sys.stdout, err=sys.stderr)
    try:
        code = _run(given, screen)
        screen.out.flush()
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it at the end would say so again
        code = Exit.NOBODY_READS
    return int(code)


def _run(words: Sequence[str], screen: Screen) -> int:
    shows_traceback = "--traceback" in words
    try:
        options = parsed(parser_of(COMMANDS), words)
        code: int = options.run(Asked(options=options, screen=screen))
    except BrokenPipeError:
        raise
    except Exception as error:
        if shows_traceback:
            told = without_values(error)
            lines = traceback.format_exception(type(told), told, told.__traceback__)
            screen.err.write(screen.hidden.out_of("".join(lines)))
        refused = refusal_of(error)
        screen.refuse(refused)
        return int(refused.code)
    return code
