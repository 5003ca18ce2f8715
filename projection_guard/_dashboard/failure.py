"""One failure: what happened, where, how often, what waits behind it, and the ways to end it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from .._core.projection import Projection
from .._encryption import plain_of
from .._http import answers
from .._http.access import Need
from .._http.endpoint import identity
from .._model import Failure, Json, Order, OutcomeStatus
from .._records import Amendment, AuditEntry, Strategy
from ..errors import CodecError, KeysUnavailable, SourceError
from .fields import Fields, Note
from .place import Gone, Place, Shown, Visit
from .tracebacks import Traceback, read
from .wording import visible

__all__ = ["FAILURE", "TRIED", "pretty"]

_SHOWN_PARKED: Final = 20
_SHOWN_DEEDS: Final = 20
_SHOWN_ATTEMPTS: Final = 50
_LONGEST_PAYLOAD: Final = 20_000
TRIED: Final = {
    OutcomeStatus.APPLIED: "retried",
    OutcomeStatus.FAILED: "failed-again",
    OutcomeStatus.DUPLICATE: "duplicate",
    OutcomeStatus.PARKED: "parked",
}


class ResolveForm(Fields):
    """Why."""

    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """An event as text, or why there is none. `is_cut`: there is more. `source`: where it is from, if not our row."""

    text: str | None = None
    why_not: str = ""
    source: str = ""
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePage:
    """What is known of a failure. `parked` are the first of what waits behind it; `has_more_parked`: there are others.

    `original` is the event as it came, `amended` as it was edited. Of very many attempts the failure has the newest;
    `has_more_attempts`: there were some before. `is_registered`: its projection is, in this application.
    """

    failure: answers.FailureDetail
    has_more_attempts: bool
    traceback: Traceback | None
    original: Text
    amended: Text | None
    amendment: Amendment | None
    parked: tuple[answers.ParkedEvent, ...]
    has_more_parked: bool
    deeds: tuple[AuditEntry, ...]
    is_registered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvePage:
    """What is to be confirmed. `parked` events wait behind the failure; `has_more_parked`: at least so many.

    `taints`: a skip marks the stream; `can_be_undone`: the log has the event, and the stream can be replayed alone.
    """

    failure: answers.Failure
    strategy: Strategy
    parked: int
    has_more_parked: bool
    taints: bool
    can_be_undone: bool


def pretty(payload: Json) -> str:
    """Write an event for people."""
    return visible(json.dumps(payload, indent=2, ensure_ascii=False))


async def _failure(visit: Visit) -> Shown:
    failure = await _meant(visit)
    amendment = await visit.looking.on_amendments.of(failure.id)
    attempts = await visit.looking.attempts(failure.id, newest=_SHOWN_ATTEMPTS + 1)
    detail = visit.view.failure_detail(failure, attempts[-_SHOWN_ATTEMPTS:], amendment)
    parked, has_more = await _waiting(visit, failure, _SHOWN_PARKED)
    deeds = await visit.looking.on_failures.audit(
        None, actor=None, action=None, failure_id=failure.id, limit=_SHOWN_DEEDS, after=None
    )
    page = FailurePage(
        failure=detail,
        has_more_attempts=len(attempts) > _SHOWN_ATTEMPTS,
        traceback=None if detail.error_traceback is None else read(detail.error_traceback),
        original=await _readable(visit, failure, is_amended=amendment is not None),
        amended=None if amendment is None else await _readable(visit, amendment, is_amended=True),
        amendment=amendment,
        parked=parked,
        has_more_parked=has_more,
        deeds=deeds.items,
        is_registered=failure.projection_name in visit.looking.projections,
    )
    title = f"{failure.event_type} in {failure.projection_name}"
    live = 3.0 if detail.state != "resolved" else 10.0
    return Shown(template="failure.html", title=title, page=page, section="failures", live_seconds=live)


async def _readable(visit: Visit, kept: Failure | Amendment, *, is_amended: bool) -> Text:
    """Write an event for whoever may see it: decrypted, and from the log where nothing of it is on record."""
    failure_id = identity(visit.path["failure_id"], "failure")
    if not visit.view.shows_payloads:
        return Text(
            why_not="Events are not shown to you: the application says from which role on they are (payloads_for=)."
        )
    try:
        if kept.event_payload is None and is_amended:
            return Text(why_not="The original is in the log, and was not copied from there.")
        if kept.event_payload is None:
            payload, source = await visit.looking.on_amendments.editable(failure_id), "read from the log"
        else:
            payload, source = plain_of(visit.service.context.codec, kept), ""
    except (CodecError, KeysUnavailable):
        return Text(why_not="The event is kept encrypted, and its key is not to be had here and now.")
    except SourceError:
        return Text(why_not="The event is in the log only, which could not be read just now.")
    if payload is None:
        return Text(why_not="The event is not on record as JSON, and its codec cannot write it so.")
    text = pretty(visit.view.payload(payload))
    return Text(text=text[:_LONGEST_PAYLOAD], is_cut=len(text) > _LONGEST_PAYLOAD, source=source)


async def _meant(visit: Visit) -> Failure:
    return await visit.looking.failure(identity(visit.path["failure_id"], "failure"))


async def _waiting(visit: Visit, failure: Failure, limit: int) -> tuple[tuple[answers.ParkedEvent, ...], bool]:
    """Read what waits behind a failure: its stream, or the whole projection where that goes in one line."""
    projection: Projection | None = visit.service.projections.get(failure.projection_name)
    if projection is None or failure.resolved_at is not None or projection.order is Order.NONE:
        return (), False
    stream = None if projection.order is Order.GLOBAL else failure.stream_id
    page = await visit.looking.on_failures.parked(projection.name, stream_id=stream, limit=limit, after=None)
    return tuple(visit.view.parked(item) for item in page.items), page.after is not None


def _confirming(strategy: Strategy) -> Place:
    async def confirm(visit: Visit) -> Shown:
        failure = await _meant(visit)
        parked, has_more = await _waiting(visit, failure, 100)
        projection = visit.service.named(failure.projection_name)
        by_stream = projection.order is Order.STREAM
        page = ResolvePage(
            failure=visit.view.failure(failure),
            strategy=strategy,
            parked=len(parked),
            has_more_parked=has_more,
            taints=projection.order is not Order.NONE,
            can_be_undone=by_stream and projection.is_followed and visit.looking.on_log.is_there,
        )
        title = "Skip the event" if strategy == "skip" else "It was mended by hand"
        return Shown(template="resolve.html", title=title, page=page, section="failures")

    return Place(name=f"confirm_{strategy}", path=_path(strategy), do=confirm, needs=Need.OPERATOR)


def _resolving(strategy: Strategy) -> Place:
    async def resolve(visit: Visit) -> Gone:
        failure_id = identity(visit.path["failure_id"], "failure")
        note = visit.given(ResolveForm).note
        outcome = await visit.service.resolve(failure_id, strategy, actor=visit.actor.name, note=note)
        said = {"skip": "skipped", "manual_fix": "fixed"}.get(strategy) or TRIED.get(outcome.status)
        return Gone(to=visit.links.to("failures", str(failure_id)), said=said)

    return Place(
        name=f"resolve_{strategy}",
        method="POST",
        path=_path(strategy),
        do=resolve,
        needs=Need.OPERATOR,
        form=ResolveForm,
    )


def _path(strategy: Strategy) -> str:
    return f"failures/{{failure_id}}/{strategy}"


FAILURE: Final = (
    Place(name="failure", path="failures/{failure_id}", do=_failure),
    _resolving("retry"),
    _confirming("skip"),
    _resolving("skip"),
    _confirming("manual_fix"),
    _resolving("manual_fix"),
)
