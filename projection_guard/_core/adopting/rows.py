"""From a row of a tracker that an application has made by hand to a row of the guard's: decided without a database.

A tracker's columns are known by the names that people give them (`NAMES`); what is not known is an extra column, which
stays in the table that is set aside. A time without a zone is one of the zone that the operator names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID, uuid5

from ..._model import EventRecord, Json, ResolutionMethod
from ..describing import storable

__all__ = [
    "NAMES",
    "NEEDED",
    "Reader",
    "columns_of",
    "error_of",
    "failure_id_of",
    "payload_of",
    "resolution_of",
]

_FAILURES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "failure_id"),
    "event_id": ("event_id",),
    "event_type": ("event_type", "event_name"),
    "event_sequence": ("event_sequence", "global_position", "sequence_number", "sequence"),
    "stream_id": ("stream_id", "aggregate_id"),
    "event_payload": ("event_payload", "event_data", "payload"),
    "projection_name": ("projection_name", "projection"),
    "error_type": ("error_type", "exception_type", "error_class"),
    "error_message": ("error_message", "error"),
    "error_traceback": ("error_traceback", "traceback", "stack_trace"),
    "retry_count": ("retry_count", "attempts", "retries"),
    "max_retries": ("max_retries", "max_attempts"),
    "failed_at": ("failed_at", "first_failed_at", "occurred_at"),
    "last_retry_at": ("last_retry_at", "last_attempt_at"),
    "next_retry_at": ("next_retry_at", "next_attempt_at"),
    "resolved_at": ("resolved_at",),
    "resolution_method": ("resolution_method", "resolution"),
    "resolved_by": ("resolved_by",),
    "created_at": ("created_at",),
    "updated_at": ("updated_at",),
}
_CHECKPOINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "projection_name": ("projection_name", "projection"),
    "last_event_id": ("last_event_id",),
    "last_event_type": ("last_event_type",),
    "last_event_sequence": ("last_event_sequence", "last_sequence", "position"),
    "checkpoint_at": ("checkpoint_at", "last_processed_at"),
    "events_processed": ("events_processed",),
    "created_at": ("created_at",),
    "updated_at": ("updated_at",),
}
_METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "projection_name": ("projection_name", "projection"),
    "total_events_processed": ("total_events_processed", "events_processed"),
    "total_failures": ("total_failures",),
    "active_failures": ("active_failures",),
    "last_failure_at": ("last_failure_at",),
    "last_success_at": ("last_success_at",),
    "avg_processing_time_ms": ("avg_processing_time_ms",),
    "lag_seconds": ("lag_seconds",),
    "health_status": ("health_status",),
    "created_at": ("created_at",),
    "updated_at": ("updated_at",),
}
NAMES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "projection_failures": _FAILURES,
    "projection_checkpoints": _CHECKPOINTS,
    "projection_health_metrics": _METRICS,
}
"""The tables of a tracker, and by which names each of the guard's columns is found there, the likeliest first."""
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "projection_failures": ("id", "event_id", "projection_name"),
    "projection_checkpoints": ("projection_name",),
    "projection_health_metrics": ("projection_name",),
}
_METHODS: Final[Mapping[str, ResolutionMethod]] = {
    **{each.value: each for each in ResolutionMethod},
    "retry": ResolutionMethod.MANUAL_RETRY,
    "replay": ResolutionMethod.MANUAL_REPLAY,
    "skip": ResolutionMethod.MANUAL_SKIP,
    "skipped": ResolutionMethod.MANUAL_SKIP,
    "ignored": ResolutionMethod.MANUAL_SKIP,
    "reset": ResolutionMethod.MANUAL_RESET,
    "auto": ResolutionMethod.AUTO_RETRY,
}
_IDS: Final = UUID("6f0b3a52-5d1c-5c0e-9d8a-3b7f7e1f7a10")
_LONGEST_NAME: Final = 255
_RAISED: Final = re.compile(r"^([A-Za-z_][\w.]*)(?::|\s*$)")
_FRAME: Final = re.compile(r'^\s*File "([^"]*)", line \d+, in (.+?)\s*$', re.MULTILINE)


def columns_of(table: str, theirs: Sequence[str]) -> dict[str, str]:
    """Return for each of our columns which one of theirs it is read from, where there is one."""
    found: dict[str, str] = {}
    for ours, names in NAMES[table].items():
        for name in names:
            if name in theirs and name not in found.values():
                found[ours] = name
                break
    return found


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads values of a tracker's, and counts those that say nothing. `zone`: where its times without one are from."""

    zone: tzinfo
    unread_times: int = 0

    def moment(self, value: object) -> datetime | None:
        """Return a time as aware UTC: one of the driver's, ISO 8601, or seconds since 1970."""
        try:
            if value is None:
                return None
            if isinstance(value, (int, float)):
                return datetime.fromtimestamp(value, UTC)
            found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            aware = found.replace(tzinfo=self.zone) if found.tzinfo is None else found
            return aware.astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            self.unread_times += 1
            return None

    def text(self, value: object, longest: int | None = _LONGEST_NAME) -> str | None:
        """Return what it says, fit for a column; a UUID in its usual form. None for nothing."""
        raw = _raw(value)
        if raw is not None:
            value = UUID(bytes=raw) if len(raw) == 16 else raw.decode("utf-8", "backslashreplace")
        said = None if value is None else str(value)
        if not said:
            return None
        return storable(said, longest or len(said))

    def identity(self, value: object) -> str | None:
        """Return a name or an id, which is not cut: None for none, and for one that is too long."""
        said = self.text(value, None)
        return None if said is None or len(said) > _LONGEST_NAME else said

    def number(self, value: object) -> int | None:
        """Return a whole number, None for what is none."""
        try:
            return None if value is None else int(cast("Any", value))
        except (TypeError, ValueError, OverflowError):
            return None

    def record(self, row: Mapping[str, object]) -> EventRecord | None:
        """Return what a row says of its event; None where it names none."""
        event_id = self.identity(row.get("event_id"))
        if event_id is None:
            return None
        return EventRecord(
            event_id=event_id,
            event_type=self.text(row.get("event_type")) or "unknown",
            sequence=self.number(row.get("event_sequence")),
            stream_id=self.identity(row.get("stream_id")),
        )


def _raw(value: object) -> bytes | None:
    return bytes(cast("bytes", value)) if isinstance(value, (bytes, memoryview)) else None


def payload_of(value: object) -> Json:
    """Return an event's JSON, whether the driver gives it as such or as text; None for what is none."""
    raw = _raw(value)
    if raw is not None:
        value = raw.decode("utf-8", "replace")
    if not isinstance(value, str):
        return cast("Json", value)
    try:
        found: Json = json.loads(value)
    except ValueError:
        return None
    return found


def failure_id_of(value: object) -> UUID:
    """Return a failure's id: theirs where it is a UUID, so that links go on leading to it; else one made of it."""
    if isinstance(value, UUID):
        return value
    raw = _raw(value)
    if raw is not None and len(raw) == 16:
        return UUID(bytes=raw)
    try:
        return UUID(str(value))
    except ValueError:
        return uuid5(_IDS, str(value))


def resolution_of(said: str | None) -> tuple[ResolutionMethod, bool]:
    """Return how a failure was resolved, and whether that is what the tracker said in words that are known."""
    if said is None:
        return ResolutionMethod.MANUAL_FIX, False
    known = _METHODS.get(said.strip().lower())
    return (ResolutionMethod.MANUAL_FIX, False) if known is None else (known, True)


def error_of(said_type: str | None, traceback: str | None) -> tuple[str, str]:
    """Return an error's type and fingerprint, as far as a traceback that was kept as text tells them."""
    named = said_type or _raised_in(traceback) or "unknown"
    places = [f"{name}@{PurePath(path).name}" for path, name in _FRAME.findall(traceback or "")]
    fingerprint = hashlib.sha256("\n".join([named, *places[-8:]]).encode("utf-8", "replace")).hexdigest()[:32]
    return named, fingerprint


def _raised_in(traceback: str | None) -> str | None:
    """Return the class that the last line of a traceback names which is not indented."""
    for line in reversed((traceback or "").splitlines()):
        found = _RAISED.match(line)
        if found is not None:
            return found[1][:_LONGEST_NAME]
    return None
