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
    minute: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    events_processed: Mapped[int] = mapped_column(BigInteger)
    total_failures: Mapped[int] = mapped_column(BigInteger)
    active_failures: Mapped[int] = mapped_column(BigInteger)
    parked_events: Mapped[int] = mapped_column(BigInteger)
    lag_seconds: Mapped[float] = mapped_column(Float)
    lag_events: Mapped[int] = mapped_column(BigInteger)
    avg_processing_time_ms: Mapped[float | None] = mapped_column(Float)
    health_status: Mapped[str] = mapped_column(String(32))


Index("ix_projection_samples_minute", ProjectionSample.minute)  # the charts of all projections, and what is too old
