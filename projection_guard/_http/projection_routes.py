"""The admin routes of projections: their state, replays, rebuilds, verifications, who did what."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final, Literal

from .._core.asked import Asked, Verifying
from . import answers, asking
from .access import Need
from .endpoint import Answer, Call, Endpoint, identity

__all__ = ["PROJECTIONS"]

_ADMIN: Final = "/admin/projections"
_REPLAYS: Final = f"{_ADMIN}/replays"
Do = Callable[[Call], Coroutine[object, None, Answer]]


async def _status(call: Call) -> Answer:
    return Answer(content=answers.SystemStatus.model_validate(await call.service.status()))


async def _audit(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.AuditQuery)
    page = await call.service.on_failures.audit(
        asked.projection_name,
        actor=asked.actor,
        action=asked.action,
        failure_id=asked.failure_id,
        limit=asked.limit,
        after=asked.after,
    )
    items = [answers.AuditEntry.model_validate(entry) for entry in page.items]
    return Answer(content=answers.AuditPage(items=items, after=page.after))


async def _replays(call: Call) -> Answer:
    asked = call.query
    assert isinstance(asked, asking.ReplaysQuery)
    page = await call.service.on_log.replays(asked.projection_name, limit=asked.limit, after=asked.after)
    return Answer(
        content=answers.ReplayPage(items=[call.view.replay(replay) for replay in page.items], after=page.after)
    )


async def _replay(call: Call) -> Answer:
    replay = await call.service.on_log.replay_of(identity(call.path["replay_id"], "replay"))
    return Answer(content=call.view.replay(replay))


def _steered(wanted: Literal["run", "pause", "cancel"]) -> Do:
    async def steer(call: Call) -> Answer:
        replay_id = identity(call.path["replay_id"], "replay")
        return Answer(content=call.view.replay(await call.service.on_log.steer(replay_id, wanted, actor=call.by)))

    return steer


async def _begin_replay(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.ReplayBody)
    return await _begun(
        call,
        Asked(
            actor=call.by,
            from_sequence=asked.from_sequence,
            to_sequence=asked.to_sequence,
            stream_id=asked.stream_id,
            skip_failed=asked.skip_failed,
            events_per_second=asked.events_per_second,
            note=asked.note,
        ),
    )


async def _begin_rebuild(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.RebuildBody)
    return await _begun(
        call,
        Asked(
            actor=call.by,
            is_rebuild=True,
            into=asked.into,
            max_failures=asked.max_failures,
            events_per_second=asked.events_per_second,
            note=asked.note,
        ),
    )


async def _begin_verify(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.VerifyBody)
    return await _begun(
        call,
        Asked(
            actor=call.by,
            into=asked.into,
            max_failures=asked.max_failures,
            events_per_second=asked.events_per_second,
            note=asked.note,
            verifying=Verifying(
                sample_streams=asked.sample_streams,
                streams=asked.streams,
                stream_column=asked.stream_column,
                ignore=asked.ignore,
                max_differences=asked.max_differences,
            ),
        ),
    )


async def _begun(call: Call, asked: Asked) -> Answer:
    replay = await call.service.on_log.start_replay(call.path["name"], asked)
    return Answer(content=call.view.replay(replay), location=f"{_REPLAYS}/{replay.id}")


async def _reset(call: Call) -> Answer:
    await call.service.reset(call.path["name"], actor=call.by)
    return await _done(call, "reset")


async def _pause(call: Call) -> Answer:
    asked = call.body
    assert isinstance(asked, asking.PauseBody)
    await call.service.pause(call.path["name"], actor=call.by, reason=asked.reason)
    return await _done(call, "pause")


async def _resume(call: Call) -> Answer:
    await call.service.resume(call.path["name"], actor=call.by)
    return await _done(call, "resume")


async def _done(call: Call, action: Literal["reset", "pause", "resume"]) -> Answer:
    name = call.path["name"]
    (judged,) = await call.service.health([name])
    health = answers.Health.model_validate(judged)
    return Answer(content=answers.Done(projection_name=name, action=action, actor=call.by, health=health))


_STEERING: Final[tuple[tuple[str, Literal["run", "pause", "cancel"], str], ...]] = (
    ("cancel", "cancel", "End a replay where it is; following goes on"),
    ("pause", "pause", "Let a replay rest"),
    ("resume", "run", "Let a replay that rests go on"),
)

PROJECTIONS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        name="status",
        method="GET",
        path=f"{_ADMIN}/status",
        summary="How are all projections together?",
        needs=Need.VIEWER,
        do=_status,
        answer=answers.SystemStatus,
    ),
    Endpoint(
        name="audit",
        method="GET",
        path=f"{_ADMIN}/audit",
        summary="Who did what?",
        needs=Need.VIEWER,
        do=_audit,
        answer=answers.AuditPage,
        query=asking.AuditQuery,
        problems=(404,),
    ),
    Endpoint(
        name="replays",
        method="GET",
        path=_REPLAYS,
        summary="Which replays and rebuilds are there?",
        needs=Need.VIEWER,
        do=_replays,
        answer=answers.ReplayPage,
        query=asking.ReplaysQuery,
        problems=(404,),
    ),
    Endpoint(
        name="replay",
        method="GET",
        path=f"{_REPLAYS}/{{replay_id}}",
        summary="How far has a replay come?",
        needs=Need.VIEWER,
        do=_replay,
        answer=answers.Replay,
        problems=(404,),
    ),
    *(
        Endpoint(
            name=f"{verb}_replay",
            method="POST",
            path=f"{_REPLAYS}/{{replay_id}}/{verb}",
            summary=summary,
            needs=Need.OPERATOR,
            do=_steered(wanted),
            answer=answers.Replay,
            body=asking.NoBody,
            problems=(404, 409),
        )
        for verb, wanted, summary in _STEERING
    ),
    Endpoint(
        name="begin_replay",
        method="POST",
        path=f"{_ADMIN}/{{name}}/replay",
        summary="Apply events of the log again",
        description="Answers with a job, to be watched at `Location` until its status is `completed`, `failed` or "
        "`cancelled`; a worker runs it. 409 while another one runs, with who began it and when.",
        needs=Need.OPERATOR,
        do=_begin_replay,
        answer=answers.Replay,
        status=202,
        body=asking.ReplayBody,
        is_limited=True,
        problems=(404, 409),
        example={"from_sequence": 1, "skip_failed": False},
    ),
    Endpoint(
        name="begin_rebuild",
        method="POST",
        path=f"{_ADMIN}/{{name}}/rebuild",
        summary="Clear the read model and fill it again from the log's beginning",
        needs=Need.OPERATOR,
        do=_begin_rebuild,
        answer=answers.Replay,
        status=202,
        body=asking.RebuildBody,
        is_limited=True,
        problems=(404, 409),
        example={"into": "next", "max_failures": 10},
    ),
    Endpoint(
        name="begin_verify",
        method="POST",
        path=f"{_ADMIN}/{{name}}/verify",
        summary="Compare the read model with the log, without touching it",
        description="Answers with a job, as a replay does; its `drifted` says whether they differ, `compared` where.",
        needs=Need.OPERATOR,
        do=_begin_verify,
        answer=answers.Replay,
        status=202,
        body=asking.VerifyBody,
        is_limited=True,
        problems=(404, 409),
        example={"sample_streams": 100, "stream_column": "document_id"},
    ),
    Endpoint(
        name="reset",
        method="POST",
        path=f"{_ADMIN}/{{name}}/reset",
        summary="Set a projection back to the beginning, and clear its read model",
        needs=Need.OPERATOR,
        do=_reset,
        answer=answers.Done,
        body=asking.NoBody,
        is_limited=True,
        problems=(404, 409),
    ),
    Endpoint(
        name="pause",
        method="POST",
        path=f"{_ADMIN}/{{name}}/pause",
        summary="Stop a projection; events wait",
        description="Answers once nothing of it is in flight any more.",
        needs=Need.OPERATOR,
        do=_pause,
        answer=answers.Done,
        body=asking.PauseBody,
        problems=(404, 409),
        example={"reason": "the index is being moved"},
    ),
    Endpoint(
        name="resume",
        method="POST",
        path=f"{_ADMIN}/{{name}}/resume",
        summary="Let a paused projection go on",
        needs=Need.OPERATOR,
        do=_resume,
        answer=answers.Done,
        body=asking.NoBody,
        problems=(404, 409),
    ),
)
