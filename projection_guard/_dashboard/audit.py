"""Who did what: the audit log, newest first, filtered and told in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from .._model import Json
from .._records import AuditEntry
from .fields import Cursor, Fields, Word
from .place import Place, Shown, Visit

__all__ = ["AUDIT", "Entry", "told"]

_ON_A_PAGE: Final = 50
_LONGEST: Final = 500
_ACTIONS: Final[Mapping[str, str]] = {
    "retry": "tried a failure again",
    "skip": "skipped an event",
    "manual_fix": "ended a failure as mended by hand",
    "amend": "amended an event",
    "unamend": "withdrew an amendment",
    "untaint": "ended a stream's taint, whose read model was mended",
    "confirm_bulk": "confirmed an action on many failures",
    "cancel_bulk": "cancelled an action on many failures",
    "pause": "paused it",
    "resume": "resumed it",
    "reset": "began to reset it",
    "reset_done": "has reset it",
    "reset_undone": "a reset did not come about",
    "replay": "began a replay",
    "rebuild": "began a rebuild",
    "verify": "began a verification",
    "pause_replay": "let a job rest",
    "resume_replay": "let a job go on",
    "cancel_replay": "cancelled a job",
    "follow": "began to follow the log",
    "follow_from": "chose where following begins",
}
_APART: Final = ("before", "after", "job", "bulk")
"""Details that have a place of their own."""


class AuditQuery(Fields):
    """Which entries."""

    projection: Word | None = None
    actor: Word | None = None
    action: Word | None = None
    failure: UUID | None = None
    after: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry. `change`: what a state was and is; `facts`: what else is told of it; `job` and `bulk` have pages."""

    entry: AuditEntry
    says: str
    change: tuple[str, str] | None
    facts: tuple[tuple[str, str], ...]
    job: str | None
    bulk: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """A part of the audit log. `known` are the projections that have a page, `projections` those to choose from."""

    asked: AuditQuery
    entries: tuple[Entry, ...]
    after: str | None
    known: frozenset[str]
    projections: tuple[str, ...]
    actions: Mapping[str, str]

    @property
    def is_narrowed(self) -> bool:
        """True where not all entries are meant."""
        asked = self.asked
        return any(each is not None for each in (asked.projection, asked.actor, asked.action, asked.failure))


def told(entry: AuditEntry) -> Entry:
    """Tell an entry in words."""
    details = entry.details if isinstance(entry.details, dict) else {}
    before, after = details.get("before"), details.get("after")
    facts = tuple((name.replace("_", " "), _text(value)) for name, value in details.items() if name not in _APART)
    return Entry(
        entry=entry,
        says=_ACTIONS.get(entry.action, entry.action.replace("_", " ")),
        change=None if before is None or after is None or before == after else (_text(before), _text(after)),
        facts=facts,
        job=_id(details.get("job")),
        bulk=_id(details.get("bulk")),
    )


def _text(value: Json) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "\u2026"


def _id(value: Json) -> str | None:
    return value if isinstance(value, str) else None


async def _audit(visit: Visit) -> Shown:
    asked = visit.asked(AuditQuery)
    found = await visit.looking.on_failures.audit(
        asked.projection,
        actor=asked.actor,
        action=asked.action,
        failure_id=asked.failure,
        limit=_ON_A_PAGE,
        after=asked.after,
    )
    names = visit.looking.projections
    page = AuditPage(
        asked=asked,
        entries=tuple(told(entry) for entry in found.items),
        after=found.after,
        known=frozenset(names),
        projections=visit.offered,
        actions=_ACTIONS,
    )
    live = None if asked.after else 10
    return Shown(template="audit.html", title="Audit log", page=page, section="audit", live_seconds=live)


AUDIT: Final = (Place(name="audit", path="audit", do=_audit, query=AuditQuery),)
