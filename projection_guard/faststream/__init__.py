"""Projections behind a broker, through FastStream: a message is acknowledged once its event is on record, never before.

    guarding = Guarding(guard)
    broker = NatsBroker(url, middlewares=[guarding])

    @guarding.on(broker.subscriber("shop.0.*", stream="shop", ack_policy=AckPolicy.MANUAL, ...))
    @guard.projection("Stock", handles=[Moved])
    async def stock(event: Moved, connection: AsyncConnection) -> None: ...

docs/faststream.md says what has to be set on each broker, and why.
"""

from __future__ import annotations

try:
    from ._guarding import Guarding, Unreadable
except ImportError as error:
    if error.name is not None and error.name.startswith("projection_guard"):
        raise
    raise ImportError(
        f"projection_guard.faststream needs {error.name}: pip install 'projection-guard[faststream]'"
    ) from error

from .._source import partition_of
from ._fields import header, message_key, routing_key, subject_token

__all__ = ["Guarding", "Unreadable", "header", "message_key", "partition_of", "routing_key", "subject_token"]
