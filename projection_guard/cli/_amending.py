"""Commands that edit an event which failed and try it again: payload, amend, unamend."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

from .._model import Json
from . import _rendering
from ._command import Call, Command, needs_handlers, on_records
from ._exits import Exit, Refused, WrongUsage
from ._parser import actor_of, add_actor, add_note
from ._resolving import tried

__all__ = ["AMENDING"]


async def _payload(call: Call) -> int:
    service, screen = call.records, call.screen
    payload = await service.on_amendments.editable(call.options.id)
    if payload is None:
        raise Refused(
            kind="event-not-usable",
            detail="Nothing of this event is on record, and it cannot be read from the log as JSON here",
        )
    if screen.hidden.out_of_all(payload) != payload:  # whoever edits the rest would write the stars
        raise Refused(
            kind="payloads-hidden",
            detail="This event holds what looks like a password, which no command shows: amend it by guard.amend(...)",
        )
    answer: dict[str, Json] = {"failure_id": str(call.options.id), "event_payload": payload}
    screen.answer(answer, lambda: screen.raw(_text(payload)))
    return Exit.FINE


def _text(payload: Json) -> str:
    """Return JSON that does nothing to a terminal, and is the same when it is read again."""
    return json.dumps(payload, indent=2).replace("\x7f", "\\u007f")


async def _amend(call: Call) -> int:
    payload = _read(call.options.payload)
    failure = await call.records.failure(call.options.id)
    if call.is_bare:
        raise needs_handlers("failures amend")
    call.here(failure.projection_name)
    outcome = await call.service.on_amendments.amend(
        failure.id, payload, actor=actor_of(call.options), note=call.options.note
    )
    return await tried(call, outcome, failure.id, ended="was applied as amended")


async def _unamend(call: Call) -> int:
    failure = await call.records.failure(call.options.id)
    withdrawn = await call.records.on_amendments.unamend(
        failure.id, actor=actor_of(call.options), note=call.options.note
    )

    def people() -> None:
        said = "is given as the log has it again" if withdrawn else "was not amended"
        call.screen.say(f"{failure.event_id} of {failure.projection_name} {said}")

    call.screen.answer(_rendering.unamended(failure, withdrawn=withdrawn), people)
    return Exit.FINE if withdrawn else Exit.REFUSED


def _read(where: str) -> Json:
    try:
        text = sys.stdin.read() if where == "-" else Path(where).read_text(encoding="utf-8")
        payload: Json = json.loads(text)
    except OSError as error:
        raise WrongUsage(f"--payload: {where} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):  # what it says would be of the event
        raise WrongUsage("--payload: this is no JSON in UTF-8") from None
    return payload


def _id(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the failure's id")


def _amend_options(parser: ArgumentParser) -> None:
    _id(parser)
    parser.add_argument(
        "--payload",
        required=True,
        metavar="FILE",
        help="the whole event, as `failures payload` tells it; - reads it",
    )
    add_actor(parser)
    add_note(parser)


def _unamend_options(parser: ArgumentParser) -> None:
    _id(parser)
    add_actor(parser)
    add_note(parser)


AMENDING: Final = (
    Command(words="failures payload", help="an event as JSON, to be edited", run=on_records(_payload), options=_id),
    Command(
        words="failures amend",
        help="give the projection an edited event, and try it now; the original is kept",
        run=on_records(_amend),
        options=_amend_options,
    ),
    Command(
        words="failures unamend",
        help="withdraw that: the event is given as the log has it",
        run=on_records(_unamend),
        options=_unamend_options,
    ),
)
