"""The conformance suite's rules of one stream, for sources that find a stream's events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from .._source import Recorded
from ..errors import InvalidArgument
from ._source_under_test import AnySource, SourceUnderTest
from ._source_walk import Walk, expect

__all__ = ["StreamRules"]

_STREAMS = ("A", "B", "A", "Ærø", "A", "B", "A", "a", "A")


class StreamRules(SourceUnderTest):
    """Tests that need `read_stream(stream_id, before, limit)`, and that it finds streams in this log."""

    def test_a_stream_has_all_of_its_events(self) -> None:
        """Newest first, the same as reading gives, and no other stream's."""
        source = self._finding_source()
        self.append(*_STREAMS)
        log = self._log()
        for stream in sorted(set(_STREAMS)):
            self._expect(self._of(source, stream, None, 100), self._wanted(log, stream), f"Of stream {stream!r}")

    def test_a_part_of_a_stream_is_its_newest_below_a_sequence(self) -> None:
        """`before` is excluded, `limit` the most that is returned: pages are the stream."""
        source = self._finding_source()
        self.append(*_STREAMS)
        wanted = self._wanted(self._log(), "A")
        for limit in (1, 2, 4, 5, 6):
            for before in (None, *(recorded.sequence for recorded in wanted)):
                part = [recorded for recorded in wanted if before is None or recorded.sequence < before][:limit]
                self._expect(self._of(source, "A", before, limit), part, f"Below {before}, with limit={limit},")

    def test_a_stream_that_is_not_there_is_empty(self) -> None:
        """That is no error; nor is it in an empty log."""
        source = self._finding_source()
        self._expect(self._of(source, "A", None, 10), [], "Of an empty log")
        self.append("B")
        self._expect(self._of(source, "A", None, 10), [], "Of a stream that the log has not")

    def test_bad_arguments_of_a_stream_are_refused(self) -> None:
        """With `InvalidArgument`."""
        source = self._finding_source()
        self.append("A")
        for before, limit in ((-1, 10), (None, 0), (None, -1)):
            try:
                found = self._of(source, "A", before, limit)
            except InvalidArgument:
                continue
            raise AssertionError(f"read_stream('A', {before}, {limit}) has to raise InvalidArgument; it gave {found}")

    def _finding_source(self) -> AnySource:
        source = self.source()
        if not callable(getattr(source, "read_stream", None)):
            pytest.skip("the source has no read_stream(stream_id, before, limit): its streams are untested")
        if self._settled(cast("Any", source).read_stream(self.id_of("A"), None, 1)) is None:
            pytest.skip("the source finds no streams in this log: they are untested")
        return source

    def _of(self, source: AnySource, stream: str, before: int | None, limit: int) -> Sequence[Recorded]:
        found: Sequence[Recorded] = self._settled(cast("Any", source).read_stream(self.id_of(stream), before, limit))
        return found

    def _wanted(self, log: Walk, stream: str) -> list[Recorded]:
        return [recorded for recorded in reversed(log.events) if self._record(recorded).stream_id == self.id_of(stream)]

    def _expect(self, found: Sequence[Recorded], wanted: Sequence[Recorded], what: str) -> None:
        gave, has = [[recorded.sequence for recorded in events] for events in (found, wanted)]
        expect(list(found) == list(wanted), f"{what} the source gave {gave}, and reading the log gives {has}")
