"""One stream through one projection: how it stands, and what has become of each of its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .._model import Order
from .._on_streams import history_of
from .._records import StreamHistory, StreamListing
from .fields import Cursor, Fields
from .place import Place, Shown, Visit
from .projection import Stands, look_at

__all__ = ["STREAM"]

_ON_A_PAGE: Final = 50
_LISTED: Final[Mapping[StreamListing, str]] = {
    "all": "All of its events, as the log has them.",
    "recent": "Applied events are on record for a while only; older ones are not listed.",
    "unlisted": "Only events of which something is on record, such as a failure. Applied ones are not listed: the "
    "source cannot read the log by stream; a table of events needs an index that begins with the stream.",
}
_HOW: Final[Mapping[str, str]] = {
    "auto_retry": "healed by a retry",
    "manual_retry": "retried by a person",
    "manual_replay": "replayed",
    "manual_skip": "skipped by a person",
    "manual_fix": "mended by hand",
    "manual_reset": "reset",
}
_TONES: Final[Mapping[str, str]] = {
    "applied": "good",
    "failed": "bad",
    "parked": "warn",
    "skipped": "warn",
    "missed": "bad",
}


class StreamQuery(Fields):
    """From where on."""

    after: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPage:
    """A stream. `can_replay`: it can be replayed alone now; `listed` says which of its events are listed.

    `gate` is what its taint is ended by: "" where the whole projection is one line.
    """

    stands: Stands
    stream: StreamHistory
    gate: str
    can_replay: bool
    can_retry: bool
    listed: str
    how: Mapping[str, str]
    tones: Mapping[str, str]


async def _stream(visit: Visit) -> Shown:
    name, stream_id, asked = visit.path["name"], visit.path["stream"], visit.asked(StreamQuery)
    stands = await look_at(visit, name)
    found = await history_of(visit.looking, name, stream_id, limit=_ON_A_PAGE, after=asked.after)
    page = StreamPage(
        stands=stands,
        stream=found,
        gate="" if stands.projection.order is Order.GLOBAL else stream_id,
        can_replay=stands.projection.order is not Order.GLOBAL and "replay" in stands.able.can and bool(stream_id),
        can_retry=stands.health.state == "active",
        listed=_LISTED[found.applied_events],
        how=_HOW,
        tones=_TONES,
    )
    live = None if asked.after else 3
    return Shown(template="stream.html", title=f"Stream {stream_id} of {name}", page=page, live_seconds=live)


STREAM: Final = (Place(name="stream", path="projections/{name}/streams/{stream}", do=_stream, query=StreamQuery),)
