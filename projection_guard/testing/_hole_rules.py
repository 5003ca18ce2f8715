"""The conformance suite's rules of holes: final ones are passed over, those that may be filled are waited for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from ._source_under_test import AnySource, SourceUnderTest
from ._source_walk import Ask, Walk, expect

__all__ = ["HoleRules", "expect_nothing_passed"]


def expect_nothing_passed(walked: Walk, log: Walk) -> None:
    """Fail if something stands at or below a position of this walk that was not given to its reader by then."""
    for position in walked.positions:
        given = [sequence for sequence in walked.sequences if sequence <= position]
        there = [sequence for sequence in log.sequences if walked.after < sequence <= position]
        expect(
            given == there,
            f"The source came to position {position} with the events {given}; later there are {there} up to there",
        )


class HoleRules(SourceUnderTest):
    """Tests that need `remove` or `append_in_open_transaction`."""

    def test_holes_are_passed_over(self) -> None:
        """What was removed stops nobody and is not returned, at the beginning, in the middle or at the end."""
        self.append(*"ABCDEFG")
        before = self._log()
        gone = [before.sequences[index] for index in (0, 2, 3, 6)]
        for sequence in gone:
            self.remove(sequence)
        left = [recorded for recorded in before.events if recorded.sequence not in gone]
        source = self.source()
        for limit in (1, 2, 100):
            walked = self._walk(source, Ask(limit=limit), is_patient=True)
            expect(
                list(walked.events) == left and not walked.is_held,
                f"After {gone} were removed a reader with limit={limit} was given {walked.sequences}",
            )
        for until in gone:
            ranged = self._walk(source, Ask(until=until), is_patient=True)
            wanted = [recorded for recorded in left if recorded.sequence <= until]
            expect(
                list(ranged.events) == wanted,
                f"A reader up to {until}, which was removed, was given {ranged.sequences}",
            )

    def test_a_removed_sequence_is_not_used_again(self) -> None:
        """Who has read the last event, and then lost it, is given what is appended next: it stands above."""
        self.append("A", "B")
        source = self.source()
        walked = self._walk(source, Ask(), is_patient=True)
        self.remove(walked.sequences[-1])
        appended = list(self.append("C"))
        after = self._walk(source, Ask(after=walked.position), is_patient=True)
        expect(
            self._ids(after) == appended,
            f"A reader at {walked.position}, whose event was removed, was not given what was appended next: the log "
            "used its sequence again",
        )

    def test_a_hole_is_waited_for_until_it_is_filled(self) -> None:
        """A transaction that is open when others commit behind it: its events are read, in their place."""
        self._holds_at_an_open_transaction(commits=True)

    def test_a_hole_is_waited_for_until_it_cannot_be_filled(self) -> None:
        """A transaction that is open when others commit behind it, and rolls back: the others are read then."""
        self._holds_at_an_open_transaction(commits=False)

    def _holds_at_an_open_transaction(self, *, commits: bool) -> None:
        ids = list(self.append("A"))
        source = self.source()
        with self._open("B", "C", commits=commits) as written:
            ids += self.append("D", "E")
            walks = self._walks_meanwhile(source, committed=ids, written=written)
        ids += written if commits else []
        self._expect_all_of(ids, walks, [source, self.source()])

    def test_two_open_transactions_that_end_in_turned_order(self) -> None:
        """The one that began first is waited for although the other one has ended."""
        ids = list(self.append("A"))
        source = self.source()
        with self._open("B", commits=True) as first:
            with self._open("C", commits=True) as second:
                ids += self.append("D")
                walks = self._walks_meanwhile(source, committed=ids, written=[*first, *second])
            ids += second
            walks += self._walks_meanwhile(source, committed=ids, written=first)
        ids += first
        self._expect_all_of(ids, walks, [source, self.source()])

    def test_an_open_transaction_at_the_end_is_not_passed(self) -> None:
        """There is nothing behind it yet: reading returns, and does not come to where its events will stand."""
        ids = list(self.append("A"))
        source = self.source()
        with self._open("B", commits=True) as written:
            walks = self._walks_meanwhile(source, committed=ids, written=written)
        self._expect_all_of([*ids, *written], walks, [source, self.source()])

    def _walks_meanwhile(self, source: AnySource, *, committed: Sequence[str], written: Sequence[str]) -> list[Walk]:
        """Read while a transaction is open, in every way; what was not given has to be told by `is_held`."""
        walks = list[Walk]()
        for limit, until in product((1, 2, 100), (None, self._head(source))):
            for reader in (source, self.source()):
                walked = self._walk(reader, Ask(limit=limit, until=until))
                walks.append(walked)
                given = self._ids(walked)
                expect(not set(given) & set(written), f"The source returned {given}: some are not committed")
                expect(
                    set(given) == set(committed) or walked.is_held,
                    f"The source stopped at {walked.position} with more in the log, and is_held does not say so",
                )
        return walks

    def _expect_all_of(self, ids: Sequence[str], walks: Sequence[Walk], readers: Sequence[AnySource]) -> None:
        log = self._log()
        expect(sorted(self._ids(log)) == sorted(ids), f"The log has {sorted(ids)}; the source gave {self._ids(log)}")
        for walked in walks:
            expect_nothing_passed(walked, log)
            for reader in readers:
                rest = self._walk(reader, Ask(after=walked.position), is_patient=True)
                expect(
                    [*walked.events, *rest.events] == list(log.events) and not rest.is_held,
                    f"Held at {walked.position}, then given {rest.sequences}: together that is not the log",
                )
