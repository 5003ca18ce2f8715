"""Commands that end failures, one by its id or many by a filter: retry, skip, resolve; and the actions on many."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from .._model import FailureFilter, Outcome, OutcomeStatus
from .._records import BulkAction, Strategy
from .._service import Service
from . import _rendering
from ._asking import check_answerable, confirm
from ._command import Call, Command, Do, needs_handlers, on_records
from ._exits import Exit, WrongUsage
from ._looking import more
from ._parser import actor_of, add_actor, add_filters, add_note, add_pages, add_yes, filter_of
from ._screen import Cell, Screen, counted
from ._watching import Seen, watched

__all__ = ["RESOLVING", "tried"]

_STILL_RUN_BY_OTHERS_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verb:
    """How an action is called: `retry`, and what is said of failures that it is for."""

    strategy: Strategy
    asks: str
    ended: str


_RETRY: Final = _Verb(strategy="retry", asks="Try {} again, now?", ended="was applied")
_SKIP: Final = _Verb(
    strategy="skip", asks="Skip {}? Their effects are left out, their streams are tainted.", ended="was skipped"
)
_FIX: Final = _Verb(strategy="manual_fix", asks="Take {} for mended by hand?", ended="is taken for mended by hand")


def _resolving(verb: _Verb) -> Do:
    async def resolve(call: Call) -> int:
        where = filter_of(call.options)
        if (call.options.id is None) is (where == FailureFilter()):
            raise WrongUsage("Give the ID of one failure, or say which ones are meant by --projection and the like")
        if call.options.id is not None:
            return await _one(call, verb)
        return await _many(call, verb, where)

    return resolve


# -- one


async def _one(call: Call, verb: _Verb) -> int:
    strategy, options = verb.strategy, call.options
    failure = await call.records.failure(options.id)
    service = call.records
    if strategy == "retry":
        if call.is_bare:
            raise needs_handlers("failures retry")
        call.here(failure.projection_name)
        service = call.service
    outcome = await service.resolve(failure.id, strategy, actor=actor_of(options), note=options.note)
    return await tried(call, outcome, failure.id, ended=verb.ended)


async def tried(call: Call, outcome: Outcome, failure_id: UUID, *, ended: str) -> int:
    """Say what came of an action on one failure; `ended` is said where it has come to its end."""
    failure = await call.records.failure(failure_id)
    has_failed = outcome.status is OutcomeStatus.FAILED

    def people() -> None:
        said = f"failed again: {failure.error_type}: {failure.error_message}" if has_failed else ended
        if outcome.status is OutcomeStatus.PARKED:
            said = "waits behind an earlier event of its stream"
        call.screen.say(f"{failure.event_id} of {failure.projection_name} {said}")

    call.screen.answer(_rendering.resolved(outcome, failure), people)
    has_ended = outcome.status in (OutcomeStatus.APPLIED, OutcomeStatus.DUPLICATE)
    return Exit.FINE if has_ended else Exit.REFUSED


# -- many


async def _many(call: Call, verb: _Verb, where: FailureFilter) -> int:
    actor = actor_of(call.options)
    check_answerable(call.screen, yes=call.options.yes)
    if where.projection_name is not None:
        call.known(where.projection_name)
    on_bulk = call.records.on_bulk
    proposed = await on_bulk.propose(verb.strategy, where, actor=actor, note=call.options.note)
    if not proposed.count:
        call.screen.answer(_rendering.rendered(proposed), lambda: call.screen.say("There are no such failures."))
        return Exit.FINE
    meant = f"{counted(proposed.count, 'failure')} in {', '.join(proposed.projections)}"
    confirm(call.screen, verb.asks.format(meant), yes=call.options.yes)
    confirmed = await on_bulk.confirm(proposed.id, actor=actor)
    runs = await _who_runs(call, confirmed)
    if runs is None:
        call.screen.answer(_rendering.rendered(confirmed), lambda: _tell(call.screen, confirmed))
        call.screen.remark(
            "A worker runs it, where all these projections are registered and their log can be read; "
            f"projection-guard bulk show {confirmed.id} tells how far it is"
        )
        return Exit.FINE
    return await _run_here(call, confirmed, runs)


async def _who_runs(call: Call, action: BulkAction) -> Service | None:
    """Return the service that can run it here; None where the handlers that it needs are elsewhere."""
    if action.strategy != "retry":
        return call.records if set(action.projections) <= call.records.projections.keys() else None
    if call.is_bare or not set(action.projections) <= call.service.projections.keys():
        return None
    await call.service.open()
    return call.service if set(action.projections) <= call.service.runnable() else None


async def _run_here(call: Call, action: BulkAction, service: Service) -> int:
    async def run(stops: Callable[[], bool]) -> BulkAction:
        while True:
            await service.on_bulk.run(action.id, stops=stops)
            seen = await service.on_bulk.one(action.id)
            if seen.is_finished or seen.waits is not None or stops():
                return seen
            await service.context.io.sleep(_STILL_RUN_BY_OTHERS_SECONDS)  # a worker was quicker

    async def look() -> Seen:
        seen = await service.on_bulk.one(action.id)
        note = f"{seen.done} of {seen.count}, {seen.failed} in vain"
        return Seen(share=seen.done / max(seen.count, 1), note=note)

    ended = await watched(
        call,
        action.strategy,
        run=run,
        look=look,
        interrupted=f"A worker goes on with it; or end it: projection-guard bulk cancel {action.id}",
    )
    call.screen.answer(_rendering.rendered(ended), lambda: _tell(call.screen, ended))
    return Exit.FINE if ended.status == "completed" and not ended.failed else Exit.REFUSED


def _tell(screen: Screen, action: BulkAction) -> None:
    pairs: list[tuple[str, Cell]] = [
        (f"bulk {action.strategy}", str(action.id)),
        ("projections", ", ".join(action.projections)),
        ("status", action.status if action.error is None else f"{action.status}: {action.error}"),
        ("failures", f"{action.count}, of which {action.done} done: {action.succeeded} well, {action.failed} in vain"),
        ("by", action.actor),
    ]
    if action.note is not None:
        pairs.append(("note", action.note))
    if action.waits is not None:
        pairs.append(("waits", f"{action.waits}; a worker goes on once that has ended"))
    screen.pairs(pairs)


async def _bulk_list(call: Call) -> int:
    page = await call.records.on_bulk.page(limit=call.options.limit, after=call.options.after)

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (str(each.id), each.strategy, ", ".join(each.projections), each.status, each.count, each.done, each.actor)
            for each in page.items
        ]
        names = ("id", "what", "projections", "status", "failures", "done", "by")
        call.screen.table(names, rows, none="There are no actions on many failures.")
        more(call.screen, page)

    call.screen.answer(_rendering.page(page), people)
    return Exit.FINE


async def _bulk_show(call: Call) -> int:
    action = await call.records.on_bulk.one(call.options.id)
    call.screen.answer(_rendering.rendered(action), lambda: _tell(call.screen, action))
    return Exit.FINE


async def _bulk_cancel(call: Call) -> int:
    action = await call.records.on_bulk.cancel(call.options.id, actor=actor_of(call.options))
    call.screen.answer(_rendering.rendered(action), lambda: _tell(call.screen, action))
    return Exit.FINE


def _resolve_options(parser: ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", metavar="ID", help="one failure; without it, all that the options mean")
    add_filters(parser, with_resolved=False)
    add_actor(parser)
    add_note(parser)
    add_yes(parser)


def _id(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the action's id")


def _id_and_actor(parser: ArgumentParser) -> None:
    _id(parser)
    add_actor(parser)


_resolve_by = partial(Command, options=_resolve_options)

RESOLVING: Final = (
    _resolve_by(words="failures retry", help="try events again, now", run=on_records(_resolving(_RETRY))),
    _resolve_by(
        words="failures skip",
        help="leave events out; their streams are tainted and flow on",
        run=on_records(_resolving(_SKIP)),
    ),
    _resolve_by(
        words="failures resolve",
        help="say that the effects of events were made by hand (manual fix)",
        run=on_records(_resolving(_FIX)),
    ),
    Command(
        words="bulk list", help="actions on many failures, newest first", run=on_records(_bulk_list), options=add_pages
    ),
    Command(words="bulk show", help="how far one has come", run=on_records(_bulk_show), options=_id),
    Command(words="bulk cancel", help="end one where it is", run=on_records(_bulk_cancel), options=_id_and_actor),
)
