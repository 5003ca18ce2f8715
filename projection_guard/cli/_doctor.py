"""The doctor: looks at the database and at what is on record, and says of each thing whether it is well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection

from .. import _desk
from .._dialect import is_denied
from .._on_record import on_record
from .._on_workers import workers_of
from .._service import Service
from .._source import SeenTypes
from .._store import diagnosing, server
from ..errors import SchemaError, SourceError, StoreUnavailable
from ..migrations._found import look
from ..migrations._place import refusals_explained
from ..migrations._revisions import revisions
from ._command import Call, Command, at_database
from ._exits import GRANTS, Exit, refusal_of
from ._findings import Facts, Finding, Verdict, findings, of_server, worst
from ._screen import counted
from ._seen_types import named_types, of_types

__all__ = ["DOCTOR"]

_LEFT_SECONDS: Final = 60.0
"""A lease that ran out is taken over within seconds where a worker is there."""
_IDLE_SECONDS: Final = 60.0
_DUE_SECONDS: Final = 60.0
_LOOKED_AT: Final = 5_000
"""So many types of events are read from each end of the log, without their payloads."""
_UPGRADE: Final = "projection-guard db upgrade, unless your own Alembic environment holds our revisions"
_URL_ADVICE: Final = "is the database running, is the URL right, does a firewall stand between?"


@dataclass(slots=True)
class _Diagnosis:
    """What was found until now; `code` is how the command ends."""

    found: list[Finding] = field(default_factory=list[Finding])
    code: Exit = Exit.FINE


async def _doctor(call: Call) -> int:
    diagnosis = _Diagnosis()
    await _examine(call, diagnosis)
    found = diagnosis.found
    told = {
        "verdict": worst(found),
        "findings": [{**asdict(each), "detail": call.screen.hidden.out_of(each.detail)} for each in found],
    }
    call.screen.answer(told, lambda: _tell(call, found))
    if diagnosis.code is Exit.FINE and worst(found) == "problem":
        return Exit.REFUSED
    return diagnosis.code


async def _examine(call: Call, diagnosis: _Diagnosis) -> None:
    """Go on from one thing to the next as long as that makes sense."""
    try:
        await _connect(call, diagnosis)
    except StoreUnavailable as error:
        refused = refusal_of(error)
        diagnosis.code = refused.code
        diagnosis.found.append(
            Finding(check="connection", verdict="problem", detail=refused.detail, advice=_URL_ADVICE)
        )
        return
    except SchemaError as error:
        diagnosis.code = Exit.SCHEMA
        is_a_matter_of_grants = error.__cause__ is not None and is_denied(error.__cause__)
        advice = GRANTS if is_a_matter_of_grants else _UPGRADE
        diagnosis.found.append(Finding(check="schema", verdict="problem", detail=str(error), advice=advice))
        return
    before = datetime.now(UTC)
    told = await call.service.beside(()).read(partial(server.asked, schema=call.service.context.schema))
    diagnosis.found += of_server(told, before, datetime.now(UTC))
    diagnosis.found += findings(await _facts(call))
    seen = None if call.is_bare else await _seen(call.service)
    if seen is not None:
        diagnosis.found += of_types(call.service.projections, seen)


async def _connect(call: Call, diagnosis: _Diagnosis) -> None:
    schema = call.service.context.schema

    def recorded(connection: Connection) -> str:
        with refusals_explained("The guard's tables could not be looked at"):
            at = look(connection, schema)
        return ", ".join(sorted(at.own | at.hosts))

    revision = await call.service.on_schema(recorded)
    url = _desk.engine_of(call.guard).url.render_as_string(hide_password=True)
    diagnosis.found.append(Finding(check="connection", verdict="ok", detail=f"{url} answers"))
    await call.service.check_schema()
    newest = revisions().newest
    said = (
        f"the tables are at {revision}" if newest in revision else f"the tables are at {revision}, newer than {newest}"
    )
    diagnosis.found.append(Finding(check="schema", verdict="ok", detail=said))


async def _facts(call: Call) -> Facts:
    found = await on_record(call.service)
    return Facts(
        known=found.known,
        healths=await found.service.health(),
        left=await call.service.beside(()).read(partial(diagnosing.left_leases, for_seconds=_LEFT_SECONDS)),
        idle=await call.service.beside(()).read(partial(diagnosing.idle, for_seconds=_IDLE_SECONDS)),
        waiting=await call.service.beside(()).read(partial(diagnosing.waiting, for_seconds=_DUE_SECONDS)),
        workers=await workers_of(call.service.beside(())),
        registered=None if call.is_bare else call.service.projections,
    )


async def _seen(service: Service) -> SeenTypes | None:
    """Look which types of events the log has, where a projection names some. A log that is away is told by health."""
    names = named_types(service.projections)
    if not names or not service.on_log.is_there:
        return None
    try:
        return await service.on_log.log.types(names, _LOOKED_AT)
    except SourceError:
        return None


def _tell(call: Call, found: Sequence[Finding]) -> None:
    for each in found:
        about = "" if each.projection_name is None else f"{each.projection_name}: "
        call.screen.marked(each.verdict, f"{each.check.ljust(12)} {about}{each.detail}")
        if each.advice is not None:
            call.screen.say(f"{'':<9}{'':<13}-> {each.advice}")
    call.screen.say(f"{_counted(found, 'problem')}, {_counted(found, 'warning')}")


def _counted(found: Sequence[Finding], verdict: Verdict) -> str:
    return counted(sum(each.verdict == verdict for each in found), verdict)


DOCTOR: Final = Command(
    words="doctor",
    help="what is wrong with the database and what is on record, and what to do about it",
    run=at_database(_doctor),
)
