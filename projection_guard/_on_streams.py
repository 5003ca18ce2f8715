"""One stream through one projection: how it stands, what has become of its events, and the end of its taint."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection

from ._core import admin, history, untainting
from ._model import Page, check_text
from ._on_log import check_limit
from ._records import StreamEvent, StreamHistory, StreamListing
from ._service import Service
from ._store import histories, states
from ._store.recorded import OfStream
from .errors import InvalidArgument

__all__ = ["history_of", "untaint"]


async def history_of(service: Service, name: str, stream_id: str, *, limit: int, after: str | None) -> StreamHistory:
    """Read how a stream stands, and a page of its events, newest first. One that nobody knows has none."""
    projection = service.named(name)
    _check_stream(stream_id)
    check_limit(limit)
    place = history.read_place(after)
    await service.open([name])
    found = None
    if projection.is_followed and service.on_log.is_there:
        found = await history.in_log(service.on_log.log, projection, stream_id, place, limit)

    def listed(connection: Connection) -> tuple[StreamListing, Page[StreamEvent]]:
        if found is not None:
            return "all", history.page_in_log(connection, projection, found)
        state = states.read(connection, name)
        since = histories.began_anew_at(connection, name)
        of = OfStream(projection=name, stream_id=stream_id, order=projection.order, since=since)
        is_pushed = state is None or state.mode != "followed"
        listing: StreamListing = "recent" if is_pushed and of.has_applied_events else "unlisted"
        return listing, history.page_on_record(connection, projection, of, place, limit)

    def look(connection: Connection) -> StreamHistory:
        listing, page = listed(connection)
        gate = histories.stands(connection, name, stream_id, projection.order)
        return StreamHistory(
            projection_name=name, stream_id=stream_id, applied_events=listing, page=page, **asdict(gate)
        )

    return await service.read(look)


async def untaint(
    service: Service, name: str, stream_id: str, *, tainted_reason: str | None, actor: str, note: str | None
) -> bool:
    """End a stream's taint by a person's word; False where there is none."""
    deed = admin.Deed(actor=admin.check_actor(actor), note=note)
    projection = service.named(name)
    _check_stream(stream_id)
    check_text(tainted_reason, "tainted_reason")
    check_text(note, "note")
    await service.open([name])
    return await untainting.untaint(service.context, projection, stream_id, tainted_reason=tainted_reason, deed=deed)


def _check_stream(given: object) -> None:
    if given is None:
        raise InvalidArgument("stream_id= takes the id of a stream, a text")
    check_text(given, "stream_id")
