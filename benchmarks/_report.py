"""What a measurement says, and how it is printed: one row a ratio."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Row", "as_json", "print_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure: a ratio against a baseline of the same run. Without a `target` it only informs."""

    benchmark: str
    measure: str
    ratio: float | None = None
    target: float | None = None
    target_is: Literal["at most", "at least"] = "at most"
    microseconds: float | None = None
    baseline_microseconds: float | None = None
    remark: str = ""
    holds: bool | None = None
    """Says whether a rule was kept that is no ratio; None where there is none."""

    @property
    def is_met(self) -> bool | None:
        """Return whether the target is met; None where there is none."""
        if self.holds is not None or self.target is None or self.ratio is None:
            return self.holds
        return self.ratio <= self.target if self.target_is == "at most" else self.ratio >= self.target


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title="projection_guard: cost against a baseline of the same run", title_justify="left")
    table.add_column("benchmark", no_wrap=True)
    table.add_column("measure")
    for column in ("ratio", "target", "", "us", "baseline us"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("remark")
    last = ""
    for row in rows:
        if last and row.benchmark != last:
            table.add_section()
        table.add_row(
            row.benchmark if row.benchmark != last else "",
            escape(row.measure),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            _target(row),
            {True: "[green]met[/]", False: "[red]not met[/]", None: ""}[row.is_met],
            _whole(row.microseconds),
            _whole(row.baseline_microseconds),
            escape(row.remark),
        )
        last = row.benchmark
    # Into a file, a table as wide as it wants to be reads better than one of 80 columns.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"{'<=' if row.target_is == 'at most' else '>='} {row.target:.2f}"


def _whole(microseconds: float | None) -> str:
    return "" if microseconds is None else f"{microseconds:,.0f}"


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows, and where they were measured, as JSON."""
    where = {"python": platform.python_version(), "machine": platform.platform()}
    return json.dumps({"where": where, "rows": [asdict(row) | {"is_met": row.is_met} for row in rows]}, indent=2)
