"""The admin routes of failures: look at them one by one or by their causes, and end one."""

from __future__ import annotations

from typing import Final

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
    return Answer(content=call.view.failure_detail(failure, await call.service.attempts(failure.id)))


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
)
