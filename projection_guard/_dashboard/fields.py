"""The fields that forms and queries of pages have in common. What is left empty is not sent on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

__all__ = ["Cursor", "Fields", "Identifier", "NoFields", "Note", "Rate", "Reason", "Sequence", "Word"]


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    return text


def _if_any(text: str) -> str | None:
    return text or None


Word = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_without_nul)]
"""A name or an id, as it is: one with a space at its end is another one."""
Note = Annotated[
    str,
    StringConstraints(max_length=2000, strip_whitespace=True),
    AfterValidator(_without_nul),
    AfterValidator(_if_any),
]
"""Why something is done, in words; None where there are none."""
Reason = Annotated[str, StringConstraints(max_length=255), AfterValidator(_without_nul)]
"""Why something is as it is, as it stands on record."""
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_without_nul)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]{0,39}$")]
Rate = Annotated[float, Field(ge=0.1, le=1_000_000)]
Sequence = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Fields(BaseModel):
    """What a page is sent; a field that it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoFields(Fields):
    """A form of a button alone."""
