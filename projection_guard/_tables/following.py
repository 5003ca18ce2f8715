"""What is wanted of a projection, and how far a followed one has come in its log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Integer, String, false, text
from sqlalchemy.orm import Mapped, mapped_column

from .._dialect import LongText
from .base import Model

__all__ = ["ProjectionPartition", "ProjectionSkippedRange", "ProjectionState"]


class ProjectionState(Model):
    """What a person wants of a projection, who and why; and, apart from it, the breaker's hold.

    `state_after`: what a projection that is being reset becomes when that has ended. `mode`: followed or pushed.
    `rescan_until`: up to there the log is compared with what was recorded while the projection was pushed. `pruned_at`:
    when applied events of it were last forgotten, so that such a comparison would not be sound any more.
    """

    __tablename__ = "projection_states"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    state: Mapped[str] = mapped_column(String(16), server_default=text("'active'"))
    state_after: Mapped[str | None] = mapped_column(String(16))
    actor: Mapped[str | None] = mapped_column(String(255))
    reason: Mapped[str | None] = mapped_column(LongText)
    changed_at: Mapped[datetime]
    mode: Mapped[str] = mapped_column(String(16), server_default=text("'pushed'"))
    ordering: Mapped[str] = mapped_column(String(16))
    held_since: Mapped[datetime | None]
    outage_began_at: Mapped[datetime | None]
    probe_at: Mapped[datetime | None]
    failed_probes: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    rescan_until: Mapped[int | None] = mapped_column(BigInteger)
    pruned_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class ProjectionPartition(Model):
    """How far a followed projection has come in one part of its streams, and who follows there.

    Everything at or below `cursor` is applied, failed, parked or skipped. `lease_owner` is a token of one follower;
    `fence` counts its claims. `wanted_by`: a follower with less than its share asks the owner for this partition.
    `hand_first` to `hand_last` is the range that the owner has in hand, `hand_is_lone` one event tried by itself after
    somebody died in its range.
    """

    __tablename__ = "projection_partitions"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    cursor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    last_event_id: Mapped[str | None] = mapped_column(String(255))
    last_event_type: Mapped[str | None] = mapped_column(String(255))
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    wanted_by: Mapped[str | None] = mapped_column(String(255))
    wanted_until: Mapped[datetime | None]
    hand_first: Mapped[int | None] = mapped_column(BigInteger)
    hand_last: Mapped[int | None] = mapped_column(BigInteger)
    hand_is_lone: Mapped[bool] = mapped_column(Boolean, server_default=false())
    moved_at: Mapped[datetime]


class ProjectionSkippedRange(Model):
    """Sequences of the log, both ends included, in which there was nothing. `given_up`: something may have come there.

    That is so only where the source was told to give up waiting for a transaction that was still open.
    """

    __tablename__ = "projection_skipped_ranges"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    first_sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last_sequence: Mapped[int] = mapped_column(BigInteger)
    given_up: Mapped[bool] = mapped_column(Boolean, server_default=false())
    reason: Mapped[str] = mapped_column(String(255))
    skipped_at: Mapped[datetime]
