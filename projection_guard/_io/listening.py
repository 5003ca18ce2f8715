"""Who follows a log is woken from other processes by PostgreSQL's LISTEN and NOTIFY; polling stays the truth.

It takes a connection of its own, outside the pool. Where that cannot be had, or notifications do not come through
(PgBouncer in transaction mode), followers look for themselves as often as they poll.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from . import asyncpg_driver

__all__ = ["CHANNEL", "listening", "listening_async"]

log = logging.getLogger("projection_guard")
CHANNEL: Final = "projection_guard"
_LISTEN: Final = f"LISTEN {CHANNEL}"
_LOOK_UP_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0


@asynccontextmanager
async def listening(engine: Engine, heard: Callable[[str], object]) -> AsyncGenerator[None]:
    """Tell what is notified, in a thread, while the block runs."""
    stopped = threading.Event()
    thread = threading.Thread(
        target=_listen, args=(engine, heard, stopped), name="projection_guard-listen", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(2 * _LOOK_UP_SECONDS)


def _listen(engine: Engine, heard: Callable[[str], object], stopped: threading.Event) -> None:
    pause = 1.0
    while not stopped.is_set():
        try:
            for payload in _notified(engine, stopped):
                pause = 1.0
                heard(payload)
        except Exception as error:
            log.debug("listening for notifications: %s", type(error).__name__)
        if stopped.wait(pause):
            return
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def _notified(engine: Engine, stopped: threading.Event) -> Any:
    pooled = engine.raw_connection()
    driver: Any = pooled.driver_connection
    pooled.detach()
    try:
        driver.autocommit = True
        driver.execute(_LISTEN)
        while not stopped.is_set():
            for notification in driver.notifies(timeout=_LOOK_UP_SECONDS):
                yield notification.payload
    finally:
        driver.close()  # not by the pool, whose it is no more: that would roll a lost one back, and log an error


@asynccontextmanager
async def listening_async(engine: AsyncEngine, heard: Callable[[str], object]) -> AsyncGenerator[None]:
    """Tell what is notified, in a task, while the block runs."""
    task = asyncio.get_running_loop().create_task(_listen_async(engine, heard), name="projection_guard-listen")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _listen_async(engine: AsyncEngine, heard: Callable[[str], object]) -> None:
    pause = 1.0
    while True:
        try:
            async for payload in _notified_async(engine):
                pause = 1.0
                heard(payload)
        except Exception as error:
            log.debug("listening for notifications: %s", type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _notified_async(engine: AsyncEngine) -> AsyncGenerator[str]:
    pooled = await engine.raw_connection()
    driver: Any = pooled.driver_connection
    pooled.detach()
    if asyncpg_driver.is_asyncpg(engine.dialect.driver):
        async for payload in asyncpg_driver.notified(driver, CHANNEL):
            yield payload
        return
    try:
        await driver.set_autocommit(True)
        await driver.execute(_LISTEN)
        async for notification in driver.notifies():
            yield notification.payload
    finally:
        with suppress(Exception):
            await asyncio.shield(asyncio.ensure_future(driver.close()))
