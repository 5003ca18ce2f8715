"""KurrentDB as a source and by persistent subscriptions: its own client, against a double of its server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("kurrentdbclient", reason="the client of KurrentDB is not installed: extra kurrentdb")

from kurrentdbclient import AsyncKurrentDBClient, KurrentDBClient

from projection_guard._source import AsyncEventSource, EventSource
from projection_guard.kurrentdb import AsyncKurrentDBSource, KurrentDBSource
from projection_guard.testing.source_conformance import SourceConformance
from tests.libraries.few import few
from tests.libraries.kurrent_double import Kurrent


@pytest.fixture(scope="module")
def server() -> Iterator[Kurrent]:
    """The double; its log is cleared for each test."""
    made = Kurrent()
    yield made
    made.close()


@pytest.fixture
def kurrent(server: Kurrent) -> Kurrent:
    """An empty log."""
    server.clear()
    return server


@pytest.fixture
def client(kurrent: Kurrent) -> Iterator[KurrentDBClient]:
    """A client of it."""
    made = KurrentDBClient(kurrent.url)
    yield made
    made.close()


class KurrentConformance(SourceConformance):
    kurrent: Kurrent

    @pytest.fixture(autouse=True)
    def log(self, kurrent: Kurrent) -> None:
        self.kurrent = kurrent
        kurrent.append("$stats-1", kind="$statsCollected")

    def append(self, *stream_ids: str) -> list[str]:
        with self.kurrent.lock:
            made = [self.kurrent.append(stream)[0].id for stream in stream_ids]
            self.kurrent.append("$ce-all", kind="$>", data=b"0@A")
            return made

    def remove(self, sequence: int) -> None:
        self.kurrent.remove(sequence)


class TestKurrentDBSource(KurrentConformance):
    @pytest.fixture(autouse=True)
    def connect(self, client: KurrentDBClient) -> None:
        self.client = client

    def source(self) -> EventSource:
        return KurrentDBSource(self.client)


@few
class TestAsyncKurrentDBSource(KurrentConformance):
    @pytest.fixture(autouse=True)
    def connect(self, log: None) -> Iterator[None]:
        async def connected() -> AsyncKurrentDBClient:
            made = AsyncKurrentDBClient(self.kurrent.url)
            await made.connect()
            return made

        self.client = self.run(connected())
        yield
        self.run(self.client.close())

    def source(self) -> AsyncEventSource:
        return AsyncKurrentDBSource(self.client)
