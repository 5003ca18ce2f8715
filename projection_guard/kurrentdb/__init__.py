"""Events from KurrentDB (EventStoreDB) through its client: the log as a source, and persistent subscriptions.

A commit position is an event's sequence. What was tested against what: docs/kurrentdb.md.
"""

from __future__ import annotations

try:
    from ._consuming import consume, consume_async
    from ._reading import AsyncKurrentDBSource, KurrentDBSource
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("kurrentdbclient", "grpc"):
        raise
    raise ImportError(
        f"projection_guard.kurrentdb needs {error.name}: pip install 'projection-guard[kurrentdb]'"
    ) from error

__all__ = ["AsyncKurrentDBSource", "KurrentDBSource", "consume", "consume_async"]
