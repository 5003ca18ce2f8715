"""Commands that look at projections: status, health, checkpoint, streams, parked, skipped, audit."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any, Final

from .._model import Health, Json, Page, SystemStatus
from .._on_record import OnRecord, on_record
from .._on_workers import workers_of
from .._records import WorkerState
from .._service import summed_up
from .._store import reading
from ..errors import StoreUnavailable
from . import _rendering
from ._command import Call, Command, on_records
from ._exits import exit_of_status, refusal_of
from ._parser import add_pages, seconds
from ._progress import lasting
from ._screen import Cell, Screen, counted

__all__ = ["LOOKING", "more"]

_SHORTEST_PAUSE_SECONDS: Final = 0.05


def more(screen: Screen, page: Page[Any]) -> None:
    """Say how to read on."""
    if page.after is not None:
        screen.remark(f"There is more: --after {page.after}")


# -- status


async def _status(call: Call) -> int:
    pause: float | None = call.options.watch
    if pause is None:
        return await _look(call, call.found)
    call.screen.watches = True
    found = call.found
    while True:
        try:
            found = await on_record(call.service)
            await _look(call, found)
        except StoreUnavailable as error:  # whoever watches wants to see it come back
            call.screen.begin_again()
            call.screen.refuse(refusal_of(error))
        await call.service.context.io.sleep(max(pause, _SHORTEST_PAUSE_SECONDS))


async def _look(call: Call, found: OnRecord) -> int:
    judged = await found.service.health()
    workers = await workers_of(found.service)
    summed = summed_up(judged, await found.service.read(reading.now))
    told: list[Json] = [{**_rendering.rendered(each), "detached": _is_detached(call, found, each)} for each in judged]
    answer = {
        **_rendering.rendered(summed),
        "projections": told,
        "unrecorded": list(found.unrecorded),
        "workers": _rendering.rendered(workers),
    }
    if call.screen.watches:
        call.screen.begin_again()

    def people() -> None:
        _tell_status(call, found, judged, summed)
        _tell_workers(call.screen, workers)

    call.screen.answer(answer, people)
    call.screen.out.flush()
    return exit_of_status(summed.overall_status)


def _is_detached(call: Call, found: OnRecord, health: Health) -> bool | None:
    """Say whether the application does not register it; a bare database cannot tell."""
    return None if call.is_bare else health.projection_name in found.detached


def _tell_status(call: Call, found: OnRecord, judged: Sequence[Health], summed: SystemStatus) -> None:
    names = ("projection", "status", "state", "failures", "exhausted", "parked", "lag", "processed", "")
    rows: list[Sequence[Cell]] = [
        (
            each.projection_name,
            each.status.value,
            each.state,
            each.active_failures,
            each.exhausted_failures,
            each.parked_events,
            _lag(call, found, each),
            each.total_events_processed,
            _marks(call, found, each),
        )
        for each in judged
    ]
    call.screen.table(names, rows, none="No projection is on record in this database.")
    if judged:
        failures = counted(summed.total_active_failures, "unresolved failure")
        call.screen.say(f"{summed.overall_status.value}: {counted(len(judged), 'projection')}, {failures}")
    for name in found.unrecorded:
        call.screen.say(f"{name} is registered, and the database has no record of it yet")


def _tell_workers(screen: Screen, workers: Sequence[WorkerState]) -> None:
    for each in workers:
        does = "is stopping" if each.stopping_at is not None else "is at work"
        if each.is_silent:
            does = f"has been silent for {lasting(each.silent_seconds)}"
        screen.say(f"worker {each.host}:{each.process_id} ({each.kind}) {does}")
    if not workers:
        screen.say("no worker is at work")


def _lag(call: Call, found: OnRecord, health: Health) -> str:
    if found.known[health.projection_name].is_followed and not call.service.on_log.is_there and not health.lag_seconds:
        return "?"  # the log is not read from here
    return lasting(health.lag_seconds)


def _marks(call: Call, found: OnRecord, health: Health) -> str:
    marks = (
        ("detached", _is_detached(call, found, health)),
        ("held: looks like an outage", health.held_since is not None),
        (f"{health.tainted_streams} tainted", health.tainted_streams > 0),
    )
    return ", ".join(mark for mark, is_so in marks if is_so)


def _watch(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=2.0,
        metavar="SECONDS",
        help="look again and again, every 2 s unless said, until Ctrl-C; with --json a line each time",
    )


# -- health


async def _health(call: Call) -> int:
    name: str | None = call.options.name
    judged = await call.records.health(None if name is None else [call.known(name)])
    told = _rendering.rendered(judged)

    def people() -> None:
        for place, health in enumerate(judged):
            if place:
                call.screen.say()
            _tell_health(call.screen, health)
        if not judged:
            call.screen.say("No projection is on record in this database.")

    call.screen.answer(told if name is None else told[0], people)
    return max((exit_of_status(health.status) for health in judged), default=0)


def _tell_health(screen: Screen, health: Health) -> None:
    screen.pairs(
        [
            ("projection", health.projection_name),
            ("status", health.status.value),
            *(("", reason) for reason in health.reasons),
            ("state", health.state),
            ("failures", f"{health.active_failures} unresolved, {health.exhausted_failures} of them exhausted"),
            ("parked", health.parked_events),
            ("lag", f"{lasting(health.lag_seconds)}, {health.lag_events} events"),
            ("processed", health.total_events_processed),
            ("last success", _time(health.last_success_at)),
            ("last failure", _time(health.last_failure_at)),
            ("tainted streams", health.tainted_streams),
        ]
    )


def _time(moment: Any) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _maybe_a_name(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one projection; without it, all")


def _name(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the projection")


async def _checkpoint(call: Call) -> int:
    found = await call.records.checkpoint(call.known(call.options.name))
    told = _rendering.rendered(found)
    call.screen.answer(told, lambda: call.screen.pairs([(name.replace("_", " "), told[name]) for name in told]))
    return 0


# -- lists


async def _streams(call: Call) -> int:
    asked = call.options
    page = await call.records.streams(call.known(asked.name), state=asked.state, limit=asked.limit, after=asked.after)

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (
                each.stream_id,
                "blocked" if each.blocked else "flows",
                each.parked_events,
                each.tainted_reason or ("tainted" if each.tainted else ""),
                ", ".join(map(str, each.failure_ids[:3])) + (" ..." if len(each.failure_ids) > 3 else ""),
            )
            for each in page.items
        ]
        names = ("stream", "state", "parked", "tainted", "failures")
        call.screen.table(names, rows, none=f"No stream of {asked.name} is {asked.state}.")
        more(call.screen, page)

    call.screen.answer(_rendering.page(page), people)
    return 0


def _stream_options(parser: ArgumentParser) -> None:
    _name(parser)
    states = ("blocked", "tainted")
    parser.add_argument("--state", choices=states, default="blocked", help="which ones (blocked)")
    add_pages(parser)


async def _parked(call: Call) -> int:
    asked = call.options
    page = await call.records.on_failures.parked(
        call.known(asked.name), stream_id=asked.stream, limit=asked.limit, after=asked.after
    )

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (each.stream_id, each.event_id, each.event_type, each.event_sequence, each.reason, _time(each.parked_at))
            for each in page.items
        ]
        names = ("stream", "event", "type", "sequence", "why", "parked at")
        call.screen.table(names, rows, none=f"Nothing is parked in {asked.name}.")
        more(call.screen, page)

    items: list[Json] = [_rendering.parked(each, shows_payload=asked.payload) for each in page.items]
    call.screen.answer({"items": items, "after": page.after}, people)
    return 0


def _parked_options(parser: ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("--stream", metavar="ID", help="those of one stream")
    parser.add_argument("--payload", action="store_true", help="with --json: the events themselves, too")
    add_pages(parser)


async def _skipped(call: Call) -> int:
    asked = call.options
    page = await call.records.on_log.skipped(call.known(asked.name), limit=asked.limit, after=asked.after)

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (each.first_sequence, each.last_sequence, "given up" if each.given_up else "", each.reason)
            for each in page.items
        ]
        call.screen.table(("first", "last", "", "why"), rows, none=f"{asked.name} has passed over nothing in its log.")
        more(call.screen, page)

    call.screen.answer(_rendering.page(page), people)
    return 0


def _skipped_options(parser: ArgumentParser) -> None:
    _name(parser)
    add_pages(parser)


async def _audit(call: Call) -> int:
    asked = call.options
    name: str | None = asked.projection
    page = await call.records.on_failures.audit(
        None if name is None else call.known(name),
        actor=asked.by,
        action=asked.action,
        failure_id=asked.failure,
        limit=asked.limit,
        after=asked.after,
    )

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (_time(each.at), each.actor, each.action, each.projection_name, each.note or "") for each in page.items
        ]
        call.screen.table(("when", "who", "what", "projection", "note"), rows, none="Nobody has done anything yet.")
        more(call.screen, page)

    call.screen.answer(_rendering.page(page), people)
    return 0


def _audit_options(parser: ArgumentParser) -> None:
    parser.add_argument("--projection", metavar="NAME", help="what was done to one projection")
    parser.add_argument("--by", metavar="ACTOR", help="what one person or system did")
    parser.add_argument("--action", metavar="ACTION", help="of one kind, such as skip, pause or reset")
    parser.add_argument("--failure", metavar="ID", help="what was done to one failure")
    add_pages(parser)


LOOKING: Final = (
    Command(words="status", help="all projections in one look", run=on_records(_status), options=_watch),
    Command(words="health", help="how a projection is, and why", run=on_records(_health), options=_maybe_a_name),
    Command(words="checkpoint", help="how far a projection has come", run=on_records(_checkpoint), options=_name),
    Command(
        words="streams", help="streams that are blocked or tainted", run=on_records(_streams), options=_stream_options
    ),
    Command(words="parked", help="events that wait, in their order", run=on_records(_parked), options=_parked_options),
    Command(
        words="skipped",
        help="ranges of the log in which nothing was found",
        run=on_records(_skipped),
        options=_skipped_options,
    ),
    Command(words="audit", help="who did what", run=on_records(_audit), options=_audit_options),
)
