"""How a command ends: the exit codes, which a monitor relies on, and what is said where it was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from .._dialect import is_denied, is_refusal
from .._http.problems import as_problem
from .._model import HealthStatus
from .._wording import type_name, words_of
from ..errors import (
    InvalidArgument,
    ProjectionGuardError,
    SchemaError,
    StoreUnavailable,
    UnknownBulkAction,
    UnknownFailure,
    UnknownProjection,
    UnknownReplay,
)

__all__ = ["GRANTS", "Exit", "Refused", "WrongUsage", "exit_of_status", "refusal_of"]


class Exit(IntEnum):
    """The exit codes."""

    FINE = 0
    REFUSED = 1
    """Refused, or failed; one sentence says why."""
    WRONG_USAGE = 2
    UNREACHABLE = 3
    """The database cannot be reached."""
    SCHEMA = 4
    """The guard's tables are missing, or of another version."""
    UNKNOWN = 5
    """There is no such projection, failure, replay or bulk action."""
    DEGRADED = 10
    CRITICAL = 11
    OFFLINE = 12
    DRIFTED = 13
    """`verify`: the read model is not what its log says."""
    INTERRUPTED = 130
    """Ctrl-C."""
    NOBODY_READS = 141
    """Whoever was to read the output has gone: `projection-guard ... | head`."""


_OF_STATUS: Final[Mapping[HealthStatus, Exit]] = {
    HealthStatus.HEALTHY: Exit.FINE,
    HealthStatus.DEGRADED: Exit.DEGRADED,
    HealthStatus.CRITICAL: Exit.CRITICAL,
    HealthStatus.OFFLINE: Exit.OFFLINE,
}


def exit_of_status(status: HealthStatus) -> Exit:
    """Return what a monitor is told of a status."""
    return _OF_STATUS[status]


@dataclass(kw_only=True, eq=False)
class Refused(Exception):
    """A command that is not done. `kind` names the reason for programs, `detail` says it in one sentence."""

    kind: str
    detail: str
    code: Exit = Exit.REFUSED


class WrongUsage(Refused):
    """A command line that cannot be meant."""

    def __init__(self, detail: str) -> None:
        super().__init__(kind="wrong-usage", detail=detail, code=Exit.WRONG_USAGE)


GRANTS: Final = (
    "docs/security.md has the grants: those of a reader are enough for status, health, streams and doctor, all else "
    "takes the application's role, and db upgrade the owner's"
)
_UNKNOWN: Final = (UnknownProjection, UnknownFailure, UnknownReplay, UnknownBulkAction)


def refusal_of(error: Exception) -> Refused:
    """Say what an error means for whoever typed the command."""
    if isinstance(error, Refused):
        return error
    if not isinstance(error, ProjectionGuardError):
        detail = f"Something unexpected happened, {type_name(error)}: {words_of(error)} (--traceback shows where)"
        return Refused(kind="internal", detail=detail)
    problem = as_problem(error)
    kind = "failed" if problem is None else problem.kind
    return Refused(kind=kind, detail=_said(error), code=_code_of(error))


def _said(error: ProjectionGuardError) -> str:
    """Tell an error, and what the database said where it was the database."""
    cause = error.__cause__
    more = "" if cause is None or not is_denied(cause) else f"; {GRANTS}"
    if isinstance(error, StoreUnavailable) and cause is not None:  # what follows the ; is for who publishes events
        return f"{str(error).partition(';')[0]}: {words_of(cause)}{more}"
    return f"{error}{more}"


def _code_of(error: ProjectionGuardError) -> Exit:
    if isinstance(error, _UNKNOWN):
        return Exit.UNKNOWN
    if isinstance(error, InvalidArgument):
        return Exit.WRONG_USAGE
    if isinstance(error, SchemaError):
        return Exit.SCHEMA
    if isinstance(error, StoreUnavailable):
        is_refused = error.__cause__ is not None and is_refusal(error.__cause__)
        return Exit.REFUSED if is_refused else Exit.UNREACHABLE
    return Exit.REFUSED
