"""How projections stood, minute by minute: what charts are drawn from."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from .base import Model

__all__ = ["ProjectionSample"]


class ProjectionSample(Model):
    """What the judge saw of a projection when `minute` began; minutes are counted since 1970-01-01 UTC.

    `events_processed` and `total_failures` only grow, but for a reset. No row: no worker judged it in that minute.
    """

    __tablename__ = "projection_samples"

    projection_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    minute: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, doc="Which minute, counted since 1970-01-01 UTC."
    )
    events_processed: Mapped[int] = mapped_column(BigInteger, doc="As in `projection_health_metrics`, then.")
    total_failures: Mapped[int] = mapped_column(BigInteger, doc="The same.")
    active_failures: Mapped[int] = mapped_column(BigInteger, doc="The same.")
    parked_events: Mapped[int] = mapped_column(BigInteger, doc="Rows of `projection_parked_events`, then.")
    lag_seconds: Mapped[float] = mapped_column(Float, doc="As in `projection_health_metrics`, then.")
    lag_events: Mapped[int] = mapped_column(BigInteger, doc="How many events waited.")
    avg_processing_time_ms: Mapped[float | None] = mapped_column(Float, doc="As in `projection_health_metrics`, then.")
    health_status: Mapped[str] = mapped_column(String(32), doc="The same.")


Index("ix_projection_samples_minute", ProjectionSample.minute)  # the charts of all projections, and what is too old
