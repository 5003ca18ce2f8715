"""`eventsource-py` 0.15 (Python 3.13): its event store as a source, its projections guarded as they are.

guard = AsyncProjectionGuard(url, source=EventStoreSource(engine))
register(guard, OrderTotals(sessions))                     # a DatabaseProjection: it joins the guard's transaction
repository = AggregateRepository(..., event_publisher=GuardedPublisher(guard, bus))
"""

from __future__ import annotations

from ._projections import register
from ._publishing import GuardedPublisher, GuardedSubscriber, subscribe
from ._source import EventStoreSource

__all__ = ["EventStoreSource", "GuardedPublisher", "GuardedSubscriber", "register", "subscribe"]
