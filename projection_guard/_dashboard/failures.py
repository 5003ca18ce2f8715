"""The failures: by their causes first, then one by one; filtered, searched, and ended many at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, StringConstraints

from .._http import answers
from .._model import FailureFilter, FailureState
from .fields import Cursor, Fields, Word
from .place import Gone, Place, Shown, Visit

__all__ = ["FAILURES", "Criteria", "Criterion", "told_of"]

_ON_A_PAGE: Final = 50
_STATES: Final[Mapping[str, str]] = {
    "scheduled": "a retry is planned",
    "exhausted": "wait for a person",
    "parked": "hold up later events",
    "resolved": "resolved",
}


def _moment(given: object) -> object:
    """Read what a browser's field for a time gives: without a zone, which is UTC here."""
    if not isinstance(given, str):
        return given
    moment = datetime.fromisoformat(given)
    try:
        return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("it is beyond all calendars") from None


Moment = Annotated[datetime, BeforeValidator(_moment)]


class Criteria(Fields):
    """Which failures are meant: the query of their pages, and the hidden fields of what is done with all of them."""

    projection: Word | None = None
    error_type: Word | None = None
    fingerprint: Word | None = None
    event_type: Word | None = None
    stream: Word | None = None
    state: FailureState | None = None
    failed_from: Moment | None = None
    failed_until: Moment | None = None

    def as_filter(self) -> FailureFilter:
        """Return it as the guard takes it."""
        return FailureFilter(
            projection_name=self.projection,
            error_type=self.error_type,
            fingerprint=self.fingerprint,
            event_type=self.event_type,
            stream_id=self.stream,
            state=self.state,
            failed_from=self.failed_from,
            failed_until=self.failed_until,
        )

    def fields(self) -> dict[str, str]:
        """Return it as the fields of a form, or of an address."""
        return {name: str(value) for name in Criteria.model_fields if (value := getattr(self, name)) is not None}


class FailuresQuery(Criteria):
    """Which failures, and how they are shown. `search` is the id of a failure, an event or a stream."""

    by: Literal["cause", "event"] = "cause"
    search: Annotated[str, StringConstraints(max_length=255, strip_whitespace=True)] | None = None
    after: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One of the criteria that are used: the parameter, what people call it, and its value."""

    name: str
    text: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """One page of failures, or of groups of them. `count`: how many are meant in all; None where that is not asked.

    `projections` are those to choose from; none where they are too many for that, and a name has to be written.
    """

    asked: FailuresQuery
    projections: tuple[str, ...]
    states: Mapping[str, str]
    count: int | None
    groups: tuple[answers.FailureGroup, ...] = ()
    items: tuple[answers.Failure, ...] = ()
    after: str | None = None
    criteria: tuple[Criterion, ...] = ()

    @property
    def is_narrowed(self) -> bool:
        """True where not all unresolved failures are meant."""
        return bool(self.criteria)

    @property
    def has_more_criteria(self) -> bool:
        """True where one of those is used that are not in sight at once."""
        return bool({each.name for each in self.criteria} - {"projection", "state", "fingerprint"})

    @property
    def can_be_ended(self) -> bool:
        """True where what is shown can be ended all together: none of it is, and a criterion says what is meant."""
        return bool(self.count) and self.is_narrowed and self.asked.state != "resolved"


def told_of(criteria: Criteria) -> tuple[Criterion, ...]:
    """Say by which criteria failures are meant."""
    names = {
        "projection": "projection",
        "error_type": "error",
        "fingerprint": "cause",
        "event_type": "event type",
        "stream": "stream",
        "state": "state",
        "failed_from": "failed from",
        "failed_until": "failed until",
    }
    return tuple(Criterion(name=name, text=names[name], value=value) for name, value in criteria.fields().items())


async def _failures(visit: Visit) -> Shown | Gone:
    asked = visit.asked(FailuresQuery)
    if asked.search:
        return await _searched(visit, asked, asked.search)
    on_failures = visit.looking.on_failures
    where = asked.as_filter()
    count = None if asked.state == "resolved" else await on_failures.count_failures(where)
    groups: tuple[answers.FailureGroup, ...] = ()
    items: tuple[answers.Failure, ...] = ()
    if asked.by == "cause":
        group_page = await on_failures.failure_groups(None, where=where, limit=_ON_A_PAGE, after=asked.after)
        groups, after = tuple(visit.view.group(group) for group in group_page.items), group_page.after
    else:
        page = await on_failures.failures(
            None, where=where, include_resolved=False, limit=_ON_A_PAGE, after=asked.after, bare=True
        )
        items, after = tuple(visit.view.failure(failure) for failure in page.items), page.after
    return _shown(visit, asked, count=count, groups=groups, items=items, after=after)


async def _searched(visit: Visit, asked: FailuresQuery, wanted: str) -> Shown | Gone:
    """Look for an id: a failure's leads there at once, an event's or a stream's to its failures, resolved ones too."""
    found = await visit.looking.on_failures.search(wanted, limit=_ON_A_PAGE)
    if len(found) == 1:
        return Gone(to=visit.links.to("failures", str(found[0].id)))
    items = tuple(visit.view.failure(failure) for failure in found)
    return _shown(visit, asked, count=None, items=items)


def _shown(
    visit: Visit,
    asked: FailuresQuery,
    *,
    count: int | None,
    groups: Sequence[answers.FailureGroup] = (),
    items: Sequence[answers.Failure] = (),
    after: str | None = None,
) -> Shown:
    page = Failures(
        asked=asked,
        projections=visit.offered,
        states=_STATES,
        count=count,
        groups=tuple(groups),
        items=tuple(items),
        after=after,
        criteria=told_of(asked),
    )
    is_live = asked.after is None and asked.search is None
    return Shown(
        template="failures.html",
        title="Failures",
        page=page,
        section="failures",
        live_seconds=3 if is_live else None,
    )


FAILURES: Final = (Place(name="failures", path="failures", do=_failures, query=FailuresQuery),)
