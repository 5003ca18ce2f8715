"""The acts on a projection: for each a page that says what will happen, and what its form does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Final

from pydantic import BaseModel

from .._core.asked import Asked
from .._http.access import Need
from .._http.asking import NoQuery
from .._store import replays
from . import confirming
from .abilities import Act, why_not_beside
from .act_forms import PauseForm, RebuildForm, ReplayForm, ResetForm, VerifyForm
from .confirming import Confirm
from .fields import Fields, NoFields, Word
from .place import Gone, Place, Shown, Visit
from .projection import Stands, look_at

__all__ = ["ACTS"]

Ask = Callable[[Visit, Stands], Coroutine[object, None, Confirm]]
Do = Callable[[Visit], Coroutine[object, None, Gone]]


class ReplayQuery(Fields):
    """Which stream the form is to name."""

    stream_id: Word | None = None


def _asking(act: Act, ask: Ask) -> Callable[[Visit], Coroutine[object, None, Shown]]:
    async def show(visit: Visit) -> Shown:
        stands = await look_at(visit, visit.path["name"])
        title = f"{act.capitalize()} {stands.name}"
        return Shown(template=f"confirm_{act}.html", title=title, page=await ask(visit, stands))

    return show


def _confirm(stands: Stands, act: Act, does: tuple[str, ...]) -> Confirm:
    return Confirm(stands=stands, act=act, does=does, why_not=stands.able.why_not(act))


async def _ask_pause(_: Visit, stands: Stands) -> Confirm:
    return _confirm(stands, "pause", confirming.pause_does(stands))


async def _ask_resume(_: Visit, stands: Stands) -> Confirm:
    return _confirm(stands, "resume", confirming.resume_does(stands))


async def _ask_reset(visit: Visit, stands: Stands) -> Confirm:
    checkpoint = await visit.looking.checkpoint(stands.name)
    return _confirm(stands, "reset", confirming.reset_does(stands, checkpoint))


async def _ask_replay(visit: Visit, stands: Stands) -> Confirm:
    stream = visit.asked(ReplayQuery).stream_id
    first_open = await visit.looking.read(lambda connection: replays.first_open(connection, stands.name))
    does = confirming.replay_does(stands, first_open, stream)
    return Confirm(stands=stands, act="replay", does=does, why_not=stands.able.why_not("replay"), stream_id=stream)


async def _ask_rebuild(_: Visit, stands: Stands) -> Confirm:
    return Confirm(
        stands=stands,
        act="rebuild",
        does=confirming.rebuild_does(stands),
        why_not=stands.able.why_not("rebuild"),
        does_beside=confirming.rebuild_beside_does(stands),
        why_not_beside=why_not_beside(stands.projection),
    )


async def _ask_verify(_: Visit, stands: Stands) -> Confirm:
    return _confirm(stands, "verify", confirming.verify_does(stands))


async def _pause(visit: Visit) -> Gone:
    name = visit.path["name"]
    await visit.service.pause(name, actor=visit.actor.name, reason=visit.given(PauseForm).reason)
    return _back(visit, "paused")


async def _resume(visit: Visit) -> Gone:
    await visit.service.resume(visit.path["name"], actor=visit.actor.name)
    return _back(visit, "resumed")


async def _reset(visit: Visit) -> Gone:
    await visit.service.reset(visit.path["name"], actor=visit.actor.name)
    return _back(visit, "reset")


def _back(visit: Visit, said: str) -> Gone:
    return Gone(to=visit.links.to("projections", visit.path["name"]), said=said)


async def _replay(visit: Visit) -> Gone:
    return await _begin(visit, visit.given(ReplayForm).asked(visit.actor.name))


async def _rebuild(visit: Visit) -> Gone:
    return await _begin(visit, visit.given(RebuildForm).asked(visit.actor.name))


async def _verify(visit: Visit) -> Gone:
    return await _begin(visit, visit.given(VerifyForm).asked(visit.actor.name))


async def _begin(visit: Visit, asked: Asked) -> Gone:
    job = await visit.service.on_log.start_replay(visit.path["name"], asked)
    return Gone(to=visit.links.to("jobs", str(job.id)), said="begun")


def _places(
    act: Act,
    ask: Ask,
    do: Do,
    form: type[BaseModel],
    *,
    name: str | None = None,
    query: type[BaseModel] = NoQuery,
) -> tuple[Place, Place]:
    """Return the page and what its form does. `name` is that of the JSON route whose limit it has."""
    path = f"projections/{{name}}/{act}"
    return (
        Place(name=f"ask_{act}", path=path, do=_asking(act, ask), needs=Need.OPERATOR, query=query),
        Place(
            name=name or act,
            path=path,
            method="POST",
            do=do,
            needs=Need.OPERATOR,
            form=form,
            is_limited=name is not None,
        ),
    )


ACTS: Final[tuple[Place, ...]] = (
    *_places("pause", _ask_pause, _pause, PauseForm),
    *_places("resume", _ask_resume, _resume, NoFields),
    *_places("reset", _ask_reset, _reset, ResetForm, name="reset"),
    *_places("replay", _ask_replay, _replay, ReplayForm, name="begin_replay", query=ReplayQuery),
    *_places("rebuild", _ask_rebuild, _rebuild, RebuildForm, name="begin_rebuild"),
    *_places("verify", _ask_verify, _verify, VerifyForm, name="begin_verify"),
)
