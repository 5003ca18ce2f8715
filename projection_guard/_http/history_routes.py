"""The admin route that charts are drawn from."""

from __future__ import annotations

from typing import Final

from . import answers, asking
from .access import Need
from .endpoint import Answer, Call, Endpoint

__all__ = ["HISTORY"]


async def _history(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.HistoryQuery)
    history = await call.service.on_history.of(call.path["name"], hours=asked.hours, points=asked.points)
    return Answer(content=answers.History.model_validate(history))


HISTORY: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        name="history",
        method="GET",
        path="/admin/projections/{name}/history",
        summary="How did a projection do over time?",
        description="From the samples that workers take once a minute and keep for a week.",
        needs=Need.VIEWER,
        do=_history,
        answer=answers.History,
        query=asking.HistoryQuery,
        problems=(404,),
    ),
)
