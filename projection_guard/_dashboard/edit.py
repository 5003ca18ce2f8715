"""Edit an event that failed and retry it: the original stays on record, and in the log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import StringConstraints

from .._http import answers
from .._http.access import Need
from .._http.endpoint import identity
from .._http.problems import Problem
from .._model import Json, OutcomeStatus
from ..errors import InvalidArgument
from .failure import TRIED, pretty
from .fields import Fields, NoFields, Note
from .place import Gone, Place, Shown, Visit

__all__ = ["EDIT"]


_SAID: Final = {**TRIED, OutcomeStatus.APPLIED: "amended", OutcomeStatus.FAILED: "amended-failed"}
_LONGEST: Final = 250_000
"""What is longer, in characters, may be more than a form takes, in which each of them may become nine."""


class EditForm(Fields):
    """The event as JSON, and why."""

    payload: Annotated[str, StringConstraints(max_length=500_000)] = ""
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditPage:
    """What is edited. `text` is None where it cannot be, `refusal` says why; `error` is what is wrong with a text."""

    failure: answers.Failure
    text: str | None
    refusal: str | None = None
    error: str | None = None
    note: str | None = None
    is_amended: bool = False


async def _edit(visit: Visit) -> Shown:
    return await _shown(visit)


async def _shown(visit: Visit, *, text: str | None = None, error: str | None = None, note: str | None = None) -> Shown:
    failure = await visit.looking.failure(identity(visit.path["failure_id"], "failure"))
    payload, refusal = await _editable(visit)
    amendment = await visit.looking.on_amendments.of(failure.id)
    page = EditPage(
        failure=visit.view.failure(failure),
        text=None if refusal else (text if text is not None else pretty(payload)),
        refusal=refusal,
        error=error,
        note=note,
        is_amended=amendment is not None,
    )
    status = 200 if error is None else 422
    return Shown(template="edit.html", title="Edit and retry", page=page, section="failures", status=status)


async def _editable(visit: Visit) -> tuple[Json, str | None]:
    """Return the event for a person to edit, or say why he may not."""
    if not visit.view.shows_payloads:
        return None, "Events are not shown to you: the application says from which role on they are (payloads_for=)."
    payload = await visit.looking.on_amendments.editable(identity(visit.path["failure_id"], "failure"))
    if payload is None:
        return None, "The event is not on record as JSON, and its codec cannot write it so."
    if not visit.view.shows_whole(payload):
        return None, "Parts of the event are hidden here (redact=) and would be lost. Edit it from the command line."
    if len(pretty(payload)) > _LONGEST:
        return None, "The event is too long for a form. Edit it from the command line."
    return payload, None


async def _amend(visit: Visit) -> Shown | Gone:
    given = visit.given(EditForm)
    _, refusal = await _editable(visit)
    if refusal is not None:
        raise Problem(status=403, kind="not-allowed", detail=refusal)
    try:
        payload = _read(given.payload)
        outcome = await visit.service.on_amendments.amend(
            identity(visit.path["failure_id"], "failure"), payload, actor=visit.actor.name, note=given.note
        )
    except InvalidArgument as error:
        return await _shown(visit, text=given.payload, error=str(error), note=given.note)
    return Gone(to=visit.links.to("failures", visit.path["failure_id"]), said=_SAID.get(outcome.status))


def _read(text: str) -> Json:
    """Read what was edited. Raises `InvalidArgument`, which says where it is no JSON."""
    try:
        payload: Json = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"That is no JSON: {error.msg}, line {error.lineno}, column {error.colno}") from None
    except InvalidArgument:
        raise
    except (RecursionError, ValueError):
        raise InvalidArgument("That is no JSON that can be read") from None
    return payload


def _no_number(name: str) -> Json:
    raise InvalidArgument(f"That is no JSON: {name} is no number there")


async def _unamend(visit: Visit) -> Gone:
    failure_id = identity(visit.path["failure_id"], "failure")
    was_there = await visit.service.on_amendments.unamend(failure_id, actor=visit.actor.name, note=None)
    said = "unamended" if was_there else "not-amended"
    return Gone(to=visit.links.to("failures", str(failure_id)), said=said)


EDIT: Final = (
    Place(name="edit", path="failures/{failure_id}/edit", do=_edit, needs=Need.OPERATOR),
    Place(
        name="amend", method="POST", path="failures/{failure_id}/edit", do=_amend, needs=Need.OPERATOR, form=EditForm
    ),
    Place(
        name="unamend",
        method="POST",
        path="failures/{failure_id}/unamend",
        do=_unamend,
        needs=Need.OPERATOR,
        form=NoFields,
    ),
)
