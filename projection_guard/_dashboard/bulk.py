"""What is done with many failures at once: counted and confirmed on one page, then watched on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import Field

from .._http import answers
from .._http.access import Need
from .._http.endpoint import identity
from .._http.problems import Problem
from .._model import FailureFilter
from .._records import BulkAction, Strategy
from .failures import Criteria, Criterion, told_of
from .fields import Note
from .place import Gone, Place, Shown, Visit

__all__ = ["BULK"]


class BulkForm(Criteria):
    """What is to be done with all that are meant. `seen`: how many that were when it was decided."""

    seen: int = Field(ge=0)
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkChoice:
    """What would be done with how many failures. `sample` is the biggest group of them."""

    strategy: Strategy
    sample: answers.FailureGroup | None
    criteria: tuple[Criterion, ...]
    fields: dict[str, str]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPage:
    """A bulk action, as far as it has come. `criteria`: which failures it is for."""

    action: BulkAction
    criteria: tuple[Criterion, ...]
    fields: dict[str, str]

    @property
    def share(self) -> float:
        """How much of it is done."""
        return 1.0 if not self.action.count else min(self.action.done / self.action.count, 1.0)


_TITLES: Final = {"retry": "Retry all", "skip": "Skip all", "manual_fix": "All were mended by hand"}


def _choosing(strategy: Strategy) -> Place:
    async def choose(visit: Visit) -> Shown:
        asked = visit.asked(Criteria)
        _check(asked)
        on_failures, where = visit.looking.on_failures, asked.as_filter()
        groups = await on_failures.failure_groups(None, where=where, limit=1, after=None)
        page = BulkChoice(
            strategy=strategy,
            sample=visit.view.group(groups.items[0]) if groups.items else None,
            criteria=told_of(asked),
            fields=asked.fields(),
            count=await on_failures.count_failures(where),
        )
        return Shown(template="bulk_choice.html", title=_TITLES[strategy], page=page, section="failures")

    return Place(name=f"choose_{strategy}", path=f"bulk/{strategy}", do=choose, needs=Need.OPERATOR, query=Criteria)


def _check(asked: Criteria) -> None:
    if not asked.fields() or asked.state == "resolved":
        detail = "Say which unresolved failures are meant: filter them first"
        raise Problem(status=422, kind="invalid-argument", detail=detail)


def _beginning(strategy: Strategy) -> Place:
    async def begin(visit: Visit) -> Gone:
        """Propose it, and confirm it where it is for as many as were seen; else somebody has to look again."""
        given = visit.given(BulkForm)
        _check(Criteria.model_validate(given.fields()))
        on_bulk = visit.service.on_bulk
        proposed = await on_bulk.propose(strategy, given.as_filter(), actor=visit.actor.name, note=given.note)
        to = visit.links.to("bulk", str(proposed.id))
        if proposed.count > given.seen:
            return Gone(to=to, said="more-than-seen")
        await on_bulk.confirm(proposed.id, actor=visit.actor.name)
        return Gone(to=to, said="confirmed")

    return Place(
        name="propose_bulk",
        method="POST",
        path=f"bulk/{strategy}",
        do=begin,
        needs=Need.OPERATOR,
        form=BulkForm,
        is_limited=True,
    )


async def _bulk(visit: Visit) -> Shown:
    action = await visit.looking.on_bulk.one(identity(visit.path["bulk_id"], "bulk action"))
    criteria = _criteria_of(action.where)
    page = BulkPage(action=action, criteria=told_of(criteria), fields=criteria.fields())
    live = None if action.is_finished else 2.0
    return Shown(template="bulk.html", title=_TITLES[action.strategy], page=page, section="jobs", live_seconds=live)


def _criteria_of(where: FailureFilter) -> Criteria:
    """Return what it is for. Whoever proposed it in code may have asked by what no form takes."""
    return Criteria.model_construct(
        projection=where.projection_name,
        error_type=where.error_type,
        fingerprint=where.fingerprint,
        event_type=where.event_type,
        stream=where.stream_id,
        state=where.state,
        failed_from=where.failed_from,
        failed_until=where.failed_until,
    )


async def _confirm(visit: Visit) -> Gone:
    bulk_id = identity(visit.path["bulk_id"], "bulk action")
    await visit.service.on_bulk.confirm(bulk_id, actor=visit.actor.name)
    return Gone(to=visit.links.to("bulk", str(bulk_id)), said="confirmed")


async def _cancel(visit: Visit) -> Gone:
    bulk_id = identity(visit.path["bulk_id"], "bulk action")
    await visit.service.on_bulk.cancel(bulk_id, actor=visit.actor.name)
    return Gone(to=visit.links.to("bulk", str(bulk_id)), said="bulk-cancelled")


_STRATEGIES: Final[tuple[Strategy, ...]] = ("retry", "skip", "manual_fix")
BULK: Final = (
    *(_choosing(strategy) for strategy in _STRATEGIES),
    *(_beginning(strategy) for strategy in _STRATEGIES),
    Place(name="bulk_action", path="bulk/{bulk_id}", do=_bulk),
    Place(
        name="confirm_bulk",
        method="POST",
        path="bulk/{bulk_id}/confirm",
        do=_confirm,
        needs=Need.OPERATOR,
        is_limited=True,
    ),
    Place(name="cancel_bulk", method="POST", path="bulk/{bulk_id}/cancel", do=_cancel, needs=Need.OPERATOR),
)
