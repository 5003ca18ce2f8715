"""A person amends the payload of an event that a projection could not apply; it is retried with that from then on.

The event log and the failure keep the original. Nothing is written before the amended event is known to be the same
event: one that the codec can rebuild, of the same class, with the same id, type, sequence and stream.
"""

from __future__ import annotations

import json
from typing import Final

from sqlalchemy import Connection

from .._encryption import plain_codec, plain_of
from .._mapping import EventMapping
from .._model import EventRecord, Failure, Json, Outcome
from .._records import Amendment
from .._store import amendments, audits, replays, states
from .._store.claims import Ticket
from ..errors import EventError, FailureBusy, InvalidArgument, SourceError, StoreUnavailable
from . import admin
from .admin import Deed
from .context import Context, encoded, recall, transact
from .healing import record_of
from .projection import Projection

__all__ = ["amend", "editable", "unamend"]

_KEPT: Final = ("event_id", "event_type", "sequence", "stream_id")
_OF_THE_LOG: Final = ("event_id", "stream_id")
_WAY: Final = "name its class in handles=, or call guard.codec.register(...)"


async def amend(
    context: Context, mapping: EventMapping, projection: Projection, failure: Failure, payload: Json, deed: Deed
) -> Outcome:
    """Write down what is given instead of a failure's event, and who decided that, and retry it with that.

    The two are committed with the claim: killed before the call, the next retry, whoever makes it, goes on with it.
    """
    admin.refuse_resolved(failure)
    ticket = projection.lone_ticket(record_of(failure))
    event = await _checked(context, mapping, projection, failure, payload)
    kept = encoded(context, ticket, event)

    def write(connection: Connection) -> None:
        states.hold_row(connection, projection.name)
        _refuse_during_job(connection, projection, kinds=("beside",))
        amendments.put(
            connection,
            ticket,
            payload=kept,
            original=failure.event_payload,
            actor=deed.actor,
            note=deed.note,
            failure_id=failure.id,
        )

    return await admin.retry(context, projection, failure, deed, action="amend", first=write)


async def unamend(context: Context, projection: Projection, failure: Failure, deed: Deed) -> bool:
    """Withdraw an amendment: the event is given as the log has it from now on. False where there is none.

    What was applied stays applied.
    """
    name, event_id = projection.name, failure.event_id

    def write(connection: Connection) -> bool:
        states.hold_row(connection, name)
        if audits.details_of(connection, name, deed.action_id) is not None:  # whose COMMIT was under way has ended
            return True
        _refuse_during_job(connection, projection)
        admin.refuse_leased(connection, failure)
        if not amendments.remove(connection, name, event_id):
            return False
        audits.write(
            connection,
            action_id=deed.action_id,
            actor=deed.actor,
            action="unamend",
            projection=name,
            failure_id=failure.id,
            note=deed.note,
            details={"event_id": event_id},
        )
        return True

    return await transact(context, write, what=f"{name}: the amendment of event {event_id!r} was not withdrawn")


def _refuse_during_job(connection: Connection, projection: Projection, kinds: tuple[str, ...] | None = None) -> None:
    """Refuse while a job is under way that may have read the event as it was. Hold the projection's state."""
    job = replays.unfinished(connection, projection.name)
    if job is not None and (kinds is None or job.kind in kinds):
        raise FailureBusy(admin.why_busy(connection, projection, "busy"))


async def editable(context: Context, failure: Failure, amended: Amendment | None) -> Json:
    """Return the readable JSON of a failure's event: as amended, as it is on record, else as the log has it.

    None where nothing of it is on record, or the codec has no way to JSON for it. Raises `CodecError` where it is kept
    encrypted and does not open, `KeysUnavailable`, `SourceError`.
    """
    if amended is not None:
        return plain_of(context.codec, amended)
    if failure.event_payload is not None:
        return plain_of(context.codec, failure)
    try:
        event = await recall(context, _ticket(failure), None)
        return plain_codec(context.codec).encode(event)
    except (SourceError, StoreUnavailable):
        raise
    except Exception:  # a CodecError, or whatever else a codec of the application's raises
        return None


def _ticket(failure: Failure) -> Ticket:
    return Ticket(projection=failure.projection_name, gate="", event=record_of(failure))


# -- the same event?


async def _checked(
    context: Context, mapping: EventMapping, projection: Projection, failure: Failure, payload: Json
) -> object:
    """Return the amended event. Raises `InvalidArgument`, with no value of the payload in its message."""
    amended = _rebuilt(context, failure, payload)
    original = await _original(context, projection, failure)
    if original is not None:
        why = _why_another(original, amended, _said(mapping, original), _said(mapping, amended))
    else:
        why = _why_not_of(failure, _said(mapping, amended), is_followed=projection.is_followed)
    if why is None and not _is_taken(projection, amended, failure.event_type):
        why = f"{projection.name} does not take the amended one"
    if why is not None:
        raise InvalidArgument(f"Event {failure.event_id!r} cannot be amended to this: {why}")
    return amended


def _rebuilt(context: Context, failure: Failure, payload: Json) -> object:
    if payload is None or not _is_json(payload):
        raise InvalidArgument("event_payload takes the event as JSON: objects, lists, texts, finite numbers")
    try:
        return plain_codec(context.codec).decode(payload)
    except StoreUnavailable:
        raise
    except Exception as error:
        raise InvalidArgument(
            f"Event {failure.event_id!r} cannot be amended to this: the codec cannot turn it back into an event "
            f"({type(error).__name__}). Keep the form in which the event is shown; if its class is not known, {_WAY}"
        ) from None


def _is_json(payload: object) -> bool:
    try:
        json.dumps(payload, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


async def _original(context: Context, projection: Projection, failure: Failure) -> object | None:
    """Return the event as it was; None where it cannot be rebuilt, which may be why it is amended."""
    try:
        return await recall(context, projection.lone_ticket(record_of(failure)), failure.event_payload)
    except (SourceError, StoreUnavailable):
        raise
    except Exception:  # a CodecError, or whatever else a codec of the application's raises
        return None


def _said(mapping: EventMapping, event: object) -> EventRecord | None:
    """Return what an event says of itself; None where it does not: then the log says it."""
    try:
        return mapping.read(event)
    except EventError:
        return None


def _why_another(
    original: object, amended: object, before: EventRecord | None, after: EventRecord | None
) -> str | None:
    """Return why the amended event is another one than the original."""
    if type(amended) is not type(original):
        return (
            f"it is a {type(amended).__qualname__}, and the event is a {type(original).__qualname__}; "
            f"if that has no way from JSON, {_WAY}"
        )
    if before is None:
        return None
    return "it does not say which event it is any more" if after is None else _changed(before, after, _KEPT)


def _why_not_of(failure: Failure, after: EventRecord | None, *, is_followed: bool) -> str | None:
    """Return why the amended event is not the failure's, whose event cannot be rebuilt: by what is on record of it.

    What a log says of an event beside it (its type, its place) need not be what the event says itself.
    """
    if after is None:
        return None if is_followed else "it does not say which event it is"
    return _changed(record_of(failure), after, _OF_THE_LOG if is_followed else _KEPT)


def _changed(before: EventRecord, after: EventRecord, names: tuple[str, ...]) -> str | None:
    changed = [name for name in names if getattr(before, name) != getattr(after, name)]
    return f"its {' and '.join(changed)} changed; an amendment keeps {', '.join(_KEPT)}" if changed else None


def _is_taken(projection: Projection, event: object, event_type: str) -> bool:
    try:
        return projection.takes(event, event_type)
    except Exception:  # can_handle is the application's
        return False
