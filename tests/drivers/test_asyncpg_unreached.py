"""With asyncpg, a server that is not there is told as with every driver; `.ci/run oldest` runs this, too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from projection_guard import AsyncProjectionGuard, AsyncSqlEventSource, SourceError, StoreUnavailable
from tests.bed import Happened, happened

pytest.importorskip("asyncpg", reason="the driver asyncpg is not installed")


@pytest.fixture
def nobodys_url() -> Iterator[str]:
    """An address at which nobody listens, and nobody else can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{taken.getsockname()[1]}/x"


def test_a_server_that_is_not_there_is_unavailable(nobodys_url: str) -> None:
    """What the network says to asyncpg comes as an OSError: whoever publishes or follows is to know nothing of that."""

    async def ask() -> None:
        async with AsyncProjectionGuard(nobodys_url, worker="external") as guard:
            guard.projection("P", handles=[Happened])(_nothing)
            with pytest.raises(StoreUnavailable, match=r"cannot be reached .* Connect call failed"):
                await guard.health()
            assert await guard.publisher(on_unavailable="log").publish(happened("A", 1)) == ()
        with pytest.raises(SourceError, match="could not be read"):
            await AsyncSqlEventSource(nobodys_url, "events").head()

    asyncio.run(ask())


async def _nothing(event: Happened, connection: AsyncConnection) -> None:
    """Nobody calls it."""
