"""The command `projection-guard`: what operators look at and do, from a shell. `docs/cli.md` is its page.

A command is a `Command` (`_command`), listed in `_commands`; it asks the guard's service for values, and gives them to
a `Screen`, which writes JSON, or text for people.
"""

from __future__ import annotations

from ._main import main

__all__ = ["main"]
