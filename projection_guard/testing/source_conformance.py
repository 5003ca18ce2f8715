"""What an author of an event source runs against it: the contract of `EventSource`, one test for each of its rules.

    class TestMySource(SourceConformance):
        def source(self): ...
        def append(self, *stream_ids): ...

Blocking and async sources are tested by the same methods. docs/sources.md has an example that runs. Not imported by
`projection_guard.testing` itself, since it needs pytest.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, runtime_checkable
from uuid import uuid4

try:
    import pytest
except ImportError as error:
    raise ImportError(
        f"projection_guard.testing.source_conformance needs {error.name}: pip install 'projection-guard[test]'"
    ) from error

from .._source import Batch, EventSource, Recorded
from ..errors import InvalidArgument
from ._at_once_rules import AtOnceRules
from ._hole_rules import HoleRules, expect_nothing_passed
from ._share_rules import ShareRules
from ._source_under_test import is_async
from ._source_walk import Ask, expect
from ._stream_rules import StreamRules

__all__ = ["SourceConformance"]


@runtime_checkable
class FindsById(Protocol):
    """What a source may offer beside reading."""

    def get(self, event_id: str) -> Recorded | Awaitable[Recorded | None] | None:
        """Return one event, or None."""
        ...


class SourceConformance(HoleRules, AtOnceRules, ShareRules, StreamRules):
    """Subclass it as `Test...`, say how to read and append, and pytest finds the rest.

    A test that needs an optional method which is not there is skipped, and names it.
    """

    def test_it_is_a_source_by_its_methods(self) -> None:
        """`read` and `head` are both awaited, or neither is."""
        source = self.source()
        expect(_has_the_methods(source), "A source has the methods read and head")
        asked = (lambda: source.read(0, 1), lambda: source.read(after=0, limit=1, until=None), source.head)
        for ask in asked:
            answer = ask()
            is_awaited = not isinstance(answer, Batch | int)
            self._settled(answer)
            expect(is_awaited == is_async(source), f"One of read and head is async, the other returned {answer!r}")

    def test_an_empty_log_is_no_error(self) -> None:
        """Nothing is read, its head is 0, and no position passes what is appended first."""
        source = self.source()
        expect(self._head(source) == 0, f"head() of an empty log is {self._head(source)}, and has to be 0")
        walks = [self._walk(source, Ask(until=until)) for until in (None, 1, 1000)]
        for walked in walks:
            expect(not walked.events and not walked.is_held, f"An empty log was read as {walked}")
        ids = list(self.append("A"))
        for walked in walks:
            first = self._walk(source, Ask(after=walked.position), is_patient=True)
            expect(self._ids(first) == ids, f"At {walked.position} in the empty log, a reader missed its first event")

    def test_events_come_in_the_order_of_the_log(self) -> None:
        """All of them, as they were appended, and each says which one it is."""
        streams = "ABACABA"
        ids = list(self.append(*streams))
        log = self._log()
        expect(self._ids(log) == ids, f"Appended were {ids}, in this order; read were {self._ids(log)}")
        said = [self._record(recorded).stream_id for recorded in log.events]
        are = [self.id_of(stream) for stream in streams]
        expect(
            said in (are, [None] * len(streams)),
            f"The events' streams are {are}; their records say {said}",
        )

    def test_pages_are_the_log(self) -> None:
        """Read in small batches it is what it is in one: nothing is lost or repeated between them."""
        self.append(*"ABCDEFGHIJK")
        log = self._log()
        for limit in (1, 2, 3, 10, 11, 12):
            walked = self._walk(self.source(), Ask(limit=limit))
            expect(
                walked.events == log.events,
                f"With limit={limit} the log's {log.sequences} were read as {walked.sequences}",
            )
            expect_nothing_passed(walked, log)

    def test_limit_is_the_most_that_is_returned(self) -> None:
        """Fewer may be, but something, as long as there is something."""
        self.append(*"ABCDE")
        source = self.source()
        for limit in (1, 2, 4, 5, 6):
            batch = self._read(source, Ask(limit=limit))
            expect(bool(batch.events) or batch.position > 0, f"read(0, {limit}) returned nothing of five events")

    def test_after_is_excluded(self) -> None:
        """Reading after any event begins with the next one; after the last one there is nothing."""
        self.append(*"ABCDE")
        log = self._log()
        source = self.source()
        for index, sequence in enumerate(log.sequences):
            walked = self._walk(source, Ask(after=sequence))
            wanted = log.sequences[index + 1 :]
            expect(walked.sequences == wanted, f"After {sequence} come {wanted}; the source gave {walked.sequences}")

    def test_until_is_included(self) -> None:
        """Each range ends with the event it was asked up to, and has come there."""
        self.append(*"ABCDE")
        log = self._log()
        source = self.source()
        for after in (0, *log.sequences):
            for until in (sequence for sequence in log.sequences if sequence >= after):
                for limit in (1, 100):
                    walked = self._walk(source, Ask(after=after, limit=limit, until=until))
                    wanted = [sequence for sequence in log.sequences if after < sequence <= until]
                    expect(
                        walked.sequences == wanted and walked.position == until,
                        f"After {after} up to {until} are {wanted}; the source gave {walked.sequences} and came to "
                        f"{walked.position}",
                    )

    def test_until_beyond_the_end_passes_nothing(self) -> None:
        """A range that ends where the log has not come to yet leaves what will be appended to later readings."""
        self.append("A", "B")
        source = self.source()
        walked = self._walk(source, Ask(until=self._head(source) + 1000))
        self.append("C", "D")
        expect_nothing_passed(walked, self._log())

    def test_nothing_appears_at_or_below_a_position(self) -> None:
        """Whoever goes on from where he was is given all that was appended since, and only that."""
        source, position, given = self.source(), 0, list[str]()
        walks = [self._walk(source, Ask())]
        for count in (1, 2, 3):
            ids = list(self.append(*"ABC"[:count]))
            walked = self._walk(source, Ask(after=position), is_patient=True)
            walks.append(walked)
            expect(self._ids(walked) == ids, f"At {position}, after {ids} were appended, came {self._ids(walked)}")
            position = walked.position
            given += ids
        log = self._log()
        expect(self._ids(log) == given, f"Appended were {given}; a new reader was given {self._ids(log)}")
        for walked in walks:
            expect_nothing_passed(walked, log)

    def test_head_is_the_highest_sequence(self) -> None:
        """Of what is committed; it is never below an event that can be read, nor above the last one."""
        source = self.source()
        for streams in ("A", "BC", "DEF"):
            self.append(*streams)
            last = self._log().sequences[-1]
            expect(self._head(source) == last, f"The log's last event is {last}; head() says {self._head(source)}")

    def test_any_reader_goes_on_from_any_position(self) -> None:
        """A position is all that is kept between two processes."""
        self.append(*"ABCDEF")
        log = self._log()
        for limit in (1, 2, 4):
            batch = self._read(self.source(), Ask(limit=limit))
            rest = self._walk(self.source(), Ask(after=batch.position))
            expect(
                [*batch.events, *rest.events] == list(log.events),
                f"One reader came to {batch.position}; another one that went on there was given {rest.sequences}",
            )

    def test_reading_again_gives_equal_events(self) -> None:
        """From the same object or another one, also when the log has grown: what happened does not change."""
        self.append(*"ABCD")
        source = self.source()
        once = self._walk(source, Ask()).events
        self.append("E")
        for reader in (source, source, self.source()):
            again = self._walk(reader, Ask()).events[: len(once)]
            for before, now in zip(once, again, strict=True):
                expect(before == now, f"Sequence {before.sequence} was {before!r} and, read again, is {now!r}")

    def test_bad_arguments_are_refused(self) -> None:
        """With `InvalidArgument`, and the next reading is as if they had not been given."""
        self.append("A", "B")
        log = self._log()
        source = self.source()
        for after, limit, until in ((-1, 10, None), (0, 0, None), (0, -1, None), (2, 10, 1)):
            asked = f"read(after={after}, limit={limit}, until={until})"
            try:
                batch = self._settled(source.read(after, limit, until))
            except InvalidArgument:
                pass
            else:
                raise AssertionError(f"{asked} has to raise InvalidArgument, and returned {batch}")
            expect(self._walk(source, Ask()).events == log.events, f"After {asked} the log was read differently")

    def test_get_finds_an_event_by_its_id(self) -> None:
        """Where a source offers it: the same as reading gives, and None for an id that the log has not."""
        source = self.source()
        if not isinstance(source, FindsById):
            pytest.skip("the source has no get(event_id): whether it finds events by their ids is untested")
        ids = list(self.append("A", "B", "C"))
        for event_id, recorded in zip(ids, self._log().events, strict=True):
            found = self._settled(source.get(event_id))
            expect(found == recorded, f"get({event_id!r}) returned {found!r}, and reading {recorded!r}")
        for unknown in (str(uuid4()), "no such event"):
            found = self._settled(source.get(unknown))
            expect(found is None, f"get({unknown!r}) returned {found!r} and has to return None")


def _has_the_methods(source: object) -> bool:
    return isinstance(source, EventSource)  # by their names, which are those of an async source too
