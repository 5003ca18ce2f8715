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
    state: Mapped[str] = mapped_column(
        String(16), server_default=text("'active'"), doc="`active`, `paused`, `resetting`, `replaying` or `rebuilding`."
    )
    state_after: Mapped[str | None] = mapped_column(String(16), doc="What it becomes when a reset or a job has ended.")
    actor: Mapped[str | None] = mapped_column(String(255), doc="Who wanted that state.")
    reason: Mapped[str | None] = mapped_column(LongText, doc="Why.")
    changed_at: Mapped[datetime] = mapped_column(doc="When the state was changed.")
    mode: Mapped[str] = mapped_column(String(16), server_default=text("'pushed'"), doc="`followed` or `pushed`.")
    ordering: Mapped[str] = mapped_column(
        String(16), doc="What waits behind a failed event: `stream`, `none` or `global`."
    )
    held_since: Mapped[datetime | None] = mapped_column(doc="Since when the breaker holds it; null: it does not.")
    outage_began_at: Mapped[datetime | None] = mapped_column(
        doc="When the failures began that were taken for an outage."
    )
    probe_at: Mapped[datetime | None] = mapped_column(
        doc="When one event is tried next, to see whether the outage is over."
    )
    failed_probes: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), doc="How many were tried in vain since the pauses began."
    )
    rescan_until: Mapped[int | None] = mapped_column(
        BigInteger, doc="Up to this sequence the log is compared with what was recorded while it was pushed."
    )
    pruned_at: Mapped[datetime | None] = mapped_column(doc="When applied events of it were last forgotten.")
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
    partition: Mapped[int] = mapped_column(
        Integer, primary_key=True, autoincrement=False, doc="Which part of the streams, from 0."
    )
    cursor: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), doc="Everything at or below it is applied, failed, parked or skipped."
    )
    last_event_id: Mapped[str | None] = mapped_column(
        String(255), doc="The event at the cursor, where it is one that the projection takes."
    )
    last_event_type: Mapped[str | None] = mapped_column(String(255), doc="Its type.")
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), doc="Counts the claims of the lease.")
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    wanted_by: Mapped[str | None] = mapped_column(
        String(255), doc="A follower that has less than its share, and asks for this partition."
    )
    wanted_until: Mapped[datetime | None] = mapped_column(doc="Until when it asks.")
    hand_first: Mapped[int | None] = mapped_column(
        BigInteger, doc="The first sequence that the owner has in hand; null: none."
    )
    hand_last: Mapped[int | None] = mapped_column(BigInteger, doc="The last one.")
    hand_is_lone: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), doc="That is one event by itself, after somebody died in its range."
    )
    moved_at: Mapped[datetime] = mapped_column(doc="When the cursor was moved last.")


class ProjectionSkippedRange(Model):
    """Sequences of the log, both ends included, in which there was nothing. `given_up`: something may have come there.

    That is so only where the source was told to give up waiting for a transaction that was still open.
    """

    __tablename__ = "projection_skipped_ranges"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    first_sequence: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, doc="Where the hole begins."
    )
    last_sequence: Mapped[int] = mapped_column(BigInteger, doc="Where it ends, included.")
    given_up: Mapped[bool] = mapped_column(
        Boolean, server_default=false(), doc="Something might have come there: the source was told not to wait."
    )
    reason: Mapped[str] = mapped_column(String(255), doc="Why it was passed over.")
    skipped_at: Mapped[datetime] = mapped_column(doc="When.")
