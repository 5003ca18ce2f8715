"""The conformance suite's rules of shares, for sources that can leave out what is others' part of the streams."""

from __future__ import annotations

from typing import Any, cast

import pytest

from .._source import Share, partition_of, takes_share
from ._source_under_test import AnySource, SourceUnderTest
from ._source_walk import Ask, Walk, drive, expect, sound, walk

__all__ = ["ShareRules"]

_OF = 4
_STREAMS = ("A", "B", "C", "D", "Ærø", "stream-6", "Кот", "8")  # some in each of four parts


class ShareRules(SourceUnderTest):
    """Tests that need `read(..., *, share=None)`. Others' events may be there as well: the guard leaves them out."""

    def test_a_share_has_all_of_its_events(self) -> None:
        """Whatever its size, and the page's; its readers come as far as those of the whole log."""
        source = self._sharing_source()
        self.append(*_STREAMS, *reversed(_STREAMS))
        log = self._log()
        for limit in (1, 3, 100):
            for share in (*_each(_OF), Share(partitions=frozenset({0, 2, 3}), of=_OF)):
                walked = self._walk_share(source, Ask(limit=limit), share)
                self._expect_share(walked, log, share)
        half = log.sequences[len(log.sequences) // 2]
        for share in _each(_OF):
            ranged = self._walk_share(source, Ask(until=half), share)
            self._expect_share(ranged, log, share, end=half)
            expect(ranged.position == half, f"A reader of {share} up to {half} came to {ranged.position}")

    def test_what_is_left_out_at_the_end_is_named(self) -> None:
        """A source that says `last` says of the event at the end of what it read what the log says, whoever's it is."""
        source = self._sharing_source()
        self.append(*_STREAMS)
        log = self._log()
        for limit in (1, 3, 100):
            for share in _each(_OF):
                batch = self._settled(cast("Any", source).read(0, limit, share=share))
                if sound(batch, Ask(limit=limit)).last is not None:
                    there = [each for each in log.events if each.sequence <= batch.position][-1]
                    said, is_said = self._record(there), batch.last
                    expect(
                        (is_said.sequence, is_said.event_id, is_said.event_type)
                        == (there.sequence, said.event_id, said.event_type),
                        f"A reader of {share} came to {batch.position}; the last event there is {said.event_id!r}, and "
                        f"last= says {is_said.event_id!r}, sequence {is_said.sequence}",
                    )

    def test_a_share_without_events_stops_nobody(self) -> None:
        """Who has none of the streams comes to the log's end all the same, and is given what comes later."""
        source = self._sharing_source()
        others = [stream for stream in _STREAMS if partition_of(self.id_of(stream), _OF) != 0]
        self.append(*others)
        mine = Share(partitions=frozenset({0}), of=_OF)
        walked = self._walk_share(source, Ask(limit=2), mine)
        self._expect_share(walked, self._log(), mine)
        self.append(*_STREAMS)
        later = self._walk_share(source, Ask(after=walked.position), mine)
        self._expect_share(later, self._log(), mine)

    def test_a_hole_holds_those_of_other_shares(self) -> None:
        """Nobody knows whose event will stand there: no reader passes it, whatever is behind it."""
        source = self._sharing_source()
        self.append("A")
        shares = _each(_OF)
        with self._open(*_STREAMS, commits=True):
            self.append("A")
            walks = [self._walk_share(source, Ask(), share, is_patient=False) for share in shares]
        log = self._log()
        for share, walked in zip(shares, walks, strict=True):
            self._expect_share(walked, log, share, end=0)
            rest = self._walk_share(source, Ask(after=walked.position), share)
            self._expect_share(rest, log, share)

    def _sharing_source(self) -> AnySource:
        source = self.source()
        if not takes_share(source):
            pytest.skip("the source's read() takes no share: it leaves out nothing, and the guard does it")
        return source

    def _walk_share(self, source: AnySource, ask: Ask, share: Share, *, is_patient: bool = True) -> Walk:
        read = cast("Any", source).read
        steps = walk(ask, patience_seconds=self.patience_seconds if is_patient else 0)
        return drive(steps, lambda after, limit, until: self._settled(read(after, limit, until, share=share)))

    def _expect_share(self, walked: Walk, log: Walk, share: Share, *, end: int | None = None) -> None:
        """Fail unless a reader came to the log's end, and was given all that is his up to where he has come."""
        end = log.sequences[-1] if end is None else end
        expect(walked.position >= end, f"A reader of {share} came to {walked.position}, and has to come to {end}")
        for position in walked.positions:
            given = [recorded.sequence for recorded in walked.events if recorded.sequence <= position]
            missing = [
                recorded.sequence
                for recorded in log.events
                if walked.after < recorded.sequence <= position
                and recorded.sequence not in given
                and share.has((record := self._record(recorded)).stream_id, record.event_id)
            ]
            expect(not missing, f"A reader of {share} came to {position}, and was not given {missing}, which are his")


def _each(of: int) -> list[Share]:
    return [Share(partitions=frozenset({number}), of=of) for number in range(of)]
