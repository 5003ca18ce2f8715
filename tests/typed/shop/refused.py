"""What must not pass: each line is an error to both type checkers; an ignore that is not needed is one, too."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session

from projection_guard import AsyncProjectionGuard, Batch, ProjectionGuard, RetryPolicy

from .events import Ordered


async def awaited(event: Ordered) -> None:
    """Apart, async."""


async def awaited_joined(event: Ordered, connection: AsyncConnection) -> None:
    """Joined, async."""


def joined(event: Ordered, connection: Connection) -> None:
    """Joined, blocking."""


def of_a_session(event: Ordered, session: Session) -> None:
    """Wants what no guard gives."""


def of_three(event: Ordered, connection: Connection, more: int) -> None:
    """Wants too much."""


async def clear(connection: AsyncConnection) -> None:
    """An async reset."""


class Headless:
    """A source that does not say how far it goes."""

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        """Return nothing."""
        return Batch(events=(), position=after)


def of_handlers(guard: ProjectionGuard, later: AsyncProjectionGuard) -> None:
    """A handler that does not fit its guard."""
    guard.projection("A")(awaited)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    guard.projection("B")(awaited_joined)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    guard.projection("C")(of_a_session)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    guard.projection("D")(of_three)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    later.projection("E")(joined)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    guard.projection("F", on_reset=clear)(joined)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def of_options(guard: ProjectionGuard) -> None:
    """An option that is no option, or of another type."""
    ProjectionGuard("sqlite://", order="streams")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ProjectionGuard("sqlite://", worker="own")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ProjectionGuard("sqlite://", source=Headless())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ProjectionGuard("sqlite://", retry=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ProjectionGuard("sqlite://", retries=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RetryPolicy(wait=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    guard.projection("G", order="sream")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    guard.projection("H", handles=Ordered)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def of_acts(guard: ProjectionGuard) -> None:
    """An act of nobody, or none that there is."""
    guard.pause("A")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    guard.resolve("id", "retry")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    guard.resolve("id", "ignore", actor="a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    guard.rebuild("A")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    guard.failures("A").items[0].retries  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType]
    guard.failures("A").items[0].retry_count = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def of_awaiting(guard: AsyncProjectionGuard) -> None:
    """What is not awaited is not done."""
    guard.migrate()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    with guard.worker():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
