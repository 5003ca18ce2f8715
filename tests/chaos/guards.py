"""The two guards of a chaos run, with their projections, as every process makes them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import (
    AsyncProjectionGuard,
    AsyncSqlEventSource,
    Batch,
    HealthPolicy,
    ProjectionGuard,
    RetryPolicy,
    Share,
    SqlEventSource,
)
from tests.chaos import world
from tests.chaos.world import Fact

__all__ = ["LEASE_SECONDS", "TIMEOUT_SECONDS", "engine_options", "followed", "pushed", "stand_still_at_the_next_read"]

LEASE_SECONDS: Final = 2.0
TIMEOUT_SECONDS: Final = 4.0
PARTITIONS: Final = 4
_RETRY = RetryPolicy(wait=wait_fixed(0.3), stop=stop_after_attempt(4), immediate=2)
_stands_still = False


def stand_still_at_the_next_read() -> None:
    """Stop this process (SIGSTOP) once it has read events and not yet applied them: its lease runs out meanwhile."""
    global _stands_still  # noqa: PLW0603  # a signal handler has nowhere else to say it
    _stands_still = True


def _stand_still_here() -> None:
    global _stands_still  # noqa: PLW0603
    if _stands_still:
        _stands_still = False
        os.kill(os.getpid(), signal.SIGSTOP)


class _Source(SqlEventSource):
    """The log; reading it for a follower is where a process may be made to stand still."""

    def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Read; lags are looked up one event at a time."""
        batch = super().read(after, limit, until, share=share)
        if limit > 1 and batch.events:
            _stand_still_here()
        return batch


class _AsyncSource(AsyncSqlEventSource):
    """The same, awaited."""

    async def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        """Read; lags are looked up one event at a time."""
        batch = await super().read(after, limit, until, share=share)
        if limit > 1 and batch.events:
            _stand_still_here()
        return batch


def engine_options(url: str) -> dict[str, Any]:
    """Return what makes a host's engine notice within seconds that nobody answers, behind a pooler too."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": 30}}
    return {"connect_args": {"prepare_threshold": None, "connect_timeout": 10}}


def _options(order: dict[str, Any]) -> dict[str, Any]:
    return {
        "retry": _RETRY,
        "health": HealthPolicy(),
        "lease": timedelta(seconds=LEASE_SECONDS),
        "worker": "external",
    }


def pushed(order: dict[str, Any]) -> Any:
    """Make the guard to which events are pushed."""
    kind = AsyncProjectionGuard if order["kind"] == "async" else ProjectionGuard
    guard = kind(order["url"], **_options(order))
    _register(guard, order, world.PUSHED)
    return guard


def followed(order: dict[str, Any]) -> Any:
    """Make the guard that follows the log."""
    if order["kind"] == "async":
        source: Any = _AsyncSource(order["url"], "chaos_log", decode=world.fact_of)
        guard: Any = AsyncProjectionGuard(order["url"], source=source, **_options(order))
    else:
        source = _Source(order["url"], "chaos_log", decode=world.fact_of)
        guard = ProjectionGuard(order["url"], source=source, **_options(order))
    _register(guard, order, world.FOLLOWED)
    return guard


def _register(guard: Any, order: dict[str, Any], names: Sequence[str]) -> None:
    elsewhere: list[Engine] = []

    def engine() -> Engine:  # made at its first use: a publisher of followed projections calls nobody
        if not elsewhere:
            elsewhere.append(create_engine(order["log_url"], pool_pre_ping=True, **engine_options(order["log_url"])))
        return elsewhere[0]

    for name in names:
        options: dict[str, Any] = {"handles": [Fact], "timeout": TIMEOUT_SECONDS}
        if name == "followed":
            options["partitions"] = PARTITIONS
        if name == "followed batch":
            options["batch"] = 20
        if name in world.APART:
            guard.projection(name, **options)(_apart(name, engine))
        else:
            if name in world.FOLLOWED:
                options["on_reset"] = _joined(partial(_clear, name), order)
            body = partial(_apply_all if name == "followed batch" else _apply_one, name)
            guard.projection(name, **options)(_joined_handler(body, order))


def _apply_one(name: str, fact: Fact, connection: Connection) -> None:
    world.apply(connection, name, fact)


def _apply_all(name: str, facts: Sequence[Fact], connection: Connection) -> None:
    for fact in facts:
        world.apply(connection, name, fact)


def _clear(name: str, connection: Connection) -> None:
    world.on_reset(connection, name)


def _joined(body: Callable[[Connection], None], order: dict[str, Any]) -> Any:
    if order["kind"] != "async":
        return body

    async def handler(connection: Any) -> None:
        await connection.run_sync(body)

    return handler


def _joined_handler(body: Callable[[Any, Connection], None], order: dict[str, Any]) -> Any:
    if order["kind"] != "async":
        return body

    async def handler(event: Any, connection: Any) -> None:
        await connection.run_sync(lambda sync: body(event, sync))

    return handler


def _apart(name: str, engine: Callable[[], Engine]) -> Any:
    return lambda event: world.call_elsewhere(engine(), name, event)
