"""Durable jobs: replays and rebuilds with what they set aside, and bulk actions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Float, Index, Integer, String, false, text
from sqlalchemy.orm import Mapped, mapped_column

from .._dialect import LongText
from .base import Model, Payload

__all__ = ["ProjectionBulkAction", "ProjectionReplay", "SetAsideEvent"]


class ProjectionReplay(Model):
    """A replay or rebuild: a job that goes on where it stopped, whoever runs it.

    `kind`: range, open (what is failed, then from the checkpoint on), stream, rebuild, or beside (a rebuild whose
    tables are `built_into` another place, `compared` with the live ones and exchanged for them, unless more than
    `max_failures` events fail there), or verify (`compared`, as `comparing` says, and dropped). `wanted`: what a
    person wants of it, run, pause or cancel; `status` is what became of that. `slices`: into so many the streams are
    divided, and spread over an executor.
    """

    __tablename__ = "projection_replays"

    id: Mapped[UUID] = mapped_column(primary_key=True, doc="The job's id.")
    projection_name: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(16), doc="`range`, `open`, `stream`, `rebuild`, `beside` or `verify`.")
    status: Mapped[str] = mapped_column(
        String(16), doc="`pending`, `running`, `paused`, `completed`, `failed` or `cancelled`."
    )
    wanted: Mapped[str] = mapped_column(
        String(16), server_default=text("'run'"), doc="What a person wants of it: `run`, `pause` or `cancel`."
    )
    from_sequence: Mapped[int | None] = mapped_column(BigInteger, doc="Where it was asked to begin; null: by its kind.")
    to_sequence: Mapped[int | None] = mapped_column(BigInteger, doc="Where it was asked to end; null: by its kind.")
    stream_id: Mapped[str | None] = mapped_column(String(255), doc="The one stream that it is about, if it is.")
    skip_failed: Mapped[bool] = mapped_column(Boolean, server_default=false(), doc="Events that fail are passed over.")
    events_per_second: Mapped[float | None] = mapped_column(Float, doc="The limit that it was given; null: none.")
    phase: Mapped[str] = mapped_column(String(16), doc="What it is at, among the steps of its kind.")
    begins_after: Mapped[int] = mapped_column(BigInteger, doc="The sequence after which it begins.")
    ends_at: Mapped[int] = mapped_column(BigInteger, doc="The sequence at which it ends.")
    position: Mapped[int] = mapped_column(BigInteger, doc="The sequence to which it has come.")
    events_replayed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), doc="Events applied by it.")
    events_skipped: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), doc="Events that it passed over.")
    events_failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), doc="Events that failed in it.")
    actor: Mapped[str] = mapped_column(String(255))
    note: Mapped[str | None] = mapped_column(LongText)
    error: Mapped[str | None] = mapped_column(LongText, doc="Why it failed or what stopped it.")
    built_into: Mapped[str | None] = mapped_column(String(63), doc="Where a read model is built beside the live one.")
    max_failures: Mapped[int] = mapped_column(Integer, server_default=text("0"), doc="How many events may fail beside.")
    slices: Mapped[int | None] = mapped_column(Integer, doc="Into so many the streams are divided; null: they are not.")
    comparing: Mapped[Any | None] = mapped_column(Payload, doc="What a verification compares, as JSON.")
    compared: Mapped[Any | None] = mapped_column(Payload, doc="What was found to differ, as JSON.")
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


_UNFINISHED = ProjectionReplay.finished_at.is_(None)

Index(
    "uq_projection_replays_unfinished",
    ProjectionReplay.projection_name,
    unique=True,
    postgresql_where=_UNFINISHED,
    sqlite_where=_UNFINISHED,
)
Index("ix_projection_replays_newest", ProjectionReplay.created_at, ProjectionReplay.id)


class ProjectionBulkAction(Model):
    """One strategy for many failures: proposed, confirmed, and then a job that goes on where it stopped.

    From `projection_name` to `failed_until` it says which failures are meant, of the `projections` in which some were
    found, that had failed by `created_at`. `hand_at` and `hand_id` name the failure in hand, `position_at` and
    `position_id` the last one that was counted.
    """

    __tablename__ = "projection_bulk_actions"

    id: Mapped[UUID] = mapped_column(primary_key=True, doc="The action's id; it confirms the proposal.")
    strategy: Mapped[str] = mapped_column(String(16), doc="`retry`, `skip` or `manual_fix`.")
    status: Mapped[str] = mapped_column(
        String(16), doc="`proposed`, `pending`, `running`, `completed`, `cancelled` or `failed`."
    )
    wanted: Mapped[str] = mapped_column(
        String(16), server_default=text("'run'"), doc="What a person wants of it: `run` or `cancel`."
    )
    projection_name: Mapped[str | None] = mapped_column(
        String(255), doc="Only failures of this projection; null: of all."
    )
    error_type: Mapped[str | None] = mapped_column(LongText, doc="Only of this error.")
    fingerprint: Mapped[str | None] = mapped_column(LongText, doc="Only of this fingerprint.")
    event_type: Mapped[str | None] = mapped_column(LongText, doc="Only events of this type.")
    stream_id: Mapped[str | None] = mapped_column(LongText, doc="Only of this stream.")
    state: Mapped[str | None] = mapped_column(String(16), doc="Only in this state: `scheduled`, `exhausted`, `parked`.")
    failed_from: Mapped[datetime | None] = mapped_column(doc="Only failed then or later.")
    failed_until: Mapped[datetime | None] = mapped_column(doc="Only failed before.")
    projections: Mapped[Any] = mapped_column(Payload, doc="In which of them some were found, as JSON.")
    matched: Mapped[int] = mapped_column(BigInteger, doc="How many failures were meant when it was proposed.")
    done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), doc="How many were taken up.")
    succeeded: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), doc="How many of those ended as was wanted."
    )
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), doc="How many did not.")
    actor: Mapped[str] = mapped_column(String(255))
    note: Mapped[str | None] = mapped_column(LongText)
    confirmed_by: Mapped[str | None] = mapped_column(String(255), doc="Who confirmed it.")
    request_id: Mapped[str | None] = mapped_column(String(255))
    error: Mapped[str | None] = mapped_column(LongText, doc="Why it failed.")
    position_at: Mapped[datetime | None] = mapped_column(doc="When the failure that was counted last had failed.")
    position_id: Mapped[UUID | None] = mapped_column(doc="Its id.")
    hand_at: Mapped[datetime | None] = mapped_column(doc="When the failure in hand had failed.")
    hand_id: Mapped[UUID | None] = mapped_column(doc="Its id; null: none is in hand.")
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(doc="When a proposal that nobody confirms ends.")
    confirmed_at: Mapped[datetime | None] = mapped_column(doc="When it was confirmed.")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


_TO_BE_DONE = ProjectionBulkAction.confirmed_at.is_not(None) & ProjectionBulkAction.finished_at.is_(None)

Index(
    "ix_projection_bulk_actions_unfinished",
    ProjectionBulkAction.confirmed_at,
    postgresql_where=_TO_BE_DONE,
    sqlite_where=_TO_BE_DONE,
)
Index("ix_projection_bulk_actions_newest", ProjectionBulkAction.created_at, ProjectionBulkAction.id)


class SetAsideEvent(Model):
    """An event that failed where a read model is built beside the live one, or that waits there behind such a one.

    At the exchange it becomes a failure, or parked; until then it is of no concern to the live projection. `error_type`
    is null where it waits. `verdict` and `delay_seconds` are the retry policy's; no delay: no retry is planned. What
    waits for a verification waits in the live projection, too; with a `verdict` of `skipped` or `by hand`, and no
    error, an event is left out by itself.
    """

    __tablename__ = "projection_set_aside_events"

    replay_id: Mapped[UUID] = mapped_column(primary_key=True, doc="The job in which it failed or waits.")
    event_sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    gate: Mapped[str] = mapped_column(String(255), doc="The stream's gate row, as in `projection_streams`.")
    event_id: Mapped[str] = mapped_column(String(255))
    event_type: Mapped[str] = mapped_column(String(255))
    stream_id: Mapped[str | None] = mapped_column(String(255))
    error_type: Mapped[str | None] = mapped_column(String(255), doc="The class of the error; null where it waits.")
    error_message: Mapped[str | None] = mapped_column(LongText)
    error_traceback: Mapped[str | None] = mapped_column(LongText)
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    verdict: Mapped[str | None] = mapped_column(
        String(16), doc="What the retry policy said; `skipped` or `by hand` where it is left out."
    )
    delay_seconds: Mapped[float | None] = mapped_column(
        Float, doc="When it is to be retried, in seconds from the exchange on; null: no retry is planned."
    )


_FAILED_BESIDE = SetAsideEvent.error_type.is_not(None)

Index(
    "ix_projection_set_aside_events_failed",
    SetAsideEvent.replay_id,
    SetAsideEvent.gate,
    postgresql_where=_FAILED_BESIDE,
    sqlite_where=_FAILED_BESIDE,
)
Index("ix_projection_set_aside_events_gate", SetAsideEvent.replay_id, SetAsideEvent.gate, SetAsideEvent.event_sequence)
