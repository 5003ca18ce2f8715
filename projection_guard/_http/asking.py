"""What can be asked: the queries and bodies of the routes. What is not understood is refused, by the field's name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from .._history import MOST_HOURS, MOST_POINTS
from .._model import FailureFilter, FailureState
from .._records import Strategy
from .messages import Request
from .problems import FieldError, Problem

__all__ = [
    "AmendBody",
    "AuditQuery",
    "BulkBody",
    "ConfirmBody",
    "FailuresOfProjectionQuery",
    "FailuresQuery",
    "GroupsQuery",
    "HistoryQuery",
    "NoBody",
    "NoQuery",
    "PageQuery",
    "ParkedQuery",
    "PauseBody",
    "RebuildBody",
    "ReplayBody",
    "ReplaysQuery",
    "ResolveBody",
    "StreamQuery",
    "StreamsQuery",
    "UnamendBody",
    "UntaintBody",
    "read_body",
    "read_fields",
    "read_query",
]

_LARGEST_SEQUENCE = 2**63 - 1


def _is_written_out(given: object) -> object:
    if not isinstance(given, (str, datetime)) or (isinstance(given, str) and "-" not in given[1:]):
        raise ValueError("a time is written by ISO 8601, with its zone, such as 2026-11-25T20:00:00Z")
    return given


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it lies outside the years 1 to 9999") from None


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text


_Text = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_without_nul)]
_Gate = Annotated[str, StringConstraints(max_length=255), AfterValidator(_without_nul)]
_Note = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_without_nul)]
_Cursor = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_without_nul)]
_Moment = Annotated[AwareDatetime, BeforeValidator(_is_written_out), AfterValidator(_in_utc)]
_Rate = Annotated[float, Field(ge=0.1, le=1_000_000)]
_Sequence = Annotated[int, Field(ge=0, le=_LARGEST_SEQUENCE, strict=True)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoQuery(_Asked):
    """Nothing."""


class NoBody(_Asked):
    """Nothing: `{}`, or no body at all."""


class PageQuery(_Asked):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=1000, description="How many at the most")
    after: _Cursor | None = Field(None, description="The `after` of the page before: what follows it")


class _Criteria(_Asked):
    error_type: _Text | None = Field(None, description="The error's class, as failures tell it")
    fingerprint: _Text | None = Field(None, description="Groups like errors")
    event_type: _Text | None = None
    stream_id: _Text | None = None
    failed_from: _Moment | None = Field(None, description="Failed at this time or later")
    failed_until: _Moment | None = Field(None, description="Failed before this time")

    def filter_in(self, projection_name: str | None, state: FailureState | None) -> FailureFilter:
        """Return it as the guard takes it."""
        return FailureFilter(
            projection_name=projection_name,
            error_type=self.error_type,
            fingerprint=self.fingerprint,
            event_type=self.event_type,
            stream_id=self.stream_id,
            state=state,
            failed_from=self.failed_from,
            failed_until=self.failed_until,
        )


class _ListCriteria(_Criteria):
    state: FailureState | None = Field(
        None,
        description="scheduled: a retry is planned; exhausted: it waits for a person; parked: later events of its "
        "stream wait behind it; resolved. Without it: all that are unresolved",
    )

    def as_filter(self, projection_name: str | None) -> FailureFilter:
        """Return it as the guard takes it."""
        return self.filter_in(projection_name, self.state)


class FailuresOfProjectionQuery(PageQuery, _ListCriteria):
    """Which failures of one projection."""

    include_resolved: bool = Field(False, description="Resolved ones too")


class GroupsQuery(PageQuery, _ListCriteria):
    """Which failures are grouped."""

    projection_name: _Text | None = None


class FailuresQuery(GroupsQuery):
    """Which failures."""

    include_resolved: bool = Field(False, description="Resolved ones too")


class ParkedQuery(PageQuery):
    """Which parked events of a projection."""

    limit: int = Field(100, ge=1, le=100, description="How many at the most")
    stream_id: _Text | None = None


class StreamsQuery(PageQuery):
    """Which streams of a projection."""

    state: Literal["blocked", "tainted"] = Field(
        "blocked", description="blocked: events wait there; tainted: one was skipped, or may be out of order"
    )


class HistoryQuery(_Asked):
    """Which part of a projection's history."""

    hours: float = Field(24.0, gt=0, le=MOST_HOURS, description="How far back")
    points: int = Field(96, ge=2, le=MOST_POINTS, description="How many at the most")


class StreamQuery(PageQuery):
    """Which stream of a projection."""

    stream_id: _Text


class ReplaysQuery(PageQuery):
    """Which replays and rebuilds."""

    projection_name: _Text | None = None


class AuditQuery(PageQuery):
    """Which actions."""

    projection_name: _Text | None = None
    actor: _Text | None = None
    action: _Text | None = None
    failure_id: UUID | None = None


class ReplayBody(_Asked):
    """Which part of the log to apply again; without anything: from the checkpoint, with what is open."""

    from_sequence: _Sequence | None = Field(None, description="null: from the checkpoint")
    to_sequence: _Sequence | None = Field(None, description="null: to the log's end")
    stream_id: _Text | None = Field(None, description="Only this stream, from its beginning: the cure of a skip")
    skip_failed: bool = Field(False, description="Leave what has failed as it is")
    events_per_second: _Rate | None = Field(None, description="No faster than this")
    note: _Note | None = None


class RebuildBody(_Asked):
    """How to fill the read model anew."""

    into: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,39}$")] | None = Field(
        None, description="Build it beside the live one, under this name, and exchange the two at the end"
    )
    max_failures: int = Field(
        0, ge=0, le=10_000, strict=True, description="With `into`: so many events may fail beside the live one"
    )
    events_per_second: _Rate | None = Field(None, description="No faster than this")
    note: _Note | None = None


class VerifyBody(_Asked):
    """How to compare the read model with the log: whole, or some streams of it."""

    sample_streams: int | None = Field(None, ge=1, le=1000, strict=True, description="Draw so many streams")
    streams: list[_Text] | None = Field(None, min_length=1, max_length=1000, description="Or exactly these")
    stream_column: _Text | None = Field(
        None, description="With streams: the column that names a row's stream, so that rows that are too many are seen"
    )
    ignore: list[_Text] = Field(default_factory=list, max_length=100, description="Columns that are not compared")
    max_differences: int = Field(10, ge=0, le=1000, strict=True, description="Name the keys of so many rows of a kind")
    max_failures: int = Field(0, ge=0, le=10_000, strict=True, description="So many events may fail in the copy")
    into: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,39}$")] | None = Field(
        None, description="Make the copy under this name; it is dropped at the end"
    )
    events_per_second: _Rate | None = Field(None, description="No faster than this")
    note: _Note | None = None


class PauseBody(_Asked):
    """Why."""

    reason: _Note | None = None


class ResolveBody(_Asked):
    """How a failure comes to its end."""

    failure_id: UUID | None = Field(None, description="The same as in the path, or left out")
    compensation_strategy: Strategy = Field(
        description="retry: try it once, now; skip: leave its effect out, which taints the stream; manual_fix: its "
        "effect was made by hand"
    )
    note: _Note | None = None


class AmendBody(_Asked):
    """What is to be given to the projection instead of the event that it could not apply."""

    event_payload: Any = Field(
        description="The whole event as JSON, in the form in which it is shown; its id, type, sequence and stream stay"
    )
    note: _Note | None = None


class UnamendBody(_Asked):
    """Why."""

    note: _Note | None = None


class UntaintBody(_Asked):
    """Which stream was mended, and why."""

    stream_id: _Gate = Field(description='As it is listed: "" where the whole projection is one line')
    tainted_reason: _Gate | None = Field(
        None, description="As it was seen: a taint that came since, for another reason, is not ended"
    )
    note: _Note | None = None


class BulkFilter(_Criteria):
    """Which failures a bulk action is for; at least one criterion."""

    projection_name: _Text | None = None
    state: Literal["scheduled", "exhausted", "parked"] | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> BulkFilter:
        if self.as_filter() == FailureFilter():
            raise ValueError("name at least one criterion: a bulk action for everything is not meant")
        return self

    def as_filter(self) -> FailureFilter:
        """Return it as the guard takes it."""
        return self.filter_in(self.projection_name, self.state)


class BulkBody(_Asked):
    """What is to be done with which failures. This proposes it, and counts; nothing is done yet."""

    compensation_strategy: Strategy
    filter: BulkFilter
    note: _Note | None = None


class ConfirmBody(_Asked):
    """Says that the proposal was seen."""

    confirmation_token: _Text = Field(description="The one that the proposal was answered with")


A = TypeVar("A", bound=BaseModel)


def read_query(request: Request, kind: type[A]) -> A:
    """Read the query. Raises `Problem` 422, which names the parameter."""
    return read_fields(request.query, kind)


def read_fields(fields: Sequence[tuple[str, str]], kind: type[A]) -> A:
    """Read fields that are given as texts, each once at the most. Raises `Problem` 422, which names the field."""
    names = [name for name, _ in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _unprocessable([FieldError(field=name, detail="It is given more than once") for name in twice])
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise _unprocessable(_fields(error)) from None


def read_body(request: Request, kind: type[A]) -> A:
    """Read the body, which is JSON. Raises `Problem`: 411, 413, 415, 400, or 422, which names the field."""
    if isinstance(request.body, Exception):
        raise request.body
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = request.body.strip()
    if media_type != "application/json" and (body or media_type):  # a form of another site may be an empty one
        detail = "A body has to be JSON, with Content-Type: application/json"
        raise Problem(status=415, kind="not-json", detail=detail)
    body = body or b"{}"
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise Problem(status=400, kind="not-json", detail="The body is no JSON that can be read") from None
        raise _unprocessable(_fields(error)) from None


def _fields(error: ValidationError) -> list[FieldError]:
    return [
        FieldError(field=".".join(map(str, found["loc"])) or "body", detail=found["msg"])
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _unprocessable(errors: list[FieldError]) -> Problem:
    said = "; ".join(f"{error.field}: {error.detail}" for error in errors[:5])
    return Problem(status=422, kind="invalid-field", detail=said, errors=errors[:50])
