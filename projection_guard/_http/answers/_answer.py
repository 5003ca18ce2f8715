"""What every answer is: a value of the guard's, field by field."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Answer", "Page"]


class Answer(BaseModel):
    """A value as JSON: what the guard has besides is left out."""

    model_config = ConfigDict(from_attributes=True, frozen=True, extra="ignore", populate_by_name=True)


class Page(Answer):
    """Some of many, and where to go on."""

    after: str | None = Field(description="Give it as `after=` to get what follows; null: there is nothing more")
