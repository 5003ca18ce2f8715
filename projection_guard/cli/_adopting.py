"""The command `db adopt`: record tables that are the guard's already, or move a tracker of your own over."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .. import _desk
from .._core.adopting.told import Adoption, ProjectionMoved
from .._core.adopting.work import Adopting
from ..migrations import adopt
from ..migrations._place import check_schema_name
from ._command import Call, Command, at_database
from ._database import tell
from ._exits import Exit, WrongUsage
from ._parser import actor_of, add_actor
from ._screen import Screen

__all__ = ["ADOPT"]


async def _adopt(call: Call) -> int:
    adopting = _adopting(call)
    if await adopting.is_wanted():
        adoption = await (adopting.adopt() if call.options.yes else adopting.look())
        call.screen.answer(asdict(adoption), lambda: _tell(call.screen, adoption))
        return Exit.REFUSED if adoption.in_the_way else Exit.FINE
    aside = await adopting.set_aside_before()
    if aside:
        call.screen.remark(f"A tracker was adopted before: its tables are {', '.join(aside)}; nothing was changed")
        return await tell(call)
    schema = call.service.context.schema
    await call.service.on_schema(lambda connection: adopt(connection, schema))
    return await tell(call)


def _adopting(call: Call) -> Adopting:
    options, schema = call.options, call.service.context.schema
    for name in (options.from_schema, options.views):
        check_schema_name(_desk.engine_of(call.guard).dialect.name, name)
    if options.views is not None and options.views == (schema or "public"):
        raise WrongUsage(f"--views {options.views}: the guard's own tables have these names there; name another schema")
    return Adopting(
        desk=call.service,
        actor=actor_of(options),
        zone=_zone(options.timezone),
        from_schema=options.from_schema,
        views=options.views,
        is_bare=call.is_bare,
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WrongUsage(f"--timezone: there is no time zone {name!r} here; write one such as Europe/Berlin") from None


def _tell(screen: Screen, adoption: Adoption) -> None:
    did = "A tracker was adopted." if adoption.is_done else "A tracker would be adopted; nothing was changed."
    screen.say(did)
    names = ("table", "rows", "moved", "parked", "stay aside", "set aside as", "columns of its own")
    screen.table(
        names,
        [
            (each.name, each.rows, each.moved, each.parked, each.aside_only, each.aside, ", ".join(each.extra_columns))
            for each in adoption.tables
        ],
        none="It has no tables.",
    )
    screen.table(
        ("projection", "resolved", "retried", "wait for a person", "parked", "is followed"),
        [
            (each.name, each.resolved, each.retried, each.waits, each.parked, _follows(each))
            for each in adoption.projections
        ],
        none="It knows no projection.",
    )
    for note in adoption.notes:
        screen.marked("note", note)
    for each in adoption.in_the_way:
        screen.marked("problem", f"in the way: {each} would go on with the table that is set aside; drop it first")
    if adoption.views:
        screen.say(f"Views of the old shape: {', '.join(adoption.views)}.")
    if not adoption.is_done:
        screen.remark("Stop the application that writes the tracker, and say --yes to do it.")


def _follows(moved: ProjectionMoved) -> str:
    if not moved.is_followed:
        return "no"
    return "from where you say" if moved.begins_after is None else f"after {moved.begins_after}"


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--from-schema", metavar="NAME", help="where the tracker's tables are, if not where ours go")
    zone = "the zone of its times that have none (UTC)"
    parser.add_argument("--timezone", default="UTC", metavar="ZONE", help=zone)
    views = "make views of the old shape there, for queries that rely on its types"
    parser.add_argument("--views", metavar="SCHEMA", help=views)
    add_actor(parser)
    parser.add_argument("--yes", action="store_true", help="move a tracker over (without it: only tell what would be)")


ADOPT: Final = Command(
    words="db adopt",
    help="move over a tracker of your own, or record the revision of tables that were made by other means",
    run=at_database(_adopt),
    options=_options,
)
