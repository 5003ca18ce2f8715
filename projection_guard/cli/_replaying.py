"""Commands for replays and rebuilds: begin one and watch it, or look at one (a verification, too) and steer it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Final, Literal

from .. import _executors
from .._core.asked import Asked
from .._core.spreading import Workplace
from .._model import Replay
from . import _rendering
from ._asking import confirm_by_name
from ._command import Call, Command, Do, on_records, with_handlers
from ._comparing import tell_compared
from ._exits import Exit, WrongUsage
from ._finding import app_of
from ._looking import more
from ._parser import actor_of, add_actor, add_note, add_pages, add_yes
from ._progress import lasting
from ._screen import Cell, Screen
from ._watching import Seen, watched

__all__ = ["REPLAYING", "add_job_options", "begin"]


async def _replay(call: Call) -> int:
    options = call.options
    asked = Asked(
        actor=actor_of(options),
        from_sequence=options.from_sequence,
        to_sequence=options.to_sequence,
        stream_id=options.stream,
        skip_failed=options.skip_failed,
        events_per_second=options.rate,
        note=options.note,
    )
    return await begin(call, call.here(options.name), asked)


async def _rebuild(call: Call) -> int:
    options = call.options
    name = call.here(options.name)
    asked = Asked(
        actor=actor_of(options),
        is_rebuild=True,
        into=options.into,
        max_failures=options.max_failures,
        events_per_second=options.rate,
        note=options.note,
        slices=None if options.processes is None else _executors.slices_over(options.processes),
    )
    if options.processes is not None and options.background:
        raise WrongUsage("--processes rebuilds here, over processes of this machine; leave --background out")
    confirm_by_name(call.screen, _consequences(call, name, asked), name, yes=options.yes)
    if options.processes is None:
        return await begin(call, name, asked)
    async with _executors.processes(call.service.context.io, options.processes, app_of(options)) as place:
        return await begin(call, name, asked, place)


def _consequences(call: Call, name: str, asked: Asked) -> str:
    if asked.into is not None:
        return (
            f"{name} will be built anew as {asked.into!r}, beside the live read model, from the log's beginning; in "
            "the end the tables are compared and exchanged."
        )
    clears = call.service.named(name).on_reset is not None
    cleared = "its read model is cleared by on_reset" if clears else "it has no on_reset: its read model is not cleared"
    return (
        f"{name} will be rebuilt: {cleared}, and every event of the log is applied again; until that is done, readers "
        "see a read model that is being filled. (--into NAME builds it beside the live one.)"
    )


async def begin(call: Call, name: str, asked: Asked, workplace: Workplace | None = None) -> int:
    """Begin a job and run it here to its end, or leave it to a worker."""
    begun = await call.service.on_log.start_replay(name, asked, workplace)
    if not call.options.background:
        return await _run_here(call, begun, workplace)
    call.screen.answer(_rendering.rendered(begun), lambda: _tell(call.screen, begun))
    call.screen.remark(f"A worker runs it; projection-guard replays show {begun.id} tells how far it is")
    return Exit.FINE


async def _run_here(call: Call, job: Replay, workplace: Workplace | None = None) -> int:
    on_log = call.service.on_log

    async def look() -> Seen:
        seen = await on_log.replay_of(job.id)
        left = "" if seen.seconds_left is None else f", about {lasting(seen.seconds_left)} left"
        rate = f"{seen.events_per_second_measured:.0f} a second"
        return Seen(share=seen.progress, note=f"{seen.events_replayed} events, {rate}{left}")

    ended = await watched(
        call,
        f"{job.kind} of {job.projection_name}",
        run=lambda stops: on_log.run_replay(job.projection_name, job.id, stops=stops, workplace=workplace),
        look=look,
        interrupted=(
            f"{job.kind} {job.id} is on record as far as it has come: a worker goes on with it, or you do by "
            f"projection-guard replays run {job.id} (or replays pause, or cancel)"
        ),
    )
    call.screen.answer(_rendering.rendered(ended), lambda: _tell(call.screen, ended))
    if ended.status != "completed":
        return Exit.REFUSED
    return Exit.DRIFTED if ended.drifted else Exit.FINE


def _tell(screen: Screen, job: Replay) -> None:
    pairs: list[tuple[str, Cell]] = [
        (job.kind, str(job.id)),
        ("projection", job.projection_name),
        ("status", job.status if job.error is None else f"{job.status}: {job.error}"),
        ("progress", f"{job.progress:.0%}, at {job.position} of {job.ends_at}"),
        ("events", f"{job.events_replayed} applied, {job.events_skipped} passed over, {job.events_failed} failed"),
        ("begun by", f"{job.actor}, {job.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if job.note is not None:
        pairs.append(("note", job.note))
    if job.seconds_left is not None and not job.is_finished:
        pairs.append(("left", f"about {lasting(job.seconds_left)}"))
    screen.pairs(pairs)
    if job.kind == "verify" and job.compared is not None:
        tell_compared(screen, job)


# -- those that were begun


async def _list(call: Call) -> int:
    asked = call.options
    name: str | None = asked.name
    wanted = None if name is None else call.known(name)
    page = await call.records.on_log.replays(wanted, limit=asked.limit, after=asked.after)

    def people() -> None:
        rows: list[Sequence[Cell]] = [
            (
                str(job.id),
                job.projection_name,
                job.kind,
                job.status,
                f"{job.progress:.0%}",
                job.events_replayed,
                job.actor,
            )
            for job in page.items
        ]
        names = ("id", "projection", "kind", "status", "progress", "events", "by")
        call.screen.table(names, rows, none="Nothing was replayed or rebuilt yet.")
        more(call.screen, page)

    call.screen.answer(_rendering.page(page), people)
    return Exit.FINE


async def _show(call: Call) -> int:
    job = await call.records.on_log.replay_of(call.options.id)
    call.screen.answer(_rendering.rendered(job), lambda: _tell(call.screen, job))
    return Exit.FINE


async def _run(call: Call) -> int:
    job = await call.service.on_log.replay_of(call.options.id)
    call.here(job.projection_name)
    if job.wanted == "pause":
        job = await call.service.on_log.wish(job.id, "run", actor=actor_of(call.options))
    return await _run_here(call, job)


def _steered(wanted: Literal["run", "pause", "cancel"]) -> Do:
    async def steer(call: Call) -> int:
        actor = actor_of(call.options)
        seen = await call.records.on_log.replay_of(call.options.id)
        is_here = seen.projection_name in call.service.projections and call.service.on_log.is_there
        if wanted == "cancel" and is_here:  # one that nobody runs is ended here
            job = await call.service.on_log.steer(seen.id, wanted, actor=actor)
        else:
            job = await call.records.on_log.wish(seen.id, wanted, actor=actor)
        call.screen.answer(_rendering.rendered(job), lambda: _tell(call.screen, job))
        if not job.is_finished:
            call.screen.remark(_WILL[wanted])
        return Exit.FINE

    return steer


_WILL: Final = {
    "run": "A worker goes on with it",
    "pause": "Whoever runs it rests after what he has in hand; its projection goes on standing still",
    "cancel": "Whoever runs it ends it; where nobody does, the next worker",
}


def _name(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the projection")


def add_job_options(parser: ArgumentParser) -> None:
    """Say how fast and where a job runs, who begins it, and why."""
    parser.add_argument("--rate", type=float, metavar="N", help="at most so many events a second")
    parser.add_argument("--background", action="store_true", help="write it down for a worker, and return at once")
    add_actor(parser)
    add_note(parser)


def _replay_options(parser: ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "--from",
        dest="from_sequence",
        type=int,
        metavar="N",
        help="apply again from this sequence on (without it: what is open, then from the checkpoint on)",
    )
    parser.add_argument("--to", dest="to_sequence", type=int, metavar="N", help="up to this one (the log's end)")
    parser.add_argument("--stream", metavar="ID", help="one stream, from its beginning; that ends its taint")
    parser.add_argument("--skip-failed", action="store_true", help="leave what is failed or parked as it is")
    add_job_options(parser)


def _rebuild_options(parser: ArgumentParser) -> None:
    _name(parser)
    parser.add_argument(
        "--into", metavar="NAME", help="build it beside the live one, under this name, and exchange them"
    )
    help_text = "with --into: give up when more events than that fail (0)"
    parser.add_argument("--max-failures", type=int, default=0, metavar="N", help=help_text)
    help_text = "spread the streams over so many processes, each of which imports --app"
    parser.add_argument("--processes", type=int, metavar="N", help=help_text)
    add_job_options(parser)
    add_yes(parser)


def _list_options(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="those of one projection")
    add_pages(parser)


def _id(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the replay's id")


def _id_and_actor(parser: ArgumentParser) -> None:
    _id(parser)
    add_actor(parser)


REPLAYING: Final = (
    Command(
        words="replay",
        help="apply events of the log again",
        run=with_handlers(_replay),
        options=_replay_options,
    ),
    Command(
        words="rebuild",
        help="clear a read model and fill it again from the log's beginning",
        run=with_handlers(_rebuild),
        options=_rebuild_options,
    ),
    Command(
        words="replays list",
        help="replays, rebuilds and verifications, newest first",
        run=on_records(_list),
        options=_list_options,
    ),
    Command(words="replays show", help="how far one has come", run=on_records(_show), options=_id),
    Command(
        words="replays run", help="go on with one here, to its end", run=with_handlers(_run), options=_id_and_actor
    ),
    Command(words="replays pause", help="let one rest", run=on_records(_steered("pause")), options=_id_and_actor),
    Command(
        words="replays resume",
        help="let a worker go on with one that rests",
        run=on_records(_steered("run")),
        options=_id_and_actor,
    ),
    Command(
        words="replays cancel",
        help="end one where it is; what it has applied stays",
        run=on_records(_steered("cancel")),
        options=_id_and_actor,
    ),
)
