"""The routes under /health: how projections are, and the probes of an orchestrator."""

from __future__ import annotations

import logging
from typing import Final

from .._model import HealthStatus
from ..errors import ProjectionGuardError
from . import answers, asking
from .access import Need
from .endpoint import Answer, Call, Endpoint

__all__ = ["HEALTH"]

log = logging.getLogger("projection_guard")


async def _all(call: Call) -> Answer:
    judged = await call.service.health()
    if call.actor is None:
        return Answer(content=[answers.Summary.model_validate(health) for health in judged])
    return Answer(content=[answers.Health.model_validate(health) for health in judged])


async def _one(call: Call) -> Answer:
    (judged,) = await call.service.health([call.path["name"]])
    return Answer(content=answers.Health.model_validate(judged))


async def _checkpoint(call: Call) -> Answer:
    return Answer(content=answers.Checkpoint.model_validate(await call.service.checkpoint(call.path["name"])))


async def _failures(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.FailuresOfProjectionQuery)
    name = call.path["name"]
    page = await call.service.on_failures.failures(
        name,
        where=asked.as_filter(name),
        include_resolved=asked.include_resolved,
        limit=asked.limit,
        after=asked.after,
        bare=True,
    )
    return Answer(
        content=answers.FailurePage(items=[call.view.failure(failure) for failure in page.items], after=page.after)
    )


async def _live(call: Call) -> Answer:
    _ = call
    return Answer(content=answers.Probe(status="live"))


async def _ready(call: Call) -> Answer:
    """Ask the database; what is wrong with it is for the log, not for whoever may ask this."""
    try:
        await call.service.open()
        await call.service.check_schema()
        is_well = call.ready_at_worst is None or await _is_at_worst(call, call.ready_at_worst)
    except ProjectionGuardError as error:
        log.warning("not ready: %s", error)
        return _not_ready("the guard cannot use its database; the log says why")
    if not is_well:
        return _not_ready("a projection is worse than this process is to be ready with")
    return Answer(content=answers.Probe(status="ready"))


async def _is_at_worst(call: Call, worst: HealthStatus) -> bool:
    statuses = list(HealthStatus)
    return statuses.index((await call.service.status()).overall_status) <= statuses.index(worst)


def _not_ready(detail: str) -> Answer:
    return Answer(content=answers.Probe(status="not_ready", detail=detail), status=503)


HEALTH: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        name="live",
        method="GET",
        path="/health/projections/live",
        summary="Does the process live?",
        description="Answers whatever becomes of projections and database: a restart would mend neither.",
        needs=Need.NOBODY,
        is_instant=True,
        do=_live,
        answer=answers.Probe,
    ),
    Endpoint(
        name="ready",
        method="GET",
        path="/health/projections/ready",
        summary="Can the guard take events?",
        description="503 while its database is away or not migrated. The health of projections plays no part unless "
        "`ready_at_worst=` says so: they heal by themselves, and taking the process away would not help them.",
        needs=Need.NOBODY,
        do=_ready,
        answer=answers.Probe,
        problems=(503,),
    ),
    Endpoint(
        name="health_of_all",
        method="GET",
        path="/health/projections",
        summary="How is each projection?",
        description="Who has not said who he is gets names and statuses only, or nothing (`public_summary=False`).",
        needs=Need.SUMMARY,
        do=_all,
        answer=answers.Health,
        answers_list=True,
    ),
    Endpoint(
        name="checkpoint",
        method="GET",
        path="/health/projections/{name}/checkpoint",
        summary="How far has a projection come?",
        needs=Need.VIEWER,
        do=_checkpoint,
        answer=answers.Checkpoint,
        problems=(404,),
    ),
    Endpoint(
        name="failures_of_projection",
        method="GET",
        path="/health/projections/{name}/failures",
        summary="What has failed in a projection?",
        needs=Need.VIEWER,
        do=_failures,
        answer=answers.FailurePage,
        query=asking.FailuresOfProjectionQuery,
        problems=(404,),
    ),
    Endpoint(
        name="health",
        method="GET",
        path="/health/projections/{name}",
        summary="How is a projection?",
        needs=Need.VIEWER,
        do=_one,
        answer=answers.Health,
        problems=(404,),
    ),
)
"""In the order in which they are tried: what has more words after the name comes first."""
