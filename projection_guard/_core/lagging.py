"""How far followed projections are behind their log: read from both, whenever somebody asks.

The log is read behind 16 cursors at most. Where projections stand at more than that, the others take the age of what
comes behind a cursor before theirs: more than theirs is, and as close to it as so many readings tell.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import inf
from typing import Final

from sqlalchemy import Connection

from .._health import Lag
from .._store import partitions, reading
from .._store.partitions import Reached
from ..errors import SourceError
from .context import Context, transact
from .log import EventLog
from .projection import Projection

__all__ = ["MOST_READINGS", "lags", "next_to_read"]

MOST_READINGS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What comes next behind a cursor: its age, None where events do not tell their time or a hole comes first."""

    seconds: float | None
    is_held: bool


async def lags(context: Context, projections: Sequence[Projection], log: EventLog | None) -> Mapping[str, Lag]:
    """Say for each followed projection how far it is behind; a log that cannot be read is no error here but a sign."""
    followed = [projection for projection in projections if projection.is_followed]
    if not followed or log is None:
        return {}
    names = [projection.name for projection in followed]

    def look(connection: Connection) -> tuple[dict[str, Reached], datetime]:
        return partitions.reached(connection, names), reading.now(connection)

    reached, now = await transact(context, look, what="the cursors")
    try:
        head = await log.head()
        cursors = sorted({at.cursor for at in reached.values() if at.cursor < head})
        behind = await _read(log, cursors, now)
    except SourceError as error:
        return {name: Lag(unread=str(error), given_up=at.given_up) for name, at in reached.items()}
    return {name: _lag(at, head, behind, now) for name, at in reached.items()}


async def _read(log: EventLog, cursors: Sequence[int], now: datetime) -> dict[int, Behind]:
    """Read what comes next behind cursors, which rise: behind each, or of very many behind some."""
    found: dict[int, Behind] = {}
    while len(found) < MOST_READINGS:
        cursor = next_to_read(cursors, {at: each.seconds for at, each in found.items()})
        if cursor is None:
            break
        batch = await log.read(cursor, 1, None)
        since = log.time_of(batch.events[0]) if batch.events else None
        found[cursor] = Behind(
            seconds=None if since is None else max((now - since).total_seconds(), 0.0),
            is_held=batch.is_held and not batch.events,
        )
    return dict(sorted(found.items()))


def next_to_read(cursors: Sequence[int], ages: Mapping[int, float | None]) -> int | None:
    """Say behind which cursor to read next, given the ages of what was read; None where there is no other.

    The ends come first, and then what is amid two that differ most: so it is found early where the old ends.
    """
    for end in (*cursors[:1], *cursors[-1:]):
        if end not in ages:
            return end
    read = [at for at, cursor in enumerate(cursors) if cursor in ages]
    gaps = [(low, high) for low, high in pairwise(read) if high - low > 1]
    if not gaps:
        return None
    low, high = max(gaps, key=lambda gap: (_differ(ages[cursors[gap[0]]], ages[cursors[gap[1]]]), gap[1] - gap[0]))
    return cursors[(low + high) // 2]


def _differ(older: float | None, younger: float | None) -> float:
    """Say how many times as old one is as the other, of very young ones less so; nothing is as bad as not to know."""
    return inf if older is None or younger is None else (older + 1) / (younger + 1)


def _lag(at: Reached, head: int, behind: Mapping[int, Behind], now: datetime) -> Lag:
    if head <= at.cursor:
        return Lag(is_beyond=head < at.cursor, given_up=at.given_up, cursor=at.cursor, head=head)
    read = list(behind)
    before = read[bisect_right(read, at.cursor) - 1]  # the lowest of all was read
    stands_for = max((now - at.moved_at).total_seconds(), 0.0)
    seconds = behind[before].seconds
    age = stands_for if seconds is None else seconds
    return Lag(
        events=head - at.cursor,
        seconds=age,
        stuck_seconds=min(stands_for, age),
        is_held=before == at.cursor and behind[before].is_held,
        given_up=at.given_up,
        cursor=at.cursor,
        head=head,
    )
