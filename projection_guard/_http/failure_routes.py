"""The admin routes of failures: look at them one by one or by their causes, end one, amend its event."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from .._model import Outcome
from . import answers, asking
from .access import Need
from .endpoint import Answer, Call, Endpoint, identity
from .problems import FieldError, Problem

__all__ = ["FAILURES"]

_FAILURES: Final = "/admin/projections/failures"


async def _list(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.FailuresQuery)
    page = await call.service.on_failures.failures(
        asked.projection_name,
        where=asked.as_filter(asked.projection_name),
        include_resolved=asked.include_resolved,
        limit=asked.limit,
        after=asked.after,
        bare=True,
    )
    return Answer(
        content=answers.FailurePage(items=[call.view.failure(failure) for failure in page.items], after=page.after)
    )


async def _groups(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.GroupsQuery)
    page = await call.service.on_failures.failure_groups(
        asked.projection_name, where=asked.as_filter(asked.projection_name), limit=asked.limit, after=asked.after
    )
    return Answer(content=answers.GroupPage(items=[call.view.group(group) for group in page.items], after=page.after))


async def _one(call: Call) -> Answer:
    failure = await call.service.failure(identity(call.path["failure_id"], "failure"))
    attempts = await call.service.attempts(failure.id)
    amendment = await call.service.on_amendments.of_event(failure.projection_name, failure.event_id)
    return Answer(content=call.view.failure_detail(failure, attempts, amendment))


async def _resolve(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.ResolveBody)
    failure_id = identity(call.path["failure_id"], "failure")
    if asked.failure_id not in (None, failure_id):
        errors = [FieldError(field="failure_id", detail="It is another one than in the path")]
        raise Problem(
            status=422, kind="invalid-field", detail="failure_id: another one than in the path", errors=errors
        )
    outcome = await call.service.resolve(failure_id, asked.compensation_strategy, actor=call.by, note=asked.note)
    return await _tried(call, failure_id, outcome)


async def _tried(call: Call, failure_id: UUID, outcome: Outcome) -> Answer:
    failure = await call.service.failure(failure_id)
    return Answer(
        content=answers.Resolved(
            failure_id=failure_id,
            projection_name=outcome.projection,
            event_id=outcome.event_id,
            outcome=outcome.status,
            attempts=outcome.attempts,
            failure=call.view.failure(failure),
        )
    )


async def _editable(call: Call) -> Answer:
    failure_id = identity(call.path["failure_id"], "failure")
    await _check_seen_whole(call, failure_id)
    payload = await call.service.on_amendments.editable(failure_id)
    return Answer(content=answers.Editable(failure_id=failure_id, event_payload=payload))


async def _check_seen_whole(call: Call, failure_id: UUID) -> None:
    """Raise `Problem` 403 for one to whom the application does not show the event, or not the whole of it."""
    if not call.view.shows_payloads:
        detail = "The application does not show events here (payloads_for=): who edits one has to see it"
        raise Problem(status=403, kind="payloads-hidden", detail=detail)
    if call.view.redact is None:
        return
    if not call.view.shows_whole(await call.service.on_amendments.editable(failure_id)):
        detail = "The application redacts this event here: who edits it would write what is left of it"
        raise Problem(status=403, kind="payloads-hidden", detail=detail)


async def _amend(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.AmendBody)
    failure_id = identity(call.path["failure_id"], "failure")
    await _check_seen_whole(call, failure_id)
    outcome = await call.service.on_amendments.amend(failure_id, asked.event_payload, actor=call.by, note=asked.note)
    return await _tried(call, failure_id, outcome)


async def _unamend(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.UnamendBody)
    failure = await call.service.failure(identity(call.path["failure_id"], "failure"))
    withdrawn = await call.service.on_amendments.unamend(failure.id, actor=call.by, note=asked.note)
    return Answer(
        content=answers.Unamended(
            failure_id=failure.id,
            projection_name=failure.projection_name,
            event_id=failure.event_id,
            withdrawn=withdrawn,
        )
    )


FAILURES: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        name="failures",
        method="GET",
        path=_FAILURES,
        summary="What has failed?",
        needs=Need.VIEWER,
        do=_list,
        answer=answers.FailurePage,
        query=asking.FailuresQuery,
        problems=(404,),
    ),
    Endpoint(
        name="failure_groups",
        method="GET",
        path=f"{_FAILURES}/groups",
        summary="What has failed, by its cause?",
        needs=Need.VIEWER,
        do=_groups,
        answer=answers.GroupPage,
        query=asking.GroupsQuery,
        problems=(404,),
    ),
    Endpoint(
        name="failure",
        method="GET",
        path=f"{_FAILURES}/{{failure_id}}",
        summary="What happened to an event?",
        needs=Need.VIEWER,
        do=_one,
        answer=answers.FailureDetail,
        problems=(404,),
    ),
    Endpoint(
        name="resolve",
        method="POST",
        path=f"{_FAILURES}/{{failure_id}}/resolve",
        summary="End a failure: retry it now, skip its event, or say that it was mended by hand",
        description="`retry` really tries it, once, and says what came of it. 409 where it is resolved already, with "
        "who did it and when, or where somebody works on it right now.",
        needs=Need.OPERATOR,
        do=_resolve,
        answer=answers.Resolved,
        body=asking.ResolveBody,
        problems=(404, 409),
        example={"compensation_strategy": "retry", "note": "fixed in 1.2.3"},
    ),
    Endpoint(
        name="editable",
        method="GET",
        path=f"{_FAILURES}/{{failure_id}}/editable",
        summary="What is there to edit of an event?",
        description="The whole event as JSON, decrypted, and as it was amended before. 403 where the application does "
        "not show events to operators (`payloads_for`), or redacts this one.",
        needs=Need.OPERATOR,
        do=_editable,
        answer=answers.Editable,
        problems=(404,),
    ),
    Endpoint(
        name="amend",
        method="POST",
        path=f"{_FAILURES}/{{failure_id}}/amend",
        summary="Edit an event and retry it; the original is kept",
        description="The projection is given this instead of the event from then on, also by replays and rebuilds; the "
        "log and the failure keep the original. Retried once, now, and the answer says what came of it. 403 where the "
        "application does not show events to operators, or redacts this one; 422 where it is not the same event.",
        needs=Need.OPERATOR,
        do=_amend,
        answer=answers.Resolved,
        body=asking.AmendBody,
        problems=(404, 409),
        example={
            "event_payload": {
                "$class": "DocumentUploaded",
                "data": {"event_id": "e-17", "sequence": 17, "stream_id": "doc-4", "title": "Minutes"},
            },
            "note": "the title was too long",
        },
    ),
    Endpoint(
        name="unamend",
        method="POST",
        path=f"{_FAILURES}/{{failure_id}}/unamend",
        summary="Withdraw an amendment: the event is given as the log has it again",
        description="What was applied stays applied. 409 while the event is being retried, or a replay, rebuild or "
        "verification is under way.",
        needs=Need.OPERATOR,
        do=_unamend,
        answer=answers.Unamended,
        body=asking.UnamendBody,
        problems=(404, 409),
        example={"note": "fixed in 1.2.3"},
    ),
)
