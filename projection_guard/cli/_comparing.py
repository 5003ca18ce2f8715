"""What a verification has found, for people: table by table, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .._model import Replay
from ._screen import Cell, Screen, counted

__all__ = ["tell_compared"]

_LEFT_OUT: Final = {
    "waiting": "failed or parked",
    "skipped": "skipped",
    "by_hand": "mended by hand",
    "failed": "failed in the copy only",
}


def tell_compared(screen: Screen, job: Replay) -> None:
    """Write the verdict, a line for each table, and the keys of rows that differ."""
    found: Any = job.compared
    verdict = "it has drifted: rows are not what the log says" if job.drifted else "it is what the log says"
    screen.pairs([("verdict", verdict)])
    names = ("table", "rows", "missing", "unexpected", "different")
    screen.table(names, [_row(table) for table in found["tables"]], none="No table was compared.")
    for table in found["tables"]:
        for line in _samples(table):
            screen.say(line)
        if table["note"]:
            screen.remark(f"{table['table']}: {table['note']}")
    for kind, said in _LEFT_OUT.items():
        events = found["left_out"].get(kind, {}).get("events", 0)
        if events:
            screen.remark(f"Not compared: {counted(events, 'event')}, {said}")


def _row(table: Mapping[str, Any]) -> Sequence[Cell]:
    unexpected = table["unexpected"]
    return (
        table["table"],
        table["rows_live"],
        table["missing"],
        "?" if unexpected is None else unexpected,
        table["different"],
    )


def _samples(table: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for kind in ("missing", "unexpected"):
        lines += [f"{table['table']}: {kind}: {', '.join(map(str, key))}" for key in table[f"first_{kind}"] or ()]
    for row in table["first_different"] or ():
        lines.append(f"{table['table']}: different: {', '.join(map(str, row['key']))} in {', '.join(row['columns'])}")
    return lines
