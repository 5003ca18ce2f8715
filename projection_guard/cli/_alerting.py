"""Commands for alerts: what people were told of, and whether their receivers hear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from . import _rendering
from ._command import Call, Command, on_records, with_handlers
from ._exits import Exit
from ._screen import Cell

__all__ = ["ALERTING"]


async def _list(call: Call) -> int:
    found = await call.records.on_alerts.open_alerts()

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (
                each.severity,
                each.kind.value,
                each.title,
                f"{each.since:%Y-%m-%d %H:%M:%S}",
                ", ".join(each.undelivered) or "-",
            )
            for each in found
        ]
        names = ("severity", "kind", "what", "since (UTC)", "not delivered to")
        call.screen.table(names, rows, none="Nobody was told of anything that is not over.")

    call.screen.answer(_rendering.rendered(found), people)
    return Exit.FINE


async def _test(call: Call) -> int:
    found = await call.service.on_alerts.test()

    def people() -> None:
        rows: list[Sequence[Cell]] = [(each.name, each.error or "it has taken it") for each in found]
        call.screen.table(("receiver", "answer"), rows, none="There is no receiver.")

    call.screen.answer(_rendering.rendered(found), people)
    return Exit.FINE if all(each.error is None for each in found) else Exit.REFUSED


ALERTING: Final = (
    Command(words="alerts list", help="what people were told of, and is not over", run=on_records(_list)),
    Command(words="alerts test", help="give every receiver a test message now", run=with_handlers(_test)),
)
