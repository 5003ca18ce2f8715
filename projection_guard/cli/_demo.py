"""The command that shows projections fail, park, heal and drain."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from ..demo import add_options, demonstrate
from ._command import Asked, Command
from ._exits import Exit

__all__ = ["DEMO"]


def _demo(asked: Asked) -> int:
    shown = demonstrate(asked.options, is_quiet=asked.screen.is_json)

    def people() -> None:
        for line in shown.told():
            asked.screen.say(line)

    asked.screen.answer(asdict(shown), people)
    return Exit.FINE if shown.is_fine else Exit.REFUSED


DEMO: Final = Command(
    words="demo",
    help="watch projections fail, park, heal and drain, in a database of their own",
    run=_demo,
    options=add_options,
    has_guard=False,
)
