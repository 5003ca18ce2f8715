"""An application, as `--app` finds it: told by the environment which guard to make, on which database, and what fails.

SHOP_KIND is "blocking" or "async", SHOP_DATABASE a URL, SHOP_BROKEN a file that names streams whose events fail, one a
line; while a file SHOP_SHUT is there, handlers of `Totals` wait.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import (
    Alert,
    AlertPolicy,
    AsyncProjectionGuard,
    AsyncSqlEventSource,
    ProjectionGuard,
    RetryPolicy,
    SqlEventSource,
)

__all__ = ["Inner", "NotAGuard", "alerting", "empty", "event", "follower", "guard", "lone"]

RETRY = RetryPolicy(wait=wait_fixed(3600), stop=stop_after_attempt(6), permanent=(KeyError,), breaker=None)
AnyGuard = ProjectionGuard | AsyncProjectionGuard
sources: list[Any] = []
"""Those that were made, for whoever goes on and has to close them."""


class NotAGuard:
    """Something else."""


def event(stream: str, n: int, sequence: int | None = None) -> dict[str, object]:
    """Make the n-th event of a stream."""
    return {"event_id": f"{stream}#{n}", "event_type": "Sold", "stream_id": stream, "sequence": sequence or n}


def _broken() -> dict[str, str]:
    """Return which streams fail, and with what."""
    told = os.environ.get("SHOP_BROKEN", "")
    if not told or not Path(told).exists():
        return {}
    lines = Path(told).read_text(encoding="utf-8").split()
    return dict(line.partition("=")[::2] for line in lines)


def _orders(sold: Mapping[str, Any], connection: Connection) -> None:
    kind = _broken().get(sold["stream_id"])
    if kind == "KeyError":
        raise KeyError("there is no such product")
    if kind is not None:
        raise ValueError("the handler has a bug")
    if sold.get("amount", 1) < 1:
        raise ValueError("less than one was sold")
    connection.execute(text("INSERT INTO orders (event_id) VALUES (:id)"), {"id": sold["event_id"]})


def _is_shut() -> bool:
    shut = os.environ.get("SHOP_SHUT", "")
    if not shut or not Path(shut).exists():
        return False
    Path(f"{shut}.reached").touch()
    return True


def _totals(sold: Mapping[str, Any], connection: Connection) -> None:
    while _is_shut():
        time.sleep(0.02)
    connection.execute(text("INSERT INTO totals (event_id) VALUES (:id)"), {"id": sold["event_id"]})


def _clear(table: str) -> Callable[[Connection], None]:
    def clear(connection: Connection) -> None:
        connection.exec_driver_sql(f"DELETE FROM {table}")

    return clear


def _made(kind: str, **options: Any) -> AnyGuard:
    url = os.environ["SHOP_DATABASE"]
    if kind == "async":
        return AsyncProjectionGuard(url, retry=RETRY, **options)
    return ProjectionGuard(url, retry=RETRY, **options)


def _register(made: AnyGuard, name: str, body: Callable[..., None], clear: Callable[..., Any], **options: Any) -> None:
    if isinstance(made, ProjectionGuard):
        made.projection(name, handles=["Sold"], on_reset=clear, **options)(body)
        return

    async def handler(sold: Any, connection: Any) -> None:
        while _is_shut():  # noqa: ASYNC110  # a file is what another process can tell it by
            await asyncio.sleep(0.02)
        await connection.run_sync(lambda sync: body(sold, sync))

    async def on_reset(connection: Any) -> None:
        await connection.run_sync(clear)

    made.projection(name, handles=["Sold"], on_reset=on_reset, **options)(handler)


def guard(kind: str | None = None) -> AnyGuard:
    """Return a guard with the projections Orders and Mails, which are pushed."""
    made = _made(kind or os.environ["SHOP_KIND"])
    _register(made, "Orders", _orders, _clear("orders"))
    _register(made, "Mails", lambda _, __: None, lambda _: None)
    return made


def follower(kind: str | None = None) -> AnyGuard:
    """Return a guard with the projection Totals, which follows the log."""
    kind = kind or os.environ["SHOP_KIND"]
    made_of: Any = AsyncSqlEventSource if kind == "async" else SqlEventSource
    source = made_of(os.environ["SHOP_DATABASE"], "log", decode=dict)
    sources.append(source)
    made = _made(kind, source=source)
    _register(made, "Totals", _totals, _clear("totals"), tables=["totals"])
    return made


def empty(kind: str | None = None) -> AnyGuard:
    """Return a guard for which nobody has registered anything."""
    return _made(kind or os.environ["SHOP_KIND"])


def alerting(kind: str | None = None) -> AnyGuard:
    """Return a guard of which two are told: one writes down what, the other never takes anything."""

    def writes(alert: Alert) -> None:
        with Path(os.environ["SHOP_BROKEN"]).with_name("told").open("a", encoding="utf-8") as file:
            file.write(f"{alert.title}\n")

    def refuses(alert: Alert) -> None:
        raise OSError("away")

    kind = kind or os.environ["SHOP_KIND"]
    made = _made(kind, alerts=AlertPolicy(to=[writes, refuses], active_failures=0))
    _register(made, "Orders", _orders, _clear("orders"))
    return made


def lone(kind: str | None = None) -> AnyGuard:
    """Return a guard with a projection that no process has run yet."""
    made = guard(kind)
    _register(made, "Newcomer", lambda _, __: None, lambda _: None)
    return made


class Inner:
    """Where a guard may stand, too."""

    class Deep:
        """Deeper."""

        make = staticmethod(guard)
