"""What a follower is out for: to follow, to replay, or to build beside the live read model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from .._store.partitions import REPLAY

__all__ = ["HELD_BY_A_FAILURE", "Again", "Beside", "Course"]

HELD_BY_A_FAILURE: Final = "a failure holds the whole projection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What a replay applies once more: everything in its range, or only what is failed or parked.

    `skip_failed` leaves open failures, and what waits behind them, as they are.
    """

    job: UUID
    only_open: bool
    skip_failed: bool
    stream_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Where the tables stand that are built beside those of the read model, and by which job.

    `is_copy`: they are to be like the live ones, so that what was not applied there is left out. `mends`: of what was
    left out, it applies what has been applied there since. `streams`: only these.
    """

    job: UUID
    into: str
    tables: tuple[str, ...]
    is_copy: bool = False
    mends: bool = False
    streams: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """In which states of its projection a follower may walk, and whether he follows, replays, or builds beside."""

    states: frozenset[str] = frozenset({"active"})
    again: Again | None = None
    beside: Beside | None = None
    job: UUID | None = None
    """Whose progress is counted; None where nobody asks."""
    events_per_second: float | None = None
    slices: int | None = None
    """Into how many slices the streams are divided, each with a row of its own; None where it stands on others."""
    only: frozenset[int] | None = None
    """The slices' rows that it may take; None for all."""
    run_by: str | None = None
    """By whom its job has to be run, with nothing else wanted of it; None where that is its own affair."""

    @property
    def partition(self) -> int | None:
        """The row that it stands on; None for the projection's partitions, and for slices."""
        return None if self.is_counted or self.slices is not None else REPLAY

    @property
    def streams(self) -> frozenset[str] | None:
        """The streams that it is out for; None for all."""
        if self.again is not None and self.again.stream_id is not None:
            return frozenset({self.again.stream_id})
        return None if self.beside is None else self.beside.streams

    @property
    def is_counted(self) -> bool:
        """True where what is applied is applied for the first time."""
        return self.again is None and self.beside is None
