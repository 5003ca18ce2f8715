"""What an adoption does, or has done, as people are told it: every row of the tracker's is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._store.tracker import Theirs
from .opened import Known
from .tables import Tally

__all__ = ["Adoption", "ProjectionMoved", "TableMoved", "begins_after", "told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMoved:
    """A table of the tracker's: how many rows it has, and where they go. All of them stay in `aside`, too.

    `moved` have a row of the same table of the guard's, `parked` one among its parked events, `aside_only` none.
    """

    name: str
    aside: str
    rows: int
    moved: int
    parked: int
    aside_only: int
    extra_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionMoved:
    """A projection of the tracker's, and what becomes of its failures.

    `begins_after`: the sequence of the log after which it is followed; None where it is not, or nobody can say.
    """

    name: str
    is_registered: bool
    is_followed: bool
    begins_after: int | None
    resolved: int
    retried: int
    waits: int
    parked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What an adoption does, or has done (`is_done`). While anything is `in_the_way` it is refused."""

    tables: tuple[TableMoved, ...]
    projections: tuple[ProjectionMoved, ...]
    notes: tuple[str, ...]
    in_the_way: tuple[str, ...]
    views: tuple[str, ...]
    is_done: bool


def begins_after(known: Known, name: str, checkpoint: Mapping[str, Any] | None) -> int | None:
    """Return where in the log a tracker's checkpoint stands, by the log itself: its own number may be another one's."""
    projection = known.projections.get(name)
    if projection is None or not projection.is_followed or checkpoint is None:
        return None
    record = known.events.get(checkpoint["last_event_id"] or "")
    return None if record is None else record.sequence


def told(
    theirs: Mapping[str, Theirs],
    columns: Mapping[str, Mapping[str, str]],
    tally: Tally,
    known: Known,
    checkpoints: Mapping[str, Mapping[str, Any]],
    *,
    in_the_way: Sequence[str],
    views: Sequence[str],
    is_done: bool,
) -> Adoption:
    """Say it all."""
    projections = tuple(
        ProjectionMoved(
            name=name,
            is_registered=name in known.projections,
            is_followed=name in known.projections and known.projections[name].is_followed,
            begins_after=begins_after(known, name, checkpoints.get(name)),
            **{fate: tally.fates[name, fate] for fate in ("resolved", "retried", "waits", "parked")},
        )
        for name in sorted(tally.names)
    )
    return Adoption(
        tables=tuple(_table(each, columns[name], tally, projections) for name, each in theirs.items()),
        projections=projections,
        notes=(*(f"{count} {note}" for note, count in tally.notes.items()), *_notes(projections, known)),
        in_the_way=tuple(in_the_way),
        views=tuple(views),
        is_done=is_done,
    )


def _table(
    theirs: Theirs, columns: Mapping[str, str], tally: Tally, projections: Sequence[ProjectionMoved]
) -> TableMoved:
    is_failures = theirs.name == "projection_failures"
    return TableMoved(
        name=theirs.name,
        aside=theirs.aside,
        rows=tally.rows[theirs.name],
        moved=tally.moved[theirs.name],
        parked=sum(each.parked for each in projections) if is_failures else 0,
        aside_only=tally.aside_only[theirs.name],
        extra_columns=tuple(sorted(theirs.types.keys() - set(columns.values()))),
    )


def _notes(projections: Sequence[ProjectionMoved], known: Known) -> list[str]:
    notes: list[str] = []
    if known.is_bare:
        notes.append(
            "without --app nothing is known of handlers and of an event log: unresolved failures wait for a person, "
            "and order='stream' is assumed"
        )
        return notes
    strangers = [each.name for each in projections if not each.is_registered]
    if strangers:
        notes.append(f"the application registers no {', '.join(strangers)}: what failed there waits for a person")
    lost = [each.name for each in projections if each.is_followed and each.begins_after is None]
    if lost:
        notes.append(
            f"the log does not know the last event of {', '.join(lost)}: say where following begins with "
            "guard.follow_from(name, sequence, actor=...) before it is started"
        )
    return notes
