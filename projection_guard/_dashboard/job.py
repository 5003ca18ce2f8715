"""One replay, rebuild or verification: how far it has come, who wanted it and why, and what it has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from .._http import answers
from .._http.access import Need
from .._http.endpoint import identity
from .._model import Replay
from .compared import MOST_KEYS, Differing, differing, left_out
from .fields import NoFields
from .place import Gone, Place, Shown, Visit
from .wording import plural

__all__ = ["JOB"]

_LIVE_SECONDS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """What is known of a job. `can_act`: its projection is registered here, and it has not ended."""

    job: answers.Replay
    tables: tuple[Differing, ...]
    left_out: tuple[str, ...]
    streams: tuple[str, ...]
    can_act: bool
    consequence: str


async def _job(visit: Visit) -> Shown:
    job = await _meant(visit)
    page = _page(visit, job)
    return Shown(
        template="job.html",
        title=f"{_TITLES[job.kind]} of {job.projection_name}",
        page=page,
        section="jobs",
        live_seconds=None if job.is_finished else _LIVE_SECONDS,
    )


async def _meant(visit: Visit) -> Replay:
    return await visit.looking.on_log.replay_of(identity(visit.path["job_id"], "replay"))


def _page(visit: Visit, job: Replay) -> JobPage:
    comparing = job.comparing if isinstance(job.comparing, dict) else {}
    streams = comparing.get("streams")
    return JobPage(
        job=visit.view.replay(job),
        tables=differing(job.compared),
        left_out=left_out(job.compared),
        streams=tuple(map(str, streams[:MOST_KEYS])) if isinstance(streams, list) else (),
        can_act=not job.is_finished and job.projection_name in visit.looking.projections,
        consequence=_cancelled(job),
    )


_TITLES: Final = {
    "range": "Replay of a range",
    "open": "Replay",
    "stream": "Replay of one stream",
    "rebuild": "Rebuild in place",
    "beside": "Rebuild beside",
    "verify": "Verification",
}


def _cancelled(job: Replay) -> str:
    """Say what comes of it when a job is cancelled."""
    if job.kind == "verify":
        return "The copy is dropped, and nothing is found. The live read model was not touched, and goes on."
    if job.kind == "beside":
        return "What was built beside is dropped. The live read model stays as it is, and goes on."
    done = plural(job.events_replayed, "event")
    if job.kind == "rebuild":
        return (
            f"The read model stays as it is now: with the {done} applied so far, and without the rest, which the "
            "projection then follows from there. Until it has caught up the read model is incomplete."
        )
    if job.kind == "stream":
        return (
            f"The {done} of the stream applied so far stay applied, and the rest of it is missing: a tainted stream "
            "stays so. Replay it again to the end; the projection goes on meanwhile."
        )
    return f"The {done} applied so far stay applied. The projection goes on from its checkpoint."


async def _ask_cancel(visit: Visit) -> Shown:
    job = await _meant(visit)
    title = f"Cancel: {_TITLES[job.kind]} of {job.projection_name}"
    return Shown(template="confirm_cancel.html", title=title, page=_page(visit, job), section="jobs")


def _steering(word: str, wanted: Literal["run", "pause", "cancel"], said: str) -> Place:
    async def steer(visit: Visit) -> Gone:
        job_id = identity(visit.path["job_id"], "replay")
        on_log = visit.service.on_log
        steer = on_log.steer if on_log.is_there else on_log.wish  # without a log, whoever has one does it
        await steer(job_id, wanted, actor=visit.actor.name)
        return Gone(to=visit.links.to("jobs", str(job_id)), said=said)

    return Place(
        name=f"{word}_replay",
        path=f"jobs/{{job_id}}/{word}",
        method="POST",
        do=steer,
        needs=Need.OPERATOR,
        form=NoFields,
    )


JOB: Final = (
    Place(name="job", path="jobs/{job_id}", do=_job),
    Place(name="ask_cancel_replay", path="jobs/{job_id}/cancel", do=_ask_cancel, needs=Need.OPERATOR),
    _steering("cancel", "cancel", "job-cancelled"),
    _steering("pause", "pause", "job-paused"),
    _steering("resume", "run", "job-resumed"),
)
