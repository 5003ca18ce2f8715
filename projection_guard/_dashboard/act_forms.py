"""What the forms send by which something is done to a projection. An act that cannot be undone has to be meant."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .._core.asked import Asked, Verifying
from .fields import Fields, Identifier, Note, Rate, Sequence, Word

__all__ = ["PauseForm", "RebuildForm", "ReplayForm", "ResetForm", "VerifyForm"]


class PauseForm(Fields):
    """Why."""

    reason: Note | None = None


class ResetForm(Fields):
    """That it is meant."""

    sure: Literal["yes"]


class ReplayForm(Fields):
    """Which part of the log."""

    from_sequence: Sequence | None = None
    to_sequence: Sequence | None = None
    stream_id: Word | None = None
    skip_failed: bool = False
    events_per_second: Rate | None = None
    note: Note | None = None

    def asked(self, actor: str) -> Asked:
        """Return it as the guard takes it."""
        return Asked(
            actor=actor,
            from_sequence=self.from_sequence,
            to_sequence=self.to_sequence,
            stream_id=self.stream_id,
            skip_failed=self.skip_failed,
            events_per_second=self.events_per_second,
            note=self.note,
        )


class RebuildForm(Fields):
    """In place, which has to be meant, or beside the live read model, under a name."""

    way: Literal["place", "beside"]
    sure: Literal["yes"] | None = None
    into: Identifier = "rebuilt"
    max_failures: int = Field(0, ge=0, le=10_000)
    events_per_second: Rate | None = None
    note: Note | None = None

    @model_validator(mode="after")
    def _is_meant(self) -> RebuildForm:
        if self.way == "place" and self.sure is None:
            raise ValueError("a rebuild in place empties the read model: tick that you know")
        return self

    def asked(self, actor: str) -> Asked:
        """Return it as the guard takes it."""
        is_beside = self.way == "beside"
        return Asked(
            actor=actor,
            is_rebuild=True,
            into=self.into if is_beside else None,
            max_failures=self.max_failures if is_beside else 0,
            events_per_second=self.events_per_second,
            note=self.note,
        )


class VerifyForm(Fields):
    """What to compare: all, a number of streams, or those of these lines; without the columns of these lines."""

    sample_streams: int | None = Field(None, ge=1, le=1000)
    streams: str | None = Field(None, max_length=300_000)
    stream_column: Word | None = None
    ignore: str | None = Field(None, max_length=20_000)
    max_differences: int = Field(10, ge=0, le=1000)
    max_failures: int = Field(0, ge=0, le=10_000)
    events_per_second: Rate | None = None
    note: Note | None = None

    def asked(self, actor: str) -> Asked:
        """Return it as the guard takes it."""
        return Asked(
            actor=actor,
            max_failures=self.max_failures,
            events_per_second=self.events_per_second,
            note=self.note,
            verifying=Verifying(
                sample_streams=self.sample_streams,
                streams=_lines(self.streams),
                stream_column=self.stream_column,
                ignore=_lines(self.ignore) or (),
                max_differences=self.max_differences,
            ),
        )


def _lines(text: str | None) -> list[str] | None:
    """Return the lines of a text that say something; None where there are none."""
    return [line.strip() for line in (text or "").split("\n") if line.strip()] or None
