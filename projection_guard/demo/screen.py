"""What the demo shows: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from projection_guard import Health, Notice, NoticeKind

COLOURS = {"healthy": "green", "degraded": "yellow", "critical": "dark_orange", "offline": "red"}
QUIET = {NoticeKind.PARKED, NoticeKind.RETRIED}


class Screen:
    """Shows projections, what is being done to them, and the newest notices."""

    def __init__(self, source: str, *, is_quiet: bool = False) -> None:
        self._source = source
        self._is_quiet = is_quiet
        self._live: Any = None if is_quiet else _live()
        self._notices: deque[str] = deque(maxlen=8)
        self._next_line = 0.0
        self.happened: list[str] = []

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def announce(self, what: str) -> None:
        """Say what is being done to the service now."""
        self.happened.append(what)
        if self._live is None and not self._is_quiet:
            print(f"-- {what}", flush=True)

    def tell(self, notice: Notice) -> None:
        """Add a notice of the guard's; it comes from any thread."""
        if notice.kind not in QUIET:
            change = "" if notice.after is None else f"{notice.before or ''} > {notice.after}"
            about = notice.stream_id or change
            self._notices.append(f"{notice.projection:<10} {notice.kind.value:<14} {about}")

    def show(self, healths: Iterable[Health], events: int) -> None:
        """Draw how things are."""
        if self._live is not None:
            self._live.update(self._drawn(list(healths), events))
        elif not self._is_quiet and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 1.0
            told = (f"{h.projection_name} {h.status.value} ({h.active_failures}/{h.parked_events})" for h in healths)
            print(f"{events:>5} events  " + "  ".join(told), flush=True)
            sys.stdout.flush()

    def _drawn(self, healths: list[Health], events: int) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        table = Table(expand=True, title=f"{events} events of {self._source}")
        for name in ("projection", "status", "processed", "failures", "parked", "lag", ""):
            table.add_column(name, justify="left" if name in ("projection", "status", "") else "right")
        for health in healths:
            mark = "held: looks like an outage" if health.held_since else ""
            table.add_row(
                health.projection_name,
                Text(health.status.value, style=f"bold {COLOURS[health.status.value]}"),
                str(health.total_events_processed),
                str(health.active_failures),
                str(health.parked_events),
                f"{health.lag_seconds:.1f} s",
                mark,
            )
        script = Text("\n".join(f"* {what}" for what in self.happened[-6:]), style="cyan")
        feed = Text("\n".join(list(self._notices)), style="dim", no_wrap=True)
        return Group(table, Panel(script, title="what is done to it"), Panel(feed, title="what the guard says"))


def _live() -> Any:
    """Return what redraws a terminal; None where there is none, or rich is not installed."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.live import Live
    except ImportError:
        return None
    return Live(refresh_per_second=8)
