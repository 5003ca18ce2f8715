"""The admin routes of streams: which do not simply flow, what waits there, the end of a taint, holes of the log."""

from __future__ import annotations

from typing import Final

from .._on_streams import history_of, untaint
from . import answers, asking
from .access import Need
from .endpoint import Answer, Call, Endpoint

__all__ = ["STREAMS"]

_ADMIN: Final = "/admin/projections"


async def _parked(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.ParkedQuery)
    page = await call.service.on_failures.parked(
        call.path["name"], stream_id=asked.stream_id, limit=asked.limit, after=asked.after
    )
    return Answer(content=answers.ParkedPage(items=[call.view.parked(item) for item in page.items], after=page.after))


async def _streams(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.StreamsQuery)
    page = await call.service.streams(call.path["name"], state=asked.state, limit=asked.limit, after=asked.after)
    items = [answers.Stream.model_validate(stream) for stream in page.items]
    return Answer(content=answers.StreamPage(items=items, after=page.after))


async def _stream(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.StreamQuery)
    history = await history_of(call.service, call.path["name"], asked.stream_id, limit=asked.limit, after=asked.after)
    return Answer(content=answers.StreamHistory.model_validate(history))


async def _untaint(call: Call) -> Answer:
    asked, name = call.body, call.path["name"]
    assert isinstance(asked, asking.UntaintBody)
    untainted = await untaint(
        call.service, name, asked.stream_id, tainted_reason=asked.tainted_reason, actor=call.by, note=asked.note
    )
    return Answer(content=answers.Untainted(projection_name=name, stream_id=asked.stream_id, untainted=untainted))


async def _skipped(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.PageQuery)
    page = await call.service.on_log.skipped(call.path["name"], limit=asked.limit, after=asked.after)
    items = [answers.SkippedRange.model_validate(found) for found in page.items]
    return Answer(content=answers.SkippedPage(items=items, after=page.after))


STREAMS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        name="parked",
        method="GET",
        path=f"{_ADMIN}/{{name}}/parked",
        summary="Which events wait?",
        needs=Need.VIEWER,
        do=_parked,
        answer=answers.ParkedPage,
        query=asking.ParkedQuery,
        problems=(404,),
    ),
    Endpoint(
        name="streams",
        method="GET",
        path=f"{_ADMIN}/{{name}}/streams",
        summary="Which streams are blocked, which tainted?",
        needs=Need.VIEWER,
        do=_streams,
        answer=answers.StreamPage,
        query=asking.StreamsQuery,
        problems=(404,),
    ),
    Endpoint(
        name="stream",
        method="GET",
        path=f"{_ADMIN}/{{name}}/stream",
        summary="What has become of the events of one stream?",
        description="Newest first. A stream that nobody knows has no events.",
        needs=Need.VIEWER,
        do=_stream,
        answer=answers.StreamHistory,
        query=asking.StreamQuery,
        problems=(404,),
    ),
    Endpoint(
        name="untaint",
        method="POST",
        path=f"{_ADMIN}/{{name}}/untaint",
        summary="End a stream's taint: its read model was mended by hand",
        description="Events that were skipped there count as mended by hand from then on. 409 where it is tainted for "
        "another reason than `tainted_reason`, or a replay, rebuild or verification is under way.",
        needs=Need.OPERATOR,
        do=_untaint,
        answer=answers.Untainted,
        body=asking.UntaintBody,
        problems=(404, 409),
        example={"stream_id": "doc-4", "note": "the row was written by hand"},
    ),
    Endpoint(
        name="skipped",
        method="GET",
        path=f"{_ADMIN}/{{name}}/skipped",
        summary="In which ranges of the log was nothing found?",
        needs=Need.VIEWER,
        do=_skipped,
        answer=answers.SkippedPage,
        query=asking.PageQuery,
        problems=(404,),
    ),
)
