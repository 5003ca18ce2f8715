"""What the conformance suite needs of an author: how to read his log, how to append to it, and what else it can do.

Blocking and async sources are driven from here: whatever is awaited runs on one event loop, kept for each test.
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeGuard, TypeVar, cast

import pytest

from .._mapping import EventMapping
from .._model import EventRecord
from .._source import AsyncEventSource, Batch, EventSource, Recorded
from ._source_walk import Ask, Walk, drive, expect, sound, walk

__all__ = ["AnySource", "SourceUnderTest", "is_async"]

T = TypeVar("T")
AnySource = EventSource | AsyncEventSource


class SourceUnderTest(ABC):
    """The author's part. `source` and `append` have to be there; tests that need more are skipped without it.

    pytest makes an object for each test: prepare an empty log in a fixture with `autouse=True`, and close there, too,
    what `source` opened (`self.run(...)` for what has to be awaited).
    """

    patience_seconds: float = 10.0
    """How long a test waits for what should come at once: a reading that returns, a hole that becomes final."""
    mapping: EventMapping = EventMapping()
    """Reads events off which the log itself says nothing (`Recorded.record` is None)."""

    _runner: asyncio.Runner | None = None

    @abstractmethod
    def source(self) -> AnySource:
        """Return a reader of this test's log, which is empty at first; each call returns another reader of that log."""

    @abstractmethod
    def append(self, *stream_ids: str) -> Sequence[str]:
        """Append an event to each of these streams, in this order; return their ids once a reader can see them.

        Some tests call it from several threads at once.
        """

    def append_in_open_transaction(self, *stream_ids: str) -> AbstractContextManager[Sequence[str]]:
        """Optional: append, give the ids inside the `with` block, and commit at its end; roll back if it raises.

        For logs with several writers. `append` is called inside the block; it must not have to wait for its end.
        """
        del stream_ids
        pytest.skip(
            "append_in_open_transaction() is not implemented: whether open transactions are waited for is untested"
        )

    def remove(self, sequence: int) -> None:
        """Optional: take an event out of the log, whose place stays empty then. For logs that can have holes."""
        del sequence
        pytest.skip("remove(sequence) is not implemented: whether holes are passed over is untested")

    def id_of(self, stream: str) -> str:
        """Optional: return the id in the log of the stream that `append` was given by this name, such as a UUID."""
        return stream

    def run(self, awaitable: Awaitable[T]) -> T:
        """Await something on this test's event loop."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(_awaited(awaitable))

    def teardown_method(self) -> None:
        """End the event loop. pytest calls it after the author's fixtures have ended."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _settled(self, answer: T | Awaitable[T]) -> T:
        if isinstance(answer, Awaitable):
            return self.run(cast("Awaitable[T]", answer))
        return answer

    def _read(self, source: AnySource, ask: Ask) -> Batch:
        return sound(self._settled(source.read(ask.after, ask.limit, ask.until)), ask)

    def _head(self, source: AnySource) -> int:
        return self._settled(source.head())

    def _walk(self, source: AnySource, ask: Ask, *, is_patient: bool = False) -> Walk:
        """Read from a position to the end, as a follower does."""
        steps = walk(ask, patience_seconds=self.patience_seconds if is_patient else 0)
        return drive(steps, lambda after, limit, until: self._settled(source.read(after, limit, until)))

    def _log(self) -> Walk:
        """Read the whole log with a reader of its own: what all other readings are compared with."""
        whole = self._walk(self.source(), Ask(), is_patient=True)
        expect(not whole.is_held, f"The source still holds at {whole.position} when no transaction is open any more")
        return whole

    def _ids(self, walked: Walk) -> list[str]:
        return [self._record(recorded).event_id for recorded in walked.events]

    def _record(self, recorded: Recorded) -> EventRecord:
        return recorded.record or self.mapping.read(recorded.event)

    @contextmanager
    def _open(self, *stream_ids: str, commits: bool) -> Generator[list[str]]:
        try:
            with self.append_in_open_transaction(*stream_ids) as ids:
                yield list(ids)
                if not commits:
                    raise RolledBackOnPurpose
        except RolledBackOnPurpose:
            return


class RolledBackOnPurpose(Exception):
    """Raised into `append_in_open_transaction()`, which has to roll back and let it through."""


def is_async(source: AnySource) -> TypeGuard[AsyncEventSource]:
    """Return whether this source is awaited."""
    return inspect.iscoroutinefunction(source.read)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
