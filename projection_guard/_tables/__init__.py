"""The guard's tables, as SQLAlchemy models. The Alembic revisions in `migrations/` create the same.

Those of `contract` are fixed; the others may gain columns between releases.
"""

from __future__ import annotations

from .alerts import ProjectionAlert, ProjectionAlertDelivery, ProjectionAlertLook
from .amendments import ProjectionAmendment
from .base import metadata
from .contract import ProjectionCheckpoint, ProjectionFailure, ProjectionHealthMetrics
from .following import ProjectionPartition, ProjectionSkippedRange, ProjectionState
from .history import ProjectionAttempt, ProjectionAuditEntry, ProjectionRequest
from .jobs import ProjectionBulkAction, ProjectionReplay, SetAsideEvent
from .samples import ProjectionSample
from .streams import ParkedEvent, ProjectionAppliedEvent, ProjectionStream
from .workers import ProjectionWorker

__all__ = [
    "ParkedEvent",
    "ProjectionAlert",
    "ProjectionAlertDelivery",
    "ProjectionAlertLook",
    "ProjectionAmendment",
    "ProjectionAppliedEvent",
    "ProjectionAttempt",
    "ProjectionAuditEntry",
    "ProjectionBulkAction",
    "ProjectionCheckpoint",
    "ProjectionFailure",
    "ProjectionHealthMetrics",
    "ProjectionPartition",
    "ProjectionReplay",
    "ProjectionRequest",
    "ProjectionSample",
    "ProjectionSkippedRange",
    "ProjectionState",
    "ProjectionStream",
    "ProjectionWorker",
    "SetAsideEvent",
    "metadata",
    "table_names",
]

table_names: frozenset[str] = frozenset(metadata.tables)
