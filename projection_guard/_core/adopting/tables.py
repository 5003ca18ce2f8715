"""A tracker's rows, one after the other, as rows of the guard's; what becomes of them is counted on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from ..._model import EventRecord, ResolutionMethod
from ..describing import storable
from .opened import MoreToLookUp, Opened
from .rows import Reader, error_of, failure_id_of, payload_of, resolution_of

__all__ = ["Tally", "checkpoints_of", "failures_of", "metrics_of"]

_MOST_RETRIES: Final = 5
BY: Final = "projection-guard db adopt"
_UNNAMED: Final = "without the name of a projection or the id of an event, or with one of more than 255 characters"


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has been counted: rows by table and fate, failures by projection and fate, and what else is to be told."""

    rows: Counter[str] = field(default_factory=Counter[str])
    moved: Counter[str] = field(default_factory=Counter[str])
    aside_only: Counter[str] = field(default_factory=Counter[str])
    fates: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    notes: Counter[str] = field(default_factory=Counter[str])
    names: set[str] = field(default_factory=set[str])

    def aside(self, table: str, why: str) -> None:
        """Count a row that stays in the table that is set aside."""
        self.aside_only[table] += 1
        self.notes[f"rows of {table} {why}: they stay in {table}_before_adopt"] += 1


def failures_of(
    rows: Iterable[Mapping[str, object]], opened: Mapping[UUID, Opened], reader: Reader, tally: Tally, now: datetime
) -> Iterator[dict[str, Any]]:
    """Return the failures that the guard gets; those that stand behind another are left out, and parked instead.

    Raises `MoreToLookUp` in the end where one has failed since the unresolved ones were read.
    """
    table, has_more = "projection_failures", False
    for row in rows:
        tally.rows[table] += 1
        name, record = reader.identity(row.get("projection_name")), reader.record(row)
        if name is None or record is None:
            tally.aside(table, _UNNAMED)
            continue
        tally.names.add(name)
        resolved_at = reader.moment(row.get("resolved_at"))
        values = _failure(row, name, record, reader, now)
        if resolved_at is not None or row.get("resolved_at") is not None:
            tally.fates[name, "resolved"] += 1
            values |= _resolved(row, resolved_at or values["updated_at"], reader, tally)
        else:
            fate = opened.get(values["id"])
            if fate is None:
                has_more = True
                continue
            if fate.fate == "parked":
                tally.fates[name, "parked"] += 1
                continue
            values |= _unresolved(values, fate, row, reader, tally, now)
        tally.moved[table] += 1
        yield values
    if has_more:
        raise MoreToLookUp


def _failure(
    row: Mapping[str, object], name: str, record: EventRecord, reader: Reader, now: datetime
) -> dict[str, Any]:
    traceback = reader.text(row.get("error_traceback"), None)
    error_type, fingerprint = error_of(reader.text(row.get("error_type")), traceback)
    most = reader.number(row.get("max_retries"))
    failed_at = reader.moment(row.get("failed_at")) or reader.moment(row.get("created_at")) or now
    return {
        "id": failure_id_of(row.get("id")),
        "event_id": record.event_id,
        "event_type": record.event_type,
        "event_sequence": record.sequence,
        "stream_id": record.stream_id,
        "event_payload": payload_of(row.get("event_payload")),
        "projection_name": name,
        "error_type": error_type,
        "error_message": reader.text(row.get("error_message"), None) or "",
        "error_traceback": traceback,
        "fingerprint": fingerprint,
        "retry_count": reader.number(row.get("retry_count")) or 0,
        "max_retries": _MOST_RETRIES if most is None else most,
        "failed_at": failed_at,
        "last_retry_at": reader.moment(row.get("last_retry_at")),
        "next_retry_at": None,
        "resolved_at": None,
        "resolution_method": None,
        "resolved_by": None,
        "created_at": reader.moment(row.get("created_at")) or failed_at,
        "updated_at": reader.moment(row.get("updated_at")) or failed_at,
    }


def _resolved(row: Mapping[str, object], at: datetime, reader: Reader, tally: Tally) -> dict[str, Any]:
    said = reader.text(row.get("resolution_method"))
    method, is_known = resolution_of(said)
    by = reader.text(row.get("resolved_by"))
    if not is_known:
        how = "in no word" if said is None else f"as {said!r}"
        tally.notes[f"failures that were resolved {how}: resolution_method is {method.value!r}"] += 1
    return {"resolved_at": at, "resolution_method": method.value, "resolved_by": by}


def _unresolved(
    values: Mapping[str, Any],
    opened: Opened,
    row: Mapping[str, object],
    reader: Reader,
    tally: Tally,
    now: datetime,
) -> dict[str, Any]:
    event, name = opened.ticket.event, opened.ticket.projection
    told: dict[str, Any] = {
        "event_type": event.event_type,
        "event_sequence": event.sequence,
        "stream_id": event.stream_id,
    }
    if opened.fate == "twice":
        tally.fates[name, "resolved"] += 1
        tally.notes["older rows of an event that failed unresolved more than once: resolved, by the newest one"] += 1
        by = storable(f"{BY}: {opened.behind} is newer", 255)
        return told | {"resolved_at": now, "resolution_method": ResolutionMethod.MANUAL_FIX.value, "resolved_by": by}
    tally.fates[name, opened.fate] += 1
    if opened.why is not None:
        tally.notes[f"unresolved failures wait for a person: {opened.why}"] += 1
        told["error_message"] = f"{values['error_message']}\n[adopted, and waits for a person: {opened.why}]"
    if opened.fate == "retried":
        told["next_retry_at"] = reader.moment(row.get("next_retry_at")) or now
    return told


def checkpoints_of(rows: Iterable[Mapping[str, object]], reader: Reader, tally: Tally) -> dict[str, dict[str, Any]]:
    """Return the checkpoints by projection; of several the one that has come furthest."""
    table = "projection_checkpoints"
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        values = {
            "last_event_id": reader.identity(row.get("last_event_id")),
            "last_event_type": reader.text(row.get("last_event_type")),
            "last_event_sequence": reader.number(row.get("last_event_sequence")),
            "checkpoint_at": reader.moment(row.get("checkpoint_at")) or reader.moment(row.get("updated_at")),
            "events_processed": reader.number(row.get("events_processed")),
            "created_at": reader.moment(row.get("created_at")),
            "updated_at": reader.moment(row.get("updated_at")),
        }
        _keep(found, table, row, values, reader, tally, further="last_event_sequence")
    return found


def metrics_of(rows: Iterable[Mapping[str, object]], reader: Reader, tally: Tally) -> dict[str, dict[str, Any]]:
    """Return the metrics by projection, `active_failures` as the tracker says it."""
    table = "projection_health_metrics"
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        values: dict[str, Any] = {
            name: reader.number(row.get(name))
            for name in ("total_events_processed", "total_failures", "active_failures")
        }
        values |= {
            name: reader.moment(row.get(name))
            for name in ("last_failure_at", "last_success_at", "created_at", "updated_at")
        }
        values |= {name: _float(row.get(name)) for name in ("avg_processing_time_ms", "lag_seconds")}
        _keep(found, table, row, values, reader, tally, further="total_events_processed")
    return found


def _keep(
    found: dict[str, dict[str, Any]],
    table: str,
    row: Mapping[str, object],
    values: dict[str, Any],
    reader: Reader,
    tally: Tally,
    *,
    further: str,
) -> None:
    tally.rows[table] += 1
    name = reader.identity(row.get("projection_name"))
    if name is None:
        tally.aside(table, _UNNAMED)
        return
    tally.names.add(name)
    known = found.get(name)
    if known is not None:
        tally.aside(table, "that name a projection twice, and have not come furthest")
        if (values[further] or 0) <= (known[further] or 0):
            return
    else:
        tally.moved[table] += 1
    found[name] = values


def _float(value: object) -> float | None:
    try:
        return None if value is None else float(cast("Any", value))
    except (TypeError, ValueError):
        return None
