"""projection_guard: read models that heal by themselves, in order, with nothing lost.

`ProjectionGuard` (blocking) and `AsyncProjectionGuard` (asyncio) are where to start.
"""

import logging

from ._acting import acting_for
from ._alerts import Alert, AlertKind, AlertPolicy, OpenAlert, TestedReceiver
from ._async_guard import AsyncGuarded, AsyncProjectionGuard
from ._codec import JsonCodec
from ._core.following import Followed
from ._core.rounds import Round
from ._encryption import Cipher, EncryptedCodec, EventCodec, Place, Sealed
from ._guard import Guarded, ProjectionGuard
from ._health import HealthPolicy
from ._history import History, Point
from ._instruments import Delivery, Instrument, Settled
from ._mapping import EventMapping
from ._model import (
    Attempt,
    Checkpoint,
    EventRecord,
    Failure,
    FailureFilter,
    FailureGroup,
    Health,
    HealthStatus,
    Origin,
    Outcome,
    OutcomeStatus,
    Page,
    Replay,
    ResolutionMethod,
    SkippedRange,
    StreamState,
    SystemStatus,
)
from ._notices import Notice, NoticeKind
from ._policy import Breaker, RetryPolicy
from ._publisher import AsyncPublisher, Publisher
from ._records import Amendment, AuditEntry, BulkAction, Parked, StreamEvent, StreamHistory, WorkerState
from ._source import (
    AsyncEventSource,
    Batch,
    EventSource,
    Recorded,
    SeenTypes,
    Share,
    Skipped,
    check_range,
    check_stream_range,
)
from ._sql_source import AsyncSqlEventSource, SqlEventSource
from ._wording import OneLine
from ._worker import AsyncWorker, Worker
from .errors import (
    AlertNotDelivered,
    CodecError,
    ConfigurationError,
    DeliveryInterrupted,
    EventError,
    ExecutorLost,
    FailureBusy,
    FailureResolved,
    HandlerTimeout,
    InvalidArgument,
    KeysUnavailable,
    PermanentFailure,
    ProjectionGuardError,
    RegistrationError,
    RetryAfter,
    SchemaError,
    SourceError,
    StoreUnavailable,
    UnknownBulkAction,
    UnknownFailure,
    UnknownProjection,
    UnknownReplay,
    WaitTimeout,
)

__all__ = [
    "Alert",
    "AlertKind",
    "AlertNotDelivered",
    "AlertPolicy",
    "Amendment",
    "AsyncEventSource",
    "AsyncGuarded",
    "AsyncProjectionGuard",
    "AsyncPublisher",
    "AsyncSqlEventSource",
    "AsyncWorker",
    "Attempt",
    "AuditEntry",
    "Batch",
    "Breaker",
    "BulkAction",
    "Checkpoint",
    "Cipher",
    "CodecError",
    "ConfigurationError",
    "Delivery",
    "DeliveryInterrupted",
    "EncryptedCodec",
    "EventCodec",
    "EventError",
    "EventMapping",
    "EventRecord",
    "EventSource",
    "ExecutorLost",
    "Failure",
    "FailureBusy",
    "FailureFilter",
    "FailureGroup",
    "FailureResolved",
    "Followed",
    "Guarded",
    "HandlerTimeout",
    "Health",
    "HealthPolicy",
    "HealthStatus",
    "History",
    "Instrument",
    "InvalidArgument",
    "JsonCodec",
    "KeysUnavailable",
    "Notice",
    "NoticeKind",
    "OpenAlert",
    "Origin",
    "Outcome",
    "OutcomeStatus",
    "Page",
    "Parked",
    "PermanentFailure",
    "Place",
    "Point",
    "ProjectionGuard",
    "ProjectionGuardError",
    "Publisher",
    "Recorded",
    "RegistrationError",
    "Replay",
    "ResolutionMethod",
    "RetryAfter",
    "RetryPolicy",
    "Round",
    "SchemaError",
    "Sealed",
    "SeenTypes",
    "Settled",
    "Share",
    "Skipped",
    "SkippedRange",
    "SourceError",
    "SqlEventSource",
    "StoreUnavailable",
    "StreamEvent",
    "StreamHistory",
    "StreamState",
    "SystemStatus",
    "TestedReceiver",
    "UnknownBulkAction",
    "UnknownFailure",
    "UnknownProjection",
    "UnknownReplay",
    "WaitTimeout",
    "Worker",
    "WorkerState",
    "acting_for",
    "check_range",
    "check_stream_range",
]

_log = logging.getLogger("projection_guard")
_log.addHandler(logging.NullHandler())  # quiet unless the application listens
_log.addFilter(OneLine())
