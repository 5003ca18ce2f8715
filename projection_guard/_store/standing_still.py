"""A projection stands still for a moment: its state changes, and whoever set it before is still told with it."""

from __future__ import annotations

from sqlalchemy import Connection, func, null, update

from .._tables import ProjectionState

__all__ = ["go_on", "stand_still"]

T = ProjectionState


def stand_still(connection: Connection, projection: str) -> None:
    """Let nothing be applied from now on, and note what it goes on in. Hold the projection's state."""
    values = {"state": "replaying", "state_after": T.state}
    connection.execute(update(T).where(T.projection_name == projection).values(values))


def go_on(connection: Connection, projection: str) -> None:
    """Let it be active again, or paused, as it was. Hold the projection's state."""
    values = {"state": func.coalesce(T.state_after, "active"), "state_after": null()}
    connection.execute(update(T).where(T.projection_name == projection).values(values))
