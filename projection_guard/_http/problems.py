"""What went wrong, as RFC 9457 problem details: which error is which status, never a traceback, never SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from .._model import Json
from ..errors import (
    ConfigurationError,
    EventError,
    FailureBusy,
    FailureResolved,
    InvalidArgument,
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

__all__ = ["FieldError", "Problem", "as_problem", "unexpected"]

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
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            **self.more,
        }
        if self.errors:
            content["errors"] = [{"field": error.field, "detail": error.detail} for error in self.errors]
        return json_response(self.status, content, media_type="application/problem+json", headers=self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    status: int
    kind: str
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
    (ConfigurationError, _Meaning(status=409, kind="not-configured")),
    (StoreUnavailable, _Meaning(status=503, kind="store-unavailable", headers=_AGAIN)),
    (SchemaError, _Meaning(status=503, kind="schema", headers=_AGAIN)),
    (SourceError, _Meaning(status=503, kind="source-unavailable", headers=_AGAIN)),
)


def as_problem(error: ProjectionGuardError) -> Problem | None:
    """Say what an error of the library is in HTTP; None for one that no request should have met."""
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
                status=meaning.status, kind=meaning.kind, detail=str(error), more=more, headers=meaning.headers
            )
    return None


def unexpected() -> Problem:
    """Say that it is our fault; what it was is in the log, under the request's id."""
    return Problem(
        status=500, kind="internal", detail="Something went wrong here; the log says what, by this request's id"
    )
