"""Commands that change what a projection does: pause, resume, reset."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Final

from . import _rendering
from ._asking import confirm_by_name
from ._command import Call, Command, on_records, with_handlers
from ._exits import Exit
from ._parser import actor_of, add_actor, add_yes
from ._screen import counted

__all__ = ["STEERING"]


async def _pause(call: Call) -> int:
    name, actor = call.known(call.options.name), actor_of(call.options)
    await call.records.pause(name, actor=actor, reason=call.options.reason)
    said = f"{name} is paused; nothing of it is in flight any more. Its events wait."
    return await _done(call, name, "pause", actor, said)


async def _resume(call: Call) -> int:
    name, actor = call.known(call.options.name), actor_of(call.options)
    await call.records.resume(name, actor=actor)
    return await _done(call, name, "resume", actor, f"{name} goes on; a worker applies what has waited, in order.")


async def _reset(call: Call) -> int:
    name, actor = call.here(call.options.name), actor_of(call.options)
    confirm_by_name(call.screen, await _consequences(call, name), name, yes=call.options.yes)
    await call.service.reset(name, actor=actor)
    return await _done(call, name, "reset", actor, f"{name} was reset.")


async def _consequences(call: Call, name: str) -> str:
    projection = call.service.named(name)
    cleared = "on_reset clears its read model" if projection.on_reset else "it has no on_reset: its read model stays"
    then = "it is filled again from the log" if projection.is_followed else "publish the events again to fill it"
    waits = ""
    if name in call.found.known:
        (health,) = await call.records.health([name])
        waits = (
            f" {counted(health.active_failures, 'failure')} and {counted(health.parked_events, 'parked event')} "
            "end with it;"
        )
    return f"{name} will be set back to the beginning: {cleared};{waits} {then}."


async def _done(call: Call, name: str, action: str, actor: str, said: str) -> int:
    (health,) = await call.service.beside([call.service.projections.get(name) or call.records.named(name)]).health()
    told = {"projection_name": name, "action": action, "actor": actor, "health": _rendering.rendered(health)}
    call.screen.answer(told, lambda: call.screen.say(said))
    return Exit.FINE


def _name_and_actor(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the projection")
    add_actor(parser)


def _pause_options(parser: ArgumentParser) -> None:
    _name_and_actor(parser)
    parser.add_argument("--reason", metavar="TEXT", help="why, for whoever looks, and for the audit log")


def _reset_options(parser: ArgumentParser) -> None:
    _name_and_actor(parser)
    add_yes(parser)


STEERING: Final = (
    Command(words="pause", help="stop a projection; its events wait", run=on_records(_pause), options=_pause_options),
    Command(words="resume", help="let a projection go on", run=on_records(_resume), options=_name_and_actor),
    Command(
        words="reset",
        help="set a projection back to the beginning, and clear its read model",
        run=with_handlers(_reset),
        options=_reset_options,
    ),
)
