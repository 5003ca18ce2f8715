"""A projection is given the amended event wherever the log has one that a person has amended for it.

Which ones those are a follower learns when it takes its share, so that a log in which nothing is amended is read as
before. None is amended while a job is under way that may have read it already (`amending`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .._store import amendments
from ..errors import StoreUnavailable
from .context import Context, decoded, transact
from .healing import unreadable
from .log import Incoming
from .projection import Projection

__all__ = ["give_amended"]


async def give_amended(
    context: Context, projection: Projection, events: Sequence[Incoming], amended: Collection[str]
) -> None:
    """Put the amended events in the place of those that the log has. Raises `StoreUnavailable`, also for their keys."""
    affected = [incoming for incoming in events if incoming.record.event_id in amended]
    if not affected:
        return
    wanted = [incoming.record.event_id for incoming in affected]
    found = await transact(
        context,
        lambda connection: amendments.payloads(connection, projection.name, wanted),
        what=f"{projection.name}: amended events were not read",
    )
    for incoming in affected:
        payload = found.get(incoming.record.event_id)
        if payload is None:  # withdrawn since
            continue
        incoming.amended, incoming.instead_of = payload, incoming.event
        try:
            incoming.event = decoded(context, projection.lone_ticket(incoming.record), payload)
            incoming.error = None
        except StoreUnavailable:
            raise
        except Exception as error:
            incoming.error = unreadable(error)
