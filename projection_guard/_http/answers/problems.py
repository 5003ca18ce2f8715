"""What a refusal says (RFC 9457), and what has no fields of ours."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, RootModel

from ._answer import Answer

__all__ = ["Document", "FieldError", "ProblemDocument"]


class FieldError(Answer):
    """A field of the request that cannot be used, and why."""

    field: str
    detail: str


class ProblemDocument(Answer):
    """What went wrong, by RFC 9457. Some kinds tell more, such as `resolved_by` and `resolved_at`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FieldError] = Field(default_factory=list[FieldError])


class Document(RootModel[dict[str, Any]]):
    """An OpenAPI document."""
