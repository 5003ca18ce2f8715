"""The jobs: replays, rebuilds and verifications, and actions on many failures; those under way first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from .._http import answers
from .._model import Replay
from .._records import BulkAction
from .._store import replays
from .fields import Cursor, Fields, Word
from .place import Place, Shown, Visit

__all__ = ["JOBS"]

_ON_A_PAGE: Final = 25
_MOST_UNDER_WAY: Final = 50


class JobsQuery(Fields):
    """Of which projection, and from where on in either list."""

    projection: Word | None = None
    after: Cursor | None = None
    actions_after: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsPage:
    """What is under way, one page of all others, and one page of actions, newest first.

    `unnamed` are so many under way that are not listed. Actions are not told by their projection.
    """

    projection: str | None
    under_way: tuple[answers.Replay, ...]
    unnamed: int
    others: tuple[answers.Replay, ...]
    after: str | None
    actions: tuple[BulkAction, ...]
    actions_after: str | None


async def _jobs(visit: Visit) -> Shown:
    asked, looking = visit.asked(JobsQuery), visit.looking
    names = list(looking.projections) if asked.projection is None else [looking.named(asked.projection).name]

    def look(connection: Connection) -> list[Replay]:
        found = replays.unfinished_among(connection, names).values()
        return sorted(found, key=lambda job: job.created_at, reverse=True)

    under_way = await looking.read(look)
    listed = {job.id for job in under_way}
    found = await looking.on_log.replays(asked.projection, limit=_ON_A_PAGE, after=asked.after)
    actions, actions_after = await _actions(visit, asked)
    page = JobsPage(
        projection=asked.projection,
        under_way=tuple(visit.view.replay(job) for job in under_way[:_MOST_UNDER_WAY]),
        unnamed=max(len(under_way) - _MOST_UNDER_WAY, 0),
        others=tuple(visit.view.replay(job) for job in found.items if job.id not in listed),
        after=found.after,
        actions=actions,
        actions_after=actions_after,
    )
    return Shown(template="jobs.html", title="Jobs", page=page, section="jobs", live_seconds=3)


async def _actions(visit: Visit, asked: JobsQuery) -> tuple[tuple[BulkAction, ...], str | None]:
    if asked.projection is not None:
        return (), None
    found = await visit.looking.on_bulk.page(limit=_ON_A_PAGE, after=asked.actions_after)
    return found.items, found.after


JOBS: Final = (Place(name="jobs", path="jobs", do=_jobs, query=JobsQuery),)
