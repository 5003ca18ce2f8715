"""The admin routes of bulk actions: what would be done is counted first, confirmed, run by a worker, and watched."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import Final

from .._records import BulkAction
from . import answers, asking
from .access import Need
from .endpoint import Answer, Call, Endpoint, identity
from .problems import FieldError, Problem

__all__ = ["BULK"]

_BULK: Final = "/admin/projections/bulk"


async def _propose(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.BulkBody)
    proposed = await call.service.on_bulk.propose(
        asked.compensation_strategy, where=asked.filter.as_filter(), actor=call.by, note=asked.note
    )
    shown = answers.BulkAction.model_validate(proposed).model_dump()
    return Answer(
        content=answers.BulkProposal.model_validate({**shown, "confirmation_token": _token(proposed)}),
        location=f"{_BULK}/{proposed.id}",
    )


def _token(action: BulkAction) -> str:
    """Return what shows that the count was seen: it is no secret, for who may confirm is checked by itself."""
    return sha256(f"{action.id} {action.strategy} {action.count}".encode()).hexdigest()[:16]


async def _bulk(call: Call) -> Answer:
    action = await call.service.on_bulk.one(identity(call.path["bulk_id"], "bulk action"))
    return Answer(content=answers.BulkAction.model_validate(action))


async def _bulks(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.PageQuery)
    page = await call.service.on_bulk.page(limit=asked.limit, after=asked.after)
    items = [answers.BulkAction.model_validate(action) for action in page.items]
    return Answer(content=answers.BulkPage(items=items, after=page.after))


async def _confirm(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.ConfirmBody)
    seen = await call.service.on_bulk.one(identity(call.path["bulk_id"], "bulk action"))
    if not compare_digest(asked.confirmation_token.encode(), _token(seen).encode()):
        errors = [FieldError(field="confirmation_token", detail="It is not the one of this proposal")]
        raise Problem(status=422, kind="invalid-field", detail="confirmation_token: not this proposal's", errors=errors)
    action = await call.service.on_bulk.confirm(seen.id, actor=call.by)
    return Answer(content=answers.BulkAction.model_validate(action), location=f"{_BULK}/{action.id}")


async def _cancel(call: Call) -> Answer:
    action = await call.service.on_bulk.cancel(identity(call.path["bulk_id"], "bulk action"), actor=call.by)
    return Answer(content=answers.BulkAction.model_validate(action))


BULK: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        name="bulk_actions",
        method="GET",
        path=_BULK,
        summary="Which bulk actions are there?",
        needs=Need.VIEWER,
        do=_bulks,
        answer=answers.BulkPage,
        query=asking.PageQuery,
    ),
    Endpoint(
        name="propose_bulk",
        method="POST",
        path=_BULK,
        summary="Count what a bulk action would be for",
        description="Nothing is done before it is confirmed with the token of the answer.",
        needs=Need.OPERATOR,
        do=_propose,
        answer=answers.BulkProposal,
        status=201,
        body=asking.BulkBody,
        is_limited=True,
        problems=(404,),
        example={"compensation_strategy": "retry", "filter": {"projection_name": "DocumentProjection"}},
    ),
    Endpoint(
        name="bulk_action",
        method="GET",
        path=f"{_BULK}/{{bulk_id}}",
        summary="How far has a bulk action come?",
        needs=Need.VIEWER,
        do=_bulk,
        answer=answers.BulkAction,
        problems=(404,),
    ),
    Endpoint(
        name="confirm_bulk",
        method="POST",
        path=f"{_BULK}/{{bulk_id}}/confirm",
        summary="Let a bulk action begin",
        description="A worker runs it. Failures that came after the proposal are left alone.",
        needs=Need.OPERATOR,
        do=_confirm,
        answer=answers.BulkAction,
        status=202,
        body=asking.ConfirmBody,
        is_limited=True,
        problems=(404, 409),
        example={"confirmation_token": "0123456789abcdef"},
    ),
    Endpoint(
        name="cancel_bulk",
        method="POST",
        path=f"{_BULK}/{{bulk_id}}/cancel",
        summary="End a bulk action where it is",
        needs=Need.OPERATOR,
        do=_cancel,
        answer=answers.BulkAction,
        body=asking.NoBody,
        problems=(404, 409),
    ),
)
