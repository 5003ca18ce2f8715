"""What the routes answer: the guard's values as JSON, field by field, and nothing that a caller may not see."""

from __future__ import annotations

from .acts import AuditEntry, AuditPage, BulkAction, BulkPage, BulkProposal, Done, FailureFilter
from .failures import (
    Attempt,
    Editable,
    Failure,
    FailureDetail,
    FailureGroup,
    FailurePage,
    GroupPage,
    ParkedEvent,
    ParkedPage,
    Resolved,
    Unamended,
)
from .problems import Document, FieldError, ProblemDocument
from .projections import (
    Checkpoint,
    Health,
    History,
    Point,
    Probe,
    Replay,
    ReplayPage,
    SkippedPage,
    SkippedRange,
    Summary,
    SystemStatus,
)
from .streams import Stream, StreamEvent, StreamEventPage, StreamHistory, StreamPage, Untainted

__all__ = [
    "Attempt",
    "AuditEntry",
    "AuditPage",
    "BulkAction",
    "BulkPage",
    "BulkProposal",
    "Checkpoint",
    "Document",
    "Done",
    "Editable",
    "Failure",
    "FailureDetail",
    "FailureFilter",
    "FailureGroup",
    "FailurePage",
    "FieldError",
    "GroupPage",
    "Health",
    "History",
    "ParkedEvent",
    "ParkedPage",
    "Point",
    "Probe",
    "ProblemDocument",
    "Replay",
    "ReplayPage",
    "Resolved",
    "SkippedPage",
    "SkippedRange",
    "Stream",
    "StreamEvent",
    "StreamEventPage",
    "StreamHistory",
    "StreamPage",
    "Summary",
    "SystemStatus",
    "Unamended",
    "Untainted",
]
