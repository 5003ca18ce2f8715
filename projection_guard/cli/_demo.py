"""The command that shows projections fail, park, heal and drain."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from ..demo import Unserved, add_options, demonstrate, place_of, serve
from ._command import Asked, Command
from ._exits import Exit, Refused

__all__ = ["DEMO"]


def _demo(asked: Asked) -> int:
    place = place_of(asked.options)
    shown = demonstrate(asked.options, place, is_quiet=asked.screen.is_json)

    def people() -> None:
        for line in shown.told():
            asked.screen.say(line)

    asked.screen.answer(asdict(shown), people)
    if not shown.is_fine:
        return Exit.REFUSED
    if asked.options.serve:
        try:
            serve(place, asked.options.port, say=asked.screen.remark)
        except Unserved as refused:
            raise Refused(kind="unserved", detail=str(refused)) from refused
    return Exit.FINE


DEMO: Final = Command(
    words="demo",
    help="watch projections fail, park, heal and drain, in a database of their own",
    run=_demo,
    options=add_options,
    has_guard=False,
)
