"""Commands that look at failures: list, show, groups."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from .._model import Attempt, Failure
from . import _rendering
from ._command import Call, Command, on_records
from ._exits import Exit, WrongUsage
from ._looking import more
from ._parser import add_filters, add_pages, filter_of
from ._rendering import state_of
from ._screen import Cell, Screen

__all__ = ["FAILURES", "tell_failure"]

_LONGEST_MESSAGE: Final = 60


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[: _LONGEST_MESSAGE - 3]}..."


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


async def _list(call: Call) -> int:
    asked = call.options
    where = filter_of(asked)
    if where.projection_name is not None:
        call.known(where.projection_name)
    if asked.all and where.state is not None:
        raise WrongUsage("--all and --state say different things; leave one out")
    page = await call.records.on_failures.failures(
        None, where=where, include_resolved=asked.all, limit=asked.limit, after=asked.after
    )

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (
                str(each.id),
                each.projection_name,
                each.stream_id,
                each.event_type,
                state_of(each),
                f"{each.retry_count}/{each.max_retries}",
                _time(each.failed_at),
                f"{each.error_type}: {_short(each.error_message)}",
            )
            for each in page.items
        ]
        names = ("id", "projection", "stream", "event type", "state", "retries", "failed at", "error")
        call.screen.table(names, rows, none="There are no such failures.")
        more(call.screen, page)

    call.screen.answer(_rendering.page(page), people)
    return Exit.FINE


async def _show(call: Call) -> int:
    failure = await call.records.failure(call.options.id)
    attempts = await call.records.attempts(failure.id)
    amendment = await call.records.on_amendments.of_event(failure.projection_name, failure.event_id)
    shows = bool(call.options.payload)

    def people() -> None:
        tell_failure(call.screen, failure)
        if amendment is not None:
            when = _time(amendment.amended_at)
            call.screen.say(f"amended by {amendment.amended_by} at {when}: the projection is given another payload")
        _tell_attempts(call.screen, attempts)
        if failure.error_traceback is not None:
            call.screen.block("traceback", failure.error_traceback)
        if shows:
            call.screen.say(f"event  {_rendering.rendered(failure.event_payload)}")

    call.screen.answer(_rendering.failure_detail(failure, attempts, amendment, shows_payload=shows), people)
    return Exit.FINE


def tell_failure(screen: Screen, failure: Failure) -> None:
    """Write what there is to say of a failure."""
    pairs: list[tuple[str, Cell]] = [
        ("failure", str(failure.id)),
        ("projection", failure.projection_name),
        ("event", f"{failure.event_id} ({failure.event_type})"),
        ("stream", failure.stream_id),
        ("sequence", failure.event_sequence),
        ("state", state_of(failure)),
        ("error", f"{failure.error_type}: {failure.error_message}"),
        ("fingerprint", failure.fingerprint),
        ("retries", f"{failure.retry_count} of {failure.max_retries}"),
        ("failed at", _time(failure.failed_at)),
    ]
    if failure.resolved_at is not None:
        by = "" if failure.resolved_by is None else f" by {failure.resolved_by}"
        pairs.append(("resolved", f"{_time(failure.resolved_at)}, {failure.resolution_method}{by}"))
    elif failure.next_retry_at is not None:
        pairs.append(("next retry", _time(failure.next_retry_at)))
    screen.pairs(pairs)


def _tell_attempts(screen: Screen, attempts: Sequence[Attempt]) -> None:
    rows: list[Sequence[Cell]] = [
        (
            each.number,
            _time(each.attempted_at),
            None if each.duration_ms is None else f"{each.duration_ms:.0f} ms",
            f"{each.error_type}: {_short(each.error_message)}",
        )
        for each in attempts
    ]
    screen.say()
    screen.table(("attempt", "at", "took", "error"), rows, none="No attempt is on record.")


async def _groups(call: Call) -> int:
    asked = call.options
    where = filter_of(asked)
    if where.projection_name is not None:
        call.known(where.projection_name)
    page = await call.records.on_failures.failure_groups(None, where=where, limit=asked.limit, after=asked.after)

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (
                each.count,
                each.exhausted,
                each.projection_name,
                f"{each.error_type}: {_short(each.error_message)}",
                _time(each.last_failed_at),
                each.fingerprint,
            )
            for each in page.items
        ]
        names = ("failures", "exhausted", "projection", "error", "newest", "fingerprint")
        call.screen.table(names, rows, none="There are no such failures.")
        more(call.screen, page)

    call.screen.answer(_rendering.page(page), people)
    return Exit.FINE


def _list_options(parser: ArgumentParser) -> None:
    add_filters(parser, with_resolved=True)
    parser.add_argument("--all", action="store_true", help="those that are resolved, too")
    add_pages(parser)


def _show_options(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the failure's id")
    parser.add_argument("--payload", action="store_true", help="the event itself, too")


def _groups_options(parser: ArgumentParser) -> None:
    add_filters(parser, with_resolved=True)
    add_pages(parser)


FAILURES: Final = (
    Command(words="failures list", help="failures, newest first", run=on_records(_list), options=_list_options),
    Command(words="failures show", help="one failure and its history", run=on_records(_show), options=_show_options),
    Command(
        words="failures groups",
        help="failures that are alike, the biggest group first",
        run=on_records(_groups),
        options=_groups_options,
    ),
)
