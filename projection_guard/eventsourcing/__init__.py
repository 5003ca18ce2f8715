"""Applications and projections of the `eventsourcing` library (9.5 or above), guarded; its code and yours unchanged.

    source = ApplicationSource(shop)                            # the application's notification log
    guard = ProjectionGuard(url, source=source)
    guard_projection(guard, Counters(view))                     # one of its projections, with its view
    publish_saves(shop, guard.publisher())                      # optional: what is saved wakes the follower at once

    source = DCBApplicationSource(school, stream_of=by_tag("course-"))      # a DCB application's

Handlers registered on such a guard are given the application's domain events, as its mapper makes them.
"""

from __future__ import annotations

try:
    from ._dcb import DCBApplicationSource, TaggedDecision, by_tag
    from ._guarding import guard_projection
    from ._saves import publish_saves
    from ._source import ApplicationSource
except ImportError as error:
    raise ImportError(
        f"projection_guard.eventsourcing needs {error.name}: pip install 'projection-guard[eventsourcing]'"
    ) from error

__all__ = [
    "ApplicationSource",
    "DCBApplicationSource",
    "TaggedDecision",
    "by_tag",
    "guard_projection",
    "publish_saves",
]
