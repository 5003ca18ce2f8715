"""The overview: every projection, the worst first, with what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from pydantic import Field
from sqlalchemy import Connection

from .._alerts import OpenAlert
from .._model import Health, HealthStatus, Replay
from .._store import replays, workers
from .charts import Chart, sparkline
from .fields import Fields
from .place import Place, Shown, Visit

__all__ = ["OVERVIEW"]

_ON_A_PAGE: Final = 50
_HOURS: Final = 3
_POINTS: Final = 36
_MOST_ALERTS: Final = 5
_WORST_FIRST: Final = tuple(reversed(HealthStatus))
_JOBS: Final = {"verify": "verified", "rebuild": "rebuilt", "beside": "rebuilt beside"}


class OverviewQuery(Fields):
    """Which projections."""

    status: HealthStatus | None = None
    search: str | None = Field(None, max_length=255)
    page: int = Field(1, ge=1, le=100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """How many projections have a status."""

    status: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One projection."""

    health: Health
    per_second: float | None
    spark: Chart
    job: Replay | None

    @property
    def job_name(self) -> str:
        """What is being done to it."""
        return "" if self.job is None else _JOBS.get(self.job.kind, "replayed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All projections in one look, and one page of them."""

    tiles: tuple[Tile, ...]
    rows: tuple[Row, ...]
    alerts: tuple[OpenAlert, ...]
    count: int
    meant: int
    number: int
    last_page: int
    chosen: str | None
    search: str | None
    active_failures: int
    exhausted_failures: int
    parked_events: int
    workers_at_work: int
    workers_silent: int
    hours: int = _HOURS


async def _overview(visit: Visit) -> Shown:
    asked = visit.asked(OverviewQuery)
    healths = await visit.looking.health()
    meant = _meant(healths, asked)
    last_page = max(1, ceil(len(meant) / _ON_A_PAGE))
    number = min(asked.page, last_page)
    shown = meant[(number - 1) * _ON_A_PAGE : number * _ON_A_PAGE]
    names = [health.projection_name for health in shown]

    def look(connection: Connection) -> tuple[Mapping[str, Replay], workers.Headcount]:
        return replays.unfinished_among(connection, names), workers.headcount(connection)

    jobs, seen = await visit.looking.read(look)
    alerts = await visit.looking.on_alerts.open_alerts()
    rows = await _rows(visit, shown, jobs)
    page = Overview(
        tiles=tuple(Tile(status=status, count=sum(h.status is status for h in healths)) for status in _WORST_FIRST),
        rows=rows,
        alerts=alerts[:_MOST_ALERTS],
        count=len(healths),
        meant=len(meant),
        number=number,
        last_page=last_page,
        chosen=asked.status,
        search=asked.search,
        active_failures=sum(health.active_failures for health in healths),
        exhausted_failures=sum(health.exhausted_failures for health in healths),
        parked_events=sum(health.parked_events for health in healths),
        workers_at_work=seen.at_work,
        workers_silent=seen.silent,
    )
    return Shown(template="overview.html", title="Overview", page=page, section="overview", live_seconds=3)


def _meant(healths: Sequence[Health], asked: OverviewQuery) -> list[Health]:
    """Return those that were asked for, the worst first."""
    found = [
        health
        for health in healths
        if asked.status in (None, health.status)
        and (asked.search is None or asked.search.casefold() in health.projection_name.casefold())
    ]
    return sorted(found, key=_by_urgency)


def _by_urgency(health: Health) -> tuple[int, int, str]:
    return _WORST_FIRST.index(health.status), -health.active_failures, health.projection_name


async def _rows(visit: Visit, shown: Sequence[Health], jobs: Mapping[str, Replay]) -> tuple[Row, ...]:
    names = [health.projection_name for health in shown]
    histories = await visit.looking.on_history.of_each(names, hours=_HOURS, points=_POINTS)
    return tuple(
        _row(health, [point.events_per_second for point in history.points], jobs.get(health.projection_name))
        for health, history in zip(shown, histories, strict=True)
    )


def _row(health: Health, rates: Sequence[float | None], job: Replay | None) -> Row:
    newest = [rate for rate in rates[-2:] if rate is not None]  # the minutes that make up the last may have begun only
    return Row(health=health, per_second=newest[-1] if newest else None, spark=sparkline(rates), job=job)


OVERVIEW: Final = (Place(name="overview", path="", do=_overview, query=OverviewQuery),)
