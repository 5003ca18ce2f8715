"""A projection: how it stands and why, how far it has come, what fails in it, and what can be done about that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field
from sqlalchemy import Connection

from .._core.projection import Projection
from .._health import Lag
from .._http import answers
from .._model import Checkpoint, Health, Replay
from .._records import WorkerState
from .._store import diagnosing, replays, workers
from .._store.diagnosing import Known
from .._store.reading import Judged
from .abilities import Able, Standing, able
from .course import SPANS, Course, Spell, course
from .fields import Fields
from .place import Place, Shown, Visit
from .registered import order_in_words, retries_in_words, way_in_words

__all__ = ["PROJECTION", "Stands", "look_at"]

_MOST_GROUPS: Final = 5
_MOST_WORKERS: Final = 10


class ProjectionQuery(Fields):
    """Over how many hours the charts go."""

    hours: Literal["1", "6", "24", "168"] = Field("24")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """How a projection stands: judged now, what is on record of it, and the job that has not ended."""

    projection: Projection
    health: Health
    lag: Lag
    known: Known
    job: Replay | None
    workers: tuple[WorkerState, ...]
    able: Able

    @property
    def name(self) -> str:
        """Its name."""
        return self.projection.name

    @property
    def paused_because(self) -> str | None:
        """Why it was paused, if somebody has said so; the reason of a job only names that."""
        return self.known.reason if self.health.state == "paused" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionPage:
    """What the page shows. `job` is the one that has not ended, as this visitor may see it."""

    stands: Stands
    checkpoint: Checkpoint
    job: answers.Replay | None
    groups: tuple[answers.FailureGroup, ...]
    has_more_groups: bool
    order: str
    way: str
    retries: str
    spell: Spell
    course: Course
    workers_unnamed: int
    spells: tuple[Spell, ...] = SPANS


async def look_at(visit: Visit, name: str) -> Stands:
    """Look how a projection stands. Raises `UnknownProjection`."""
    projection = visit.looking.named(name)
    (judged,) = await visit.looking.judged([name])

    def look(connection: Connection) -> tuple[list[Known], Replay | None, tuple[WorkerState, ...]]:
        return diagnosing.known(connection, name), replays.unfinished(connection, name), workers.seen(connection)

    (known,), job, seen = await visit.looking.read(look)
    return _standing(visit, projection, judged, known, job, tuple(each for each in seen if name in each.projections))


def _standing(
    visit: Visit,
    projection: Projection,
    judged: Judged,
    known: Known,
    job: Replay | None,
    seen: tuple[WorkerState, ...],
) -> Stands:
    standing = Standing(state=judged.health.state, has_job=job is not None)
    return Stands(
        projection=projection,
        health=judged.health,
        lag=judged.signs.lag,
        known=known,
        job=job,
        workers=seen,
        able=able(projection, standing, has_log=visit.looking.on_log.is_there),
    )


async def _projection(visit: Visit) -> Shown:
    name, asked = visit.path["name"], visit.asked(ProjectionQuery)
    stands = await look_at(visit, name)
    spell = next(each for each in SPANS if str(each.hours) == asked.hours)
    history = await visit.looking.on_history.of(name, hours=spell.hours, points=spell.points)
    checkpoint = await visit.looking.checkpoint(name)
    groups = await visit.looking.on_failures.failure_groups(name, where=None, limit=_MOST_GROUPS, after=None)
    page = ProjectionPage(
        stands=stands,
        checkpoint=checkpoint,
        job=None if stands.job is None else visit.view.replay(stands.job),
        groups=tuple(visit.view.group(group) for group in groups.items),
        has_more_groups=groups.after is not None,
        order=order_in_words(stands.projection.order),
        way=way_in_words(stands.projection),
        retries=retries_in_words(stands.projection.retry),
        spell=spell,
        course=course(history),
        workers_unnamed=max(len(stands.workers) - _MOST_WORKERS, 0),
    )
    return Shown(template="projection.html", title=name, page=page, live_seconds=spell.live_seconds)


PROJECTION: Final = (Place(name="projection", path="projections/{name}", do=_projection, query=ProjectionQuery),)
