"""The end of a stream's taint: a page that says what it means, and what its form does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .._http.access import Need
from .._model import Order
from .._on_streams import untaint
from .._store import gates
from .fields import Fields, Note, Reason
from .place import Gone, Place, Shown, Visit
from .projection import Stands, look_at

__all__ = ["UNTAINT"]

_PATH: Final = "projections/{name}/streams/{stream}/untaint"


class UntaintForm(Fields):
    """Why it was tainted, as the page has said it, and a note."""

    tainted_reason: Reason | None = None
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UntaintPage:
    """What is to be confirmed. `stream` is None where the projection is one line; `why_not`: it cannot be done."""

    stands: Stands
    act: str
    stream: str | None
    tainted_reason: str
    does: tuple[str, ...]
    why_not: str | None


async def _ask(visit: Visit) -> Shown:
    name, gate = visit.path["name"], visit.path["stream"]
    stands = await look_at(visit, name)
    stream = None if stands.projection.order is Order.GLOBAL and not gate else gate
    reason = await visit.looking.read(lambda connection: gates.taint_of(connection, name, gate))
    page = UntaintPage(
        stands=stands,
        act="untaint",
        stream=stream,
        tainted_reason=reason or "",
        does=_does(stands, stream),
        why_not=_why_not(stands, reason),
    )
    whose = name if stream is None else f"stream {gate} of {name}"
    return Shown(template="confirm_untaint.html", title=f"Untaint {whose}", page=page)


def _does(stands: Stands, stream: str | None) -> tuple[str, ...]:
    mended = stands.name if stream is None else f"stream {stream!r}"
    said = f"You say that the read model of {mended} is right again, mended by hand."
    marked = "it is marked anew by what may be wrong later"
    told = (
        f"{said} The guard does not check that, and changes nothing in it.",
        "Events that were skipped there count as mended by hand from then on.",
        f"The mark goes: health does not tell it any more. There is no undo, but {marked}.",
        "Your name and note go into the audit log.",
    )
    if stream is not None and "replay" in stands.able.can:
        return (*told, "Replaying the stream alone would end its taint, too, by applying its events again.")
    return told


def _why_not(stands: Stands, reason: str | None) -> str | None:
    if reason is None:
        return "it is not tainted"
    return "a job of the projection is under way; wait for that, or cancel it" if stands.job is not None else None


async def _untaint(visit: Visit) -> Gone:
    name, gate, given = visit.path["name"], visit.path["stream"], visit.given(UntaintForm)
    was_tainted = await untaint(
        visit.service, name, gate, tainted_reason=given.tainted_reason, actor=visit.actor.name, note=given.note
    )
    to = visit.links.to("projections", name, "streams", gate) if gate else visit.links.to("projections", name)
    return Gone(to=to, said="untainted" if was_tainted else "not-tainted")


UNTAINT: Final = (
    Place(name="ask_untaint", path=_PATH, do=_ask, needs=Need.OPERATOR),
    Place(name="untaint", path=_PATH, method="POST", do=_untaint, needs=Need.OPERATOR, form=UntaintForm),
)
