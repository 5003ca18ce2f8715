"""What answers look like: an example of each, for the document that describes the routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from . import answers

__all__ = ["EXAMPLES"]

Example = dict[str, Any]
_AT: Final = "2026-11-25T20:15:00Z"
_LATER: Final = "2026-11-25T20:15:01Z"
_FAILURE_ID: Final = "0b8f7c52-6f0e-4d57-9d0b-3f6a2f5f4c11"
_JOB_ID: Final = "5d2f3a9e-2f6b-4f57-8f0e-7a1c9b7d2e10"
_NAME: Final = "DocumentProjection"
_EVENT: Final[Example] = {
    "event_id": "e-17",
    "event_type": "DocumentUploaded",
    "event_sequence": 17,
    "stream_id": "doc-4",
}
_HEALTH: Final[Example] = {
    "projection_name": _NAME,
    "health_status": "degraded",
    "reasons": ["1 unresolved failure", "2 events parked"],
    "active_failures": 1,
    "exhausted_failures": 0,
    "parked_events": 2,
    "total_failures": 3,
    "total_events_processed": 4711,
    "avg_processing_time_ms": 1.8,
    "lag_seconds": 4.2,
    "lag_events": 3,
    "last_failure_at": _AT,
    "last_success_at": _LATER,
    "state": "active",
    "held_since": None,
    "tainted_streams": 0,
}
_FAILURE: Final[Example] = {
    "id": _FAILURE_ID,
    "projection_name": _NAME,
    "state": "scheduled",
    **_EVENT,
    "error_type": "ValueError",
    "error_message": "this title cannot be filed",
    "fingerprint": "25e8498abbb492089a0e4620d864f79a",
    "retry_count": 2,
    "max_retries": 5,
    "failed_at": _AT,
    "last_retry_at": _LATER,
    "next_retry_at": "2026-11-25T20:15:05Z",
    "resolved_at": None,
    "resolution_method": None,
    "resolved_by": None,
    "created_at": _AT,
    "updated_at": _LATER,
}
_REPLAY: Final[Example] = {
    "id": _JOB_ID,
    "projection_name": _NAME,
    "kind": "range",
    "status": "running",
    "wanted": "run",
    "from_sequence": 1,
    "to_sequence": 5000,
    "stream_id": None,
    "skip_failed": False,
    "events_per_second": None,
    "max_failures": 0,
    "position": 2500,
    "ends_at": 5000,
    "events_replayed": 2490,
    "events_skipped": 10,
    "events_failed": 0,
    "progress": 0.5,
    "events_per_second_measured": 830.0,
    "seconds_left": 3.0,
    "actor": "alice",
    "note": "after the fix in 1.2.3",
    "error": None,
    "built_into": None,
    "comparing": None,
    "compared": None,
    "drifted": None,
    "created_at": _AT,
    "started_at": _AT,
    "finished_at": None,
    "updated_at": _LATER,
}
_BULK: Final[Example] = {
    "id": _JOB_ID,
    "compensation_strategy": "retry",
    "filter": {
        "projection_name": _NAME,
        "error_type": None,
        "fingerprint": "25e8498abbb492089a0e4620d864f79a",
        "event_type": None,
        "stream_id": None,
        "state": "exhausted",
        "failed_from": None,
        "failed_until": None,
    },
    "projections": [_NAME],
    "status": "running",
    "count": 40,
    "done": 12,
    "succeeded": 12,
    "failed": 0,
    "actor": "alice",
    "note": None,
    "confirmed_by": "alice",
    "error": None,
    "waits": None,
    "created_at": _AT,
    "expires_at": "2026-11-25T20:25:00Z",
    "confirmed_at": _LATER,
    "started_at": _LATER,
    "finished_at": None,
    "updated_at": _LATER,
}
_PROPOSED: Final[Example] = {
    **_BULK,
    "status": "proposed",
    "done": 0,
    "succeeded": 0,
    "confirmed_by": None,
    "confirmed_at": None,
    "started_at": None,
    "confirmation_token": "0123456789abcdef",
}
_PARKED: Final[Example] = {
    "projection_name": _NAME,
    **_EVENT,
    "event_id": "e-18",
    "event_sequence": 18,
    "event_payload": None,
    "event_payload_hidden": True,
    "reason": "stream",
    "attempts": 0,
    "parked_at": _LATER,
}
_RESOLVED: Final[Example] = {
    "failure_id": _FAILURE_ID,
    "projection_name": _NAME,
    "event_id": "e-17",
    "outcome": "applied",
    "attempts": 4,
    "failure": {
        **_FAILURE,
        "state": "resolved",
        "next_retry_at": None,
        "resolved_at": _LATER,
        "resolution_method": "manual_retry",
        "resolved_by": "alice",
    },
}


_PAYLOAD: Final[Example] = {
    "$class": "DocumentUploaded",
    "data": {"event_id": "e-17", "sequence": 17, "stream_id": "doc-4", "title": "Minutes"},
}


def _page(item: Example) -> Example:
    return {"items": [item], "after": None}


EXAMPLES: Final[Mapping[type[BaseModel], Example]] = {
    answers.Editable: {"failure_id": _FAILURE_ID, "event_payload": _PAYLOAD},
    answers.Unamended: {
        "failure_id": _FAILURE_ID,
        "projection_name": _NAME,
        "event_id": "e-17",
        "withdrawn": True,
    },
    answers.Probe: {"status": "ready", "detail": None},
    answers.Health: _HEALTH,
    answers.Checkpoint: {
        "projection_name": _NAME,
        "last_event_id": "e-17",
        "last_event_type": "DocumentUploaded",
        "last_event_sequence": 17,
        "checkpoint_at": _AT,
        "events_processed": 4711,
        "created_at": _AT,
        "updated_at": _AT,
    },
    answers.SystemStatus: {
        "overall_status": "degraded",
        "total_projections": 3,
        "healthy_projections": 2,
        "degraded_projections": 1,
        "critical_projections": 0,
        "offline_projections": 0,
        "total_active_failures": 1,
        "total_events_processed": 9000,
        "timestamp": _AT,
    },
    answers.FailurePage: _page(_FAILURE),
    answers.FailureDetail: {
        **_FAILURE,
        "attempts": [
            {
                "number": 1,
                "attempted_at": _AT,
                "error_type": "ValueError",
                "error_message": "this title cannot be filed",
                "duration_ms": 1.2,
            }
        ],
        "error_traceback": None,
        "event_payload": None,
        "event_payload_hidden": True,
        "amended": False,
        "amended_by": None,
        "amended_at": None,
    },
    answers.GroupPage: _page(
        {
            "projection_name": _NAME,
            "fingerprint": "25e8498abbb492089a0e4620d864f79a",
            "error_type": "ValueError",
            "error_message": "this title cannot be filed",
            "count": 40,
            "exhausted": 38,
            "first_failed_at": _AT,
            "last_failed_at": _LATER,
            "sample_failure_id": _FAILURE_ID,
        }
    ),
    answers.Resolved: _RESOLVED,
    answers.ParkedPage: _page(_PARKED),
    answers.StreamPage: _page(
        {
            "projection_name": _NAME,
            "stream_id": "doc-4",
            "blocked": True,
            "tainted": False,
            "tainted_reason": None,
            "parked_events": 2,
            "failure_ids": [_FAILURE_ID],
        }
    ),
    answers.StreamHistory: {
        "projection_name": _NAME,
        "stream_id": "doc-4",
        "blocked": True,
        "tainted": False,
        "tainted_reason": None,
        "leased": False,
        "parked_events": 2,
        "failure_ids": [_FAILURE_ID],
        "applied_events": "all",
        "log_is_read": True,
        "page": _page(
            {
                "event_id": "e-17",
                "event_type": "DocumentUploaded",
                "event_sequence": 17,
                "state": "failed",
                "at": _AT,
                "failure_id": _FAILURE_ID,
                "how": None,
                "attempts": 3,
            }
        ),
    },
    answers.Untainted: {"projection_name": _NAME, "stream_id": "doc-4", "untainted": True},
    answers.SkippedPage: _page(
        {
            "projection_name": _NAME,
            "first_sequence": 12,
            "last_sequence": 12,
            "given_up": False,
            "reason": "nobody was left who could have filled it",
            "skipped_at": _AT,
        }
    ),
    answers.History: {
        "projection_name": _NAME,
        "bucket_seconds": 900,
        "points": [
            {
                "at": "2026-11-25T20:15:00Z",
                "events_per_second": 12.5,
                "failures": 1,
                "active_failures": 1,
                "parked_events": 2,
                "lag_seconds": 4.2,
                "lag_events": 3,
                "avg_processing_time_ms": 1.8,
                "health_status": "degraded",
            }
        ],
    },
    answers.Replay: _REPLAY,
    answers.ReplayPage: _page(_REPLAY),
    answers.Done: {
        "projection_name": _NAME,
        "action": "pause",
        "actor": "alice",
        "health": {**_HEALTH, "state": "paused"},
    },
    answers.BulkAction: _BULK,
    answers.BulkProposal: _PROPOSED,
    answers.BulkPage: _page(_BULK),
    answers.AuditPage: _page(
        {
            "id": 42,
            "at": _AT,
            "actor": "alice",
            "action": "pause",
            "projection_name": _NAME,
            "failure_id": None,
            "note": "the index is being moved",
            "details": {"before": "active", "after": "paused"},
            "request_id": "7c0f3b0e2a",
        }
    ),
    answers.Document: {"openapi": "3.1.0", "info": {"title": "projection_guard", "version": "1"}, "paths": {}},
    answers.ProblemDocument: {
        "type": "urn:problem-type:projection-guard:unknown-projection",
        "title": "Not Found",
        "status": 404,
        "detail": f"No projection is named 'Documents'; registered here: '{_NAME}'",
        "instance": "/api/v1/health/projections/Documents",
        "request_id": "7c0f3b0e2a",
    },
}
