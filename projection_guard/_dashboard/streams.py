"""The streams of a projection that do not simply flow, what is parked, and what of the log was passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .._http import answers
from .._model import Order, SkippedRange, StreamState
from .fields import Cursor, Fields, Word
from .place import Place, Shown, Visit
from .projection import Stands, look_at

__all__ = ["STREAMS"]

Tab = Literal["blocked", "tainted", "parked", "skipped"]
_WAITS_FOR: Final[Mapping[str, str]] = {
    "blocked": "an earlier event of its stream",
    "leased": "an earlier event, which is in hand",
    "paused": "the end of the pause",
    "held": "the end of the outage",
    "resetting": "the end of the reset",
    "replaying": "the end of the replay",
    "rebuilding": "the end of the rebuild",
}
_STREAMS_ON_A_PAGE: Final = 25
_ON_A_PAGE: Final = 50


class StreamsQuery(Fields):
    """What is shown; of what is parked, that of one stream."""

    show: Tab = "blocked"
    stream: Word | None = None
    after: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamsPage:
    """One of the tabs, as far as it goes on one page. `by_stream`: it is streams that wait, and that can be replayed.

    `can_replay`: this can be done now.
    """

    stands: Stands
    show: Tab
    stream: str | None
    by_stream: bool
    can_replay: bool
    waits_for: Mapping[str, str]
    streams: tuple[StreamState, ...] = ()
    parked: tuple[answers.ParkedEvent, ...] = ()
    skipped: tuple[SkippedRange, ...] = ()
    after: str | None = None


async def _streams(visit: Visit) -> Shown:
    name, asked = visit.path["name"], visit.asked(StreamsQuery)
    stands = await look_at(visit, name)
    streams: tuple[StreamState, ...] = ()
    parked: tuple[answers.ParkedEvent, ...] = ()
    skipped: tuple[SkippedRange, ...] = ()
    if asked.show in ("blocked", "tainted"):
        states = await visit.looking.streams(name, state=asked.show, limit=_STREAMS_ON_A_PAGE, after=asked.after)
        streams, after = states.items, states.after
    elif asked.show == "parked":
        events = await visit.looking.on_failures.parked(
            name, stream_id=asked.stream, limit=_ON_A_PAGE, after=asked.after
        )
        parked, after = tuple(visit.view.parked(item) for item in events.items), events.after
    else:
        ranges = await visit.looking.on_log.skipped(name, limit=_ON_A_PAGE, after=asked.after)
        skipped, after = ranges.items, ranges.after
    by_stream = stands.projection.order is Order.STREAM
    page = StreamsPage(
        stands=stands,
        show=asked.show,
        stream=asked.stream,
        by_stream=by_stream,
        can_replay=by_stream and "replay" in stands.able.can,
        streams=streams,
        parked=parked,
        skipped=skipped,
        waits_for=_WAITS_FOR,
        after=after,
    )
    live = None if asked.after else 5
    return Shown(template="streams.html", title=f"Streams of {name}", page=page, live_seconds=live)


STREAMS: Final = (Place(name="streams", path="projections/{name}/streams", do=_streams, query=StreamsQuery),)
