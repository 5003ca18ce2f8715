"""projection_guard: read models that heal by themselves, in order, with nothing lost.

`ProjectionGuard` (blocking) and `AsyncProjectionGuard` (asyncio) are where to start.
"""

import logging

from ._async_guard import AsyncGuarded, AsyncProjectionGuard
from ._codec import JsonCodec
from ._core.context import EventCodec
from ._core.rounds import Round
from ._guard import Guarded, ProjectionGuard
from ._health import HealthPolicy
from ._mapping import EventMapping
from ._model import (
    Attempt,
    Checkpoint,
    EventRecord,
    Failure,
    Health,
    HealthStatus,
    Outcome,
    OutcomeStatus,
    Page,
    ResolutionMethod,
    StreamState,
    SystemStatus,
)
from ._notices import Notice, NoticeKind
from ._policy import Breaker, RetryPolicy
from ._publisher import AsyncPublisher, Publisher
from ._worker import AsyncWorker, Worker
from .errors import (
    CodecError,
    ConfigurationError,
    DeliveryInterrupted,
    EventError,
    FailureBusy,
    HandlerTimeout,
    InvalidArgument,
    PermanentFailure,
    ProjectionGuardError,
    RegistrationError,
    RetryAfter,
    SchemaError,
    StoreUnavailable,
    UnknownFailure,
    UnknownProjection,
)

__all__ = [
    "AsyncGuarded",
    "AsyncProjectionGuard",
    "AsyncPublisher",
    "AsyncWorker",
    "Attempt",
    "Breaker",
    "Checkpoint",
    "CodecError",
    "ConfigurationError",
    "DeliveryInterrupted",
    "EventCodec",
    "EventError",
    "EventMapping",
    "EventRecord",
    "Failure",
    "FailureBusy",
    "Guarded",
    "HandlerTimeout",
    "Health",
    "HealthPolicy",
    "HealthStatus",
    "InvalidArgument",
    "JsonCodec",
    "Notice",
    "NoticeKind",
    "Outcome",
    "OutcomeStatus",
    "Page",
    "PermanentFailure",
    "ProjectionGuard",
    "ProjectionGuardError",
    "Publisher",
    "RegistrationError",
    "ResolutionMethod",
    "RetryAfter",
    "RetryPolicy",
    "Round",
    "SchemaError",
    "StoreUnavailable",
    "StreamState",
    "SystemStatus",
    "UnknownFailure",
    "UnknownProjection",
    "Worker",
]

logging.getLogger("projection_guard").addHandler(logging.NullHandler())  # quiet unless the application listens
