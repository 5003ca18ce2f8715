"""Commands for one stream through one projection: show it, end its taint."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Final

from .._on_streams import history_of, untaint
from .._records import StreamHistory
from . import _rendering
from ._command import Call, Command, on_records
from ._exits import Exit
from ._looking import more
from ._parser import actor_of, add_actor, add_note, add_pages
from ._screen import Cell, Screen

__all__ = ["STREAM", "UNTAINT"]

_LISTED: Final = {
    "all": "all",
    "recent": "those of the last days: how many, dedupe_window= says",
    "unlisted": "not listed, but for those that had failed; the log is not read from here",
}


async def _stream(call: Call) -> int:
    asked = call.options
    name = call.known(asked.name)
    history = await history_of(call.records, name, asked.stream, limit=asked.limit, after=asked.after)
    call.screen.answer(_rendering.rendered(history), lambda: _tell_stream(call.screen, history))
    return 0


def _tell_stream(screen: Screen, history: StreamHistory) -> None:
    screen.pairs(
        [
            ("stream", history.stream_id),
            ("state", "blocked" if history.blocked else "flows"),
            ("tainted", history.tainted_reason or ("yes" if history.tainted else "no")),
            ("parked", history.parked_events),
            *(("failure", str(failure)) for failure in history.failure_ids),
            ("applied events", _LISTED[history.applied_events]),
        ]
    )
    rows: list[Sequence[Cell]] = [
        (
            each.event_id,
            each.event_type,
            each.event_sequence,
            each.state,
            None if each.at is None else f"{each.at:%Y-%m-%d %H:%M:%S} UTC",
            "" if each.how is None else each.how.value,
            "" if each.failure_id is None else str(each.failure_id),
        )
        for each in history.page.items
    ]
    screen.say()
    names = ("event", "type", "sequence", "state", "at", "how", "failure")
    screen.table(names, rows, none=f"Of stream {history.stream_id} no event is known in {history.projection_name}.")
    more(screen, history.page)


async def _untaint(call: Call) -> int:
    asked = call.options
    name = call.known(asked.name)
    untainted = await untaint(
        call.records,
        name,
        asked.stream,
        tainted_reason=asked.tainted_reason,
        actor=actor_of(asked),
        note=asked.note,
    )
    whose = f"Stream {asked.stream} of {name}" if asked.stream else name
    said = "is not tainted any more" if untainted else "was not tainted"
    told = _rendering.untainted(name, asked.stream, untainted=untainted)
    call.screen.answer(told, lambda: call.screen.say(f"{whose} {said}"))
    return Exit.FINE if untainted else Exit.REFUSED


def _which(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="PROJECTION", help="the projection")
    parser.add_argument("stream", metavar="STREAM_ID", help="the stream")


def _options(parser: ArgumentParser) -> None:
    _which(parser)
    add_pages(parser)


def _untaint_options(parser: ArgumentParser) -> None:
    _which(parser)
    parser.add_argument("--tainted-reason", metavar="TEXT", help="only where this is still why, as `streams` told it")
    add_actor(parser)
    add_note(parser)


STREAM: Final = Command(
    words="stream",
    help="one stream: how it stands, and its events, newest first",
    run=on_records(_stream),
    options=_options,
)
UNTAINT: Final = Command(
    words="untaint",
    help="end a stream's taint: its read model was mended by hand",
    run=on_records(_untaint),
    options=_untaint_options,
)
