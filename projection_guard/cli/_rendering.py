"""The guard's values as JSON: the fields of the HTTP routes, under the same names, without what they need installed.

A test compares each of them with the route's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, cast
from uuid import UUID

from .._alerts import OpenAlert, TestedReceiver
from .._model import (
    Attempt,
    Checkpoint,
    Failure,
    FailureFilter,
    FailureGroup,
    Health,
    Json,
    Outcome,
    Page,
    Replay,
    SkippedRange,
    StreamState,
    SystemStatus,
)
from .._records import Amendment, AuditEntry, BulkAction, Parked, StreamEvent, StreamHistory, WorkerState

__all__ = ["failure_detail", "page", "parked", "rendered", "resolved", "state_of", "unamended", "untainted"]

_NAMES: Final[Mapping[type, Mapping[str, str]]] = {
    Health: {"status": "health_status"},
    BulkAction: {"strategy": "compensation_strategy", "where": "filter"},
}
"""What is called something else outside."""
_LEFT_OUT: Final[Mapping[type, frozenset[str]]] = {
    Failure: frozenset({"event_payload", "error_traceback", "lease_owner", "lease_expires_at"}),
    Parked: frozenset({"event_payload"}),
    Replay: frozenset({"phase", "begins_after"}),
    BulkAction: frozenset({"request_id"}),
}
_SHOWN: Final = (
    Attempt,
    AuditEntry,
    BulkAction,
    Checkpoint,
    Failure,
    FailureFilter,
    FailureGroup,
    Health,
    OpenAlert,
    Page,
    Parked,
    Replay,
    SkippedRange,
    StreamEvent,
    StreamHistory,
    StreamState,
    SystemStatus,
    TestedReceiver,
    WorkerState,
)


def rendered(value: Any) -> Any:
    """Return a value of the guard's as JSON."""
    if isinstance(value, _SHOWN):
        return _fields_of(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [rendered(each) for each in cast("list[object]", value)]
    if isinstance(value, Mapping):
        return {str(key): rendered(each) for key, each in cast("Mapping[str, object]", value).items()}
    return value


def _fields_of(value: Any) -> dict[str, Json]:
    assert is_dataclass(value)
    kind = type(value)
    names, left_out = _NAMES.get(kind, {}), _LEFT_OUT.get(kind, frozenset())
    made: dict[str, Json] = {
        names.get(each.name, each.name): rendered(getattr(value, each.name))
        for each in fields(value)
        if each.name not in left_out
    }
    if isinstance(value, StreamHistory):
        made["log_is_read"] = value.log_is_read
    if isinstance(value, Replay):
        made["drifted"] = value.drifted
    if isinstance(value, Failure):
        made["state"] = state_of(value)
    return made


def state_of(failure: Failure) -> str:
    """Return whether a failure is resolved, exhausted, or scheduled to be tried again."""
    if failure.resolved_at is not None:
        return "resolved"
    return "exhausted" if failure.is_exhausted else "scheduled"


def failure_detail(
    failure: Failure, attempts: tuple[Attempt, ...], amendment: Amendment | None, *, shows_payload: bool
) -> dict[str, Json]:
    """Return a failure with its history."""
    return {
        **_fields_of(failure),
        "attempts": rendered(attempts),
        "error_traceback": failure.error_traceback,
        "event_payload": failure.event_payload if shows_payload else None,
        "event_payload_hidden": not shows_payload,
        "amended": amendment is not None,
        "amended_by": None if amendment is None else amendment.amended_by,
        "amended_at": None if amendment is None else rendered(amendment.amended_at),
    }


def unamended(failure: Failure, *, withdrawn: bool) -> dict[str, Json]:
    """Return whether an amendment was withdrawn."""
    return {
        "failure_id": str(failure.id),
        "projection_name": failure.projection_name,
        "event_id": failure.event_id,
        "withdrawn": withdrawn,
    }


def untainted(projection: str, stream_id: str, *, untainted: bool) -> dict[str, Json]:
    """Return whether a taint was ended."""
    return {"projection_name": projection, "stream_id": stream_id, "untainted": untainted}


def parked(event: Parked, *, shows_payload: bool) -> dict[str, Json]:
    """Return a parked event."""
    payload = event.event_payload if shows_payload else None
    return {**_fields_of(event), "event_payload": payload, "event_payload_hidden": not shows_payload}


def resolved(outcome: Outcome, failure: Failure) -> dict[str, Json]:
    """Return what came of an action on one failure."""
    return {
        "failure_id": str(failure.id),
        "projection_name": outcome.projection,
        "event_id": outcome.event_id,
        "outcome": outcome.status.value,
        "attempts": outcome.attempts,
        "failure": _fields_of(failure),
    }


def page(found: Page[Any]) -> dict[str, Json]:
    """Return a part of a list."""
    return {"items": rendered(found.items), "after": found.after}
