"""`manage.py projection_guard ...`: the command line of projection_guard, for the guard that the settings name."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser
from typing import ClassVar, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ....cli import main

_SAY: Final = "set PROJECTION_GUARD in the settings to where the guard is, such as 'shop.projections:guard'"
_ELSEWHERE: Final = ("--app", "--database")


class Command(BaseCommand):
    """Passes its words on to the command line, docs/cli.md, and ends with its exit code."""

    help = "Look at projections and act on them, run a worker: what `projection-guard` does (docs/cli.md)"
    requires_system_checks: ClassVar[list[str]] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take all words as they are."""
        parser.add_argument(
            "words", nargs=REMAINDER, help="a command, such as status, worker, failures list or db upgrade"
        )

    def handle(self, *_: object, words: list[str], **__: object) -> None:
        """Run the command line."""
        code = main([*self._guard(words), *words])
        if code:
            sys.exit(code)

    @staticmethod
    def _guard(words: list[str]) -> list[str]:
        if any(word.partition("=")[0] in _ELSEWHERE for word in words):
            return []
        where = getattr(settings, "PROJECTION_GUARD", None)
        if not isinstance(where, str) or ":" not in where:
            raise CommandError(f"Which guard? {_SAY}")
        return ["--app", where]
