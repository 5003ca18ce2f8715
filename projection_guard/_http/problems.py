"""What went wrong, as RFC 9457 problem details: which error is which status, never a traceback, never SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from .._dialect import is_refusal
from .._model import Json
from ..errors import (
    CodecError,
    ConfigurationError,
    EventError,
    FailureBusy,
    FailureResolved,
    InvalidArgument,
    KeysUnavailable,
    ProjectionGuardError,
    RebuildRefused,
    SchemaError,
    SourceError,
    StoreUnavailable,
    UnknownBulkAction,
    UnknownFailure,
    UnknownProjection,
    UnknownReplay,
)
from .messages import Response, json_response

__all__ = ["FieldError", "Problem", "as_problem", "consumed", "gone", "phrase", "too_large", "unexpected"]

_TYPE: Final = "urn:problem-type:projection-guard:"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """A field of the request that cannot be used, by its name, and why."""

    field: str
    detail: str


@dataclass(kw_only=True, eq=False)
class Problem(Exception):
    """A request that is not answered as it was meant. `kind` is the last part of the problem's type."""

    status: int
    kind: str
    detail: str
    errors: Sequence[FieldError] = ()
    more: Mapping[str, Json] = field(default_factory=dict[str, Json])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def as_response(self, instance: str, request_id: str) -> Response:
        """Return it as `application/problem+json`."""
        content: dict[str, Json] = {
            "type": _TYPE + self.kind,
            "title": phrase(self.status),
            "status": self.status,
            "detail": self.detail,
            "instance": quote(instance),
            "request_id": request_id,
            **self.more,
        }
        if self.errors:
            content["errors"] = [{"field": error.field, "detail": error.detail} for error in self.errors]
        headers = {name: value for name, value in self.headers.items() if _is_plain(f"{name}{value}")}
        return json_response(self.status, content, media_type="application/problem+json", headers=headers)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def phrase(status: int) -> str:
    """Return what a status is called; those that only somebody's framework knows are errors to us."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """`detail` is told instead of what the error says: that may name the database, or what only operators may know."""

    status: int
    kind: str
    detail: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


_AGAIN: Final = {"Retry-After": "5"}
_MEANINGS: Final[tuple[tuple[type[ProjectionGuardError], _Meaning], ...]] = (  # the first that fits
    (UnknownProjection, _Meaning(status=404, kind="unknown-projection")),
    (UnknownFailure, _Meaning(status=404, kind="unknown-failure")),
    (UnknownReplay, _Meaning(status=404, kind="unknown-replay")),
    (UnknownBulkAction, _Meaning(status=404, kind="unknown-bulk-action")),
    (FailureResolved, _Meaning(status=409, kind="already-resolved")),
    (FailureBusy, _Meaning(status=409, kind="busy")),
    (RebuildRefused, _Meaning(status=409, kind="rebuild-refused")),
    (InvalidArgument, _Meaning(status=422, kind="invalid-argument")),
    (EventError, _Meaning(status=409, kind="event-not-usable")),
    (CodecError, _Meaning(status=409, kind="event-not-usable")),
    (ConfigurationError, _Meaning(status=409, kind="not-configured")),
    (
        KeysUnavailable,
        _Meaning(
            status=503,
            kind="keys-unavailable",
            detail="The keys by which the event is kept encrypted could not be reached; ask again shortly",
            headers=_AGAIN,
        ),
    ),
    (
        StoreUnavailable,
        _Meaning(
            status=503,
            kind="store-unavailable",
            detail="The guard's database did not answer; ask again shortly",
            headers=_AGAIN,
        ),
    ),
    (
        SchemaError,
        _Meaning(
            status=503,
            kind="schema",
            detail="The guard's tables are not those of this version; the log says what to run",
            headers=_AGAIN,
        ),
    ),
    (
        SourceError,
        _Meaning(
            status=503,
            kind="source-unavailable",
            detail="The event log could not be read; ask again shortly",
            headers=_AGAIN,
        ),
    ),
)
_OF_THE_DATABASE: Final = Problem(
    status=500,
    kind="database-refused",
    detail="The database refused a statement; the log says which, by this request's id",
)


def as_problem(error: ProjectionGuardError) -> Problem | None:
    """Say what an error of the library is in HTTP; None for one that no request should have met."""
    cause = error.__cause__
    if isinstance(error, StoreUnavailable) and cause is not None and is_refusal(cause):
        return _OF_THE_DATABASE
    for kind, meaning in _MEANINGS:
        if isinstance(error, kind):
            more: dict[str, Json] = {}
            if isinstance(error, FailureResolved):
                more = {
                    "resolved_by": error.resolved_by,
                    "resolved_at": error.resolved_at.isoformat(),
                    "resolution_method": error.resolution_method,
                }
            return Problem(
                status=meaning.status,
                kind=meaning.kind,
                detail=meaning.detail or str(error),
                more=more,
                headers=meaning.headers,
            )
    return None


def too_large(longest_bytes: int) -> Problem:
    """Say that a body is longer than any that is taken here."""
    return Problem(status=413, kind="too-large", detail=f"No body above {longest_bytes // 1024} KiB is taken here")


def consumed() -> Problem:
    """Say that the application has read a body before us, and kept nothing of it."""
    detail = "The application has read the request's body, and left nothing of it for this route"
    return Problem(status=400, kind="body-consumed", detail=detail)


def gone() -> Problem:
    """Say that the client went away while it sent: nobody reads that."""
    return Problem(status=499, kind="gone", detail="The client went away before it had sent the request")


def unexpected() -> Problem:
    """Say that it is our fault; what it was is in the log, under the request's id."""
    return Problem(
        status=500, kind="internal", detail="Something went wrong here; the log says what, by this request's id"
    )
