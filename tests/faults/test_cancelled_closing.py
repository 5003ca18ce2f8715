"""A task that is cancelled while it gives its connection back leaves no error in the log, and no connection open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import psycopg.waiting
import pytest

from tests.bed import Bed, happened, noted


@pytest.fixture
def bed(postgres_url: str) -> Iterator[Bed]:
    """The async guard on PostgreSQL: only tasks are cancelled."""
    made = Bed("async", "postgresql", postgres_url)
    yield made
    made.close()


@pytest.fixture
def busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the loop had been busy for long: psycopg lets others run in the middle of a rollback then."""
    if not hasattr(psycopg.waiting, "MAX_BUSY_TIME"):
        pytest.skip("this psycopg never does")
    monkeypatch.setattr(psycopg.waiting, "MAX_BUSY_TIME", 0.0)


async def cancelled_in_the_rollback(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    """Cancel work right when the pool rolls its connection back."""
    task = asyncio.ensure_future(work)
    rollback = psycopg.AsyncConnection.rollback

    async def cancelling(connection: Any) -> None:
        task.cancel()
        await rollback(connection)

    with monkeypatch.context() as patched, suppress(asyncio.CancelledError):
        patched.setattr(psycopg.AsyncConnection, "rollback", cancelling)
        await task
    await asyncio.sleep(0.05)


@pytest.mark.usefixtures("busy_loop")
def test_a_cancelled_delivery_gives_its_connection_back_quietly(
    bed: Bed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool logs an error with a traceback where its own rollback is cancelled."""
    guard = bed.guard()
    bed.joined(guard, "P", noted("P"))
    guard.publish(happened("A", 1))
    with caplog.at_level(logging.WARNING):
        bed.run(cancelled_in_the_rollback(monkeypatch, guard.publisher.publish(happened("A", 2))))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    guard.publish(happened("A", 2))
    assert bed.effects("P", "A") == [("A", 1), ("A", 2)]
