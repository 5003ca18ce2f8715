"""Sources and logs that break the contract, each in one way, and the conformance tests that have to find it out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from itertools import count
from typing import Any

from projection_guard._model import EventRecord
from projection_guard._source import Batch, Recorded, Share, Skipped, check_range, partition_of
from tests.sources.list_log import FindingListSource, ListLog, ListSource, SharingListSource

__all__ = ["WRONG", "Wrong"]

PATIENCE_SECONDS = 0.1


class AfterIsIncluded(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return super().found(max(after - 1, 0), limit, end)


class AfterIsOneTooMany(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return super().found(after + 1 if after else 0, limit, end)


class IgnoresUntil(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        check_range(after, limit, until)
        return super().read(after, limit)


class UntilIsExcluded(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return super().found(after, limit, end if end == self.head() else end - 1)


class UntilIsWhereItIs(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = super().read(after, limit, until)
        return batch if until is None else replace(batch, position=until, is_held=False)


class IgnoresLimit(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return super().found(after, 1000, end)


class ReturnsNothingAtLimitOne(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = super().read(after, limit, until)
        return batch if limit > 1 else Batch(events=(), position=after)


class NewestFirst(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return list(reversed(super().found(after, limit, end)))


class ByStream(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        found = super().found(after, limit, end)
        return sorted(found, key=lambda recorded: str(recorded.record and recorded.record.stream_id))


class Repeats(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        found = super().found(after, limit, end)
        return [*found, found[-1]] if 0 < len(found) < limit else found


class LosesOne(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return [recorded for recorded in super().found(after, limit, end) if recorded.sequence != 3]


class PositionIsOneTooFar(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = super().read(after, limit, until)
        return replace(batch, position=batch.position + 1) if until is None else batch


class PositionIsHead(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = super().read(after, limit, until)
        return replace(batch, position=self.head()) if until is None else batch


class PositionStandsStill(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        return replace(super().read(after, limit, until), position=after)


class PassesOpenTransactions(ListSource):
    def final(self) -> int:
        return self.head()


class PassesTheOneThatBeganFirst(ListSource):
    def final(self) -> int:
        began_later = sorted(self.log.open)[1:]
        return min([self.head(), *(sequence - 1 for sequence in began_later)])


class PassesWhatIsOpenAtTheEnd(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = super().read(after, limit, until)
        drawn = max(self.log.open, default=0)
        is_at_end = batch.position == self.head() and until is None
        return replace(batch, position=max(drawn, batch.position)) if is_at_end else batch


class ReturnsWhatIsNotCommitted(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return sorted((self.log.events | self.log.open).values(), key=lambda recorded: recorded.sequence)[:limit]


class DoesNotSayThatItHolds(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        return replace(super().read(after, limit, until), is_held=False)


class HoldsAtEveryHole(ListSource):
    def final(self) -> int:
        gone = [sequence for sequence in range(1, self.head()) if sequence not in self.log.events]
        return min([self.head(), *(sequence - 1 for sequence in gone)])


class SaysItSkippedWhatItReturned(ListSource):
    def skipped(self, after: int, position: int) -> Sequence[Skipped]:
        return [Skipped(first=after + 1, last=position, reason="removed")] if position > after else []


class HeadIsTooLow(ListSource):
    def head(self) -> int:
        return max(super().head() - 1, 0)

    def final(self) -> int:
        return max(self.log.events, default=0)


class HeadIsTooHigh(ListSource):
    def head(self) -> int:
        return super().head() + 1 if self.log.events else 0

    def final(self) -> int:
        return max(self.log.events, default=0)


class HeadOfAnEmptyLogIsNone(ListSource):
    def head(self) -> Any:
        return super().head() or None

    def final(self) -> int:
        return max(self.log.events, default=0)


class RemembersItsPlace(ListSource):
    place = 0

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = super().read(max(self.place, after), limit, None if until is None else max(self.place, after, until))
        self.place = batch.position
        return batch


class KeepsWhatItWasAskedForInItself(ListSource):
    asked = 0

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        self.asked = after
        threading.Event().wait(0.001)
        return super().read(self.asked, limit, until if until is None else max(until, self.asked))


class KnowsItsOwnPositionsOnly(ListSource):
    def __init__(self, log: ListLog) -> None:
        super().__init__(log)
        self.known = {0}

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch = super().read(after if after in self.known else 0, limit, until)
        self.known.add(batch.position)
        return batch


class MakesAnotherEventEachTime(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return [replace(recorded, event=object()) for recorded in super().found(after, limit, end)]


class RefusesNothing(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        after, limit = max(after, 0), max(limit, 1)
        return super().read(after, limit, None if until is None else max(after, until))


class IsUpsetByBadArguments(ListSource):
    is_upset = False

    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        if self.is_upset:
            return Batch(events=(), position=after)
        self.is_upset = True
        check_range(after, limit, until)
        self.is_upset = False
        return super().read(after, limit, until)


class GetsAnother(ListSource):
    def get(self, event_id: str) -> Recorded | None:
        return super().get("event 1")


class GetsOrRaises(ListSource):
    def get(self, event_id: str) -> Recorded | None:
        found = super().get(event_id)
        if found is None:
            raise LookupError(event_id)
        return found


class Waits(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        if after >= self.head():
            threading.Event().wait(PATIENCE_SECONDS * 3)
        return super().read(after, limit, until)


class IsReadFirst(ListLog):
    """Threads that write wait until somebody has begun to read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = threading.Event()

    def transaction(self, *stream_ids: str) -> Any:
        if threading.current_thread() is not threading.main_thread():
            self.is_read.wait(1)
        return super().transaction(*stream_ids)


class LooksAtItsHeadAfterReading(ListSource):
    def read(self, after: int, limit: int, until: int | None = None) -> Batch:
        batch, head = super().read(after, limit, until), self.head()
        if isinstance(self.log, IsReadFirst):
            self.log.is_read.set()
        for _ in range(100):  # what is committed now is not in the batch
            if self.head() > head:
                break
            threading.Event().wait(0.002)
        return batch if len(batch.events) == limit or until is not None else replace(batch, position=self.head())


class SaysAnotherRecord(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        record = EventRecord(event_id="event 1", event_type="Happened", sequence=1)
        return [replace(recorded, record=record) for recorded in super().found(after, limit, end)]


class SaysAnotherStream(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        found = super().found(after, limit, end)
        return [replace(one, record=one.record and replace(one.record, stream_id="Z")) for one in found]


class CannotRebuild(ListSource):
    def found(self, after: int, limit: int, end: int) -> Sequence[Recorded]:
        return [replace(recorded, error=ValueError()) for recorded in super().found(after, limit, end)]


class IsHalfAsync(ListSource):
    async def read(self, after: int, limit: int, until: int | None = None) -> Batch:  # type: ignore[override]
        return super().read(after, limit, until)


class SharesByEvent(SharingListSource):
    def is_in(self, share: Share, recorded: Recorded) -> bool:
        return recorded.record is None or share.has(None, recorded.record.event_id)


class SharesInLatin1(SharingListSource):
    def is_in(self, share: Share, recorded: Recorded) -> bool:
        digest = md5(str(recorded.record and recorded.record.stream_id).encode("latin-1", "replace")).digest()
        return int.from_bytes(digest[:4]) % share.of in share.partitions


class SharesByAnotherModulus(SharingListSource):
    def is_in(self, share: Share, recorded: Recorded) -> bool:
        stream = str(recorded.record and recorded.record.stream_id)
        return partition_of(stream, 2 * share.of) in share.partitions


class StandsStillWithoutItsOwn(SharingListSource):
    def shared(self, batch: Batch, after: int, share: Share) -> Batch:
        shared = super().shared(batch, after, share)
        return shared if shared.events else replace(shared, position=after)


class NamesTheLastOfItsOwn(SharingListSource):
    def shared(self, batch: Batch, after: int, share: Share) -> Batch:
        shared = super().shared(batch, after, share)
        return replace(shared, last=shared.events[-1].record if shared.events else None)


class SeesNoHolesOfOthers(SharingListSource):
    def read(self, after: int, limit: int, until: int | None = None, *, share: Share | None = None) -> Batch:
        batch = super().read(after, limit, until, share=share)
        return batch if share is None or batch.events or until is not None else replace(batch, position=self.head())


class FindsStreamsInAnyCase(FindingListSource):
    def is_of(self, recorded: Recorded, stream_id: str) -> bool:
        return str(recorded.record and recorded.record.stream_id).lower() == stream_id.lower()


class FindsTheOldestFirst(FindingListSource):
    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        return list(reversed(super().read_stream(stream_id, before, limit) or ()))


class FindsBeforeIncluded(FindingListSource):
    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        return super().read_stream(stream_id, None if before is None else before + 1, limit)


class FindsMoreThanItsLimit(FindingListSource):
    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        return super().read_stream(stream_id, before, limit and limit + 1)


class FindsAStreamInVain(FindingListSource):
    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        found = super().read_stream(stream_id, before, limit)
        if not found and self.log.events:
            raise LookupError(f"there is no stream {stream_id}")
        return found


class FindsWhateverIsAsked(FindingListSource):
    def read_stream(self, stream_id: str, before: int | None, limit: int) -> Sequence[Recorded] | None:
        return super().read_stream(stream_id, before if before is None else max(before, 0), max(limit, 1))


class UsesTheLastNumberAgain(ListLog):
    def transaction(self, *stream_ids: str) -> Any:
        self.numbers = count(max(self.events, default=0) + 1)
        return super().transaction(*stream_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A source that is wrong, or whose log is, and which tests have to fail for it: names without their `test_`."""

    source: type[ListSource] = ListSource
    log: type[ListLog] = ListLog
    fails: Sequence[str]


WRONG = [
    Wrong(source=AfterIsIncluded, fails=["after_is_excluded", "pages_are_the_log"]),
    Wrong(source=AfterIsOneTooMany, fails=["after_is_excluded", "pages_are_the_log"]),
    Wrong(source=IgnoresUntil, fails=["until_is_included"]),
    Wrong(source=UntilIsExcluded, fails=["until_is_included"]),
    Wrong(source=UntilIsWhereItIs, fails=["until_beyond_the_end_passes_nothing", "an_empty_log_is_no_error"]),
    Wrong(source=IgnoresLimit, fails=["limit_is_the_most_that_is_returned", "pages_are_the_log"]),
    Wrong(source=ReturnsNothingAtLimitOne, fails=["limit_is_the_most_that_is_returned", "pages_are_the_log"]),
    Wrong(source=NewestFirst, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(source=ByStream, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(source=Repeats, fails=["events_come_in_the_order_of_the_log", "pages_are_the_log"]),
    Wrong(source=LosesOne, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(source=PositionIsOneTooFar, fails=["nothing_appears_at_or_below_a_position", "an_empty_log_is_no_error"]),
    Wrong(source=PositionIsHead, fails=["pages_are_the_log", "any_reader_goes_on_from_any_position"]),
    Wrong(source=PositionStandsStill, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(
        source=PassesOpenTransactions,
        fails=[
            "a_hole_is_waited_for_until_it_is_filled",
            "two_open_transactions_that_end_in_turned_order",
        ],
    ),
    Wrong(source=PassesTheOneThatBeganFirst, fails=["two_open_transactions_that_end_in_turned_order"]),
    Wrong(source=PassesWhatIsOpenAtTheEnd, fails=["an_open_transaction_at_the_end_is_not_passed"]),
    Wrong(source=ReturnsWhatIsNotCommitted, fails=["a_hole_is_waited_for_until_it_cannot_be_filled"]),
    Wrong(
        source=DoesNotSayThatItHolds,
        fails=["a_hole_is_waited_for_until_it_is_filled", "a_hole_is_waited_for_until_it_cannot_be_filled"],
    ),
    Wrong(source=HoldsAtEveryHole, fails=["holes_are_passed_over", "a_hole_is_waited_for_until_it_cannot_be_filled"]),
    Wrong(source=SaysItSkippedWhatItReturned, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(source=HeadIsTooLow, fails=["head_is_the_highest_sequence"]),
    Wrong(source=HeadIsTooHigh, fails=["head_is_the_highest_sequence"]),
    Wrong(source=HeadOfAnEmptyLogIsNone, fails=["an_empty_log_is_no_error"]),
    Wrong(source=RemembersItsPlace, fails=["reading_again_gives_equal_events", "after_is_excluded"]),
    Wrong(source=KeepsWhatItWasAskedForInItself, fails=["readings_at_once_do_not_disturb_each_other"]),
    Wrong(source=KnowsItsOwnPositionsOnly, fails=["any_reader_goes_on_from_any_position"]),
    Wrong(source=MakesAnotherEventEachTime, fails=["reading_again_gives_equal_events"]),
    Wrong(source=RefusesNothing, fails=["bad_arguments_are_refused"]),
    Wrong(source=IsUpsetByBadArguments, fails=["bad_arguments_are_refused"]),
    Wrong(source=GetsAnother, fails=["get_finds_an_event_by_its_id"]),
    Wrong(source=GetsOrRaises, fails=["get_finds_an_event_by_its_id"]),
    Wrong(source=Waits, fails=["reading_waits_for_no_event"]),
    Wrong(
        source=LooksAtItsHeadAfterReading,
        log=IsReadFirst,
        fails=["a_reader_beside_writers_loses_nothing", "a_reader_beside_transactions_loses_nothing"],
    ),
    Wrong(source=SaysAnotherRecord, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(source=SaysAnotherStream, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(source=CannotRebuild, fails=["events_come_in_the_order_of_the_log"]),
    Wrong(source=IsHalfAsync, fails=["it_is_a_source_by_its_methods"]),
    Wrong(source=SharesByEvent, fails=["a_share_has_all_of_its_events"]),
    Wrong(source=SharesInLatin1, fails=["a_share_has_all_of_its_events"]),
    Wrong(source=SharesByAnotherModulus, fails=["a_share_has_all_of_its_events"]),
    Wrong(source=StandsStillWithoutItsOwn, fails=["a_share_without_events_stops_nobody"]),
    Wrong(source=NamesTheLastOfItsOwn, fails=["what_is_left_out_at_the_end_is_named"]),
    Wrong(source=SeesNoHolesOfOthers, fails=["a_hole_holds_those_of_other_shares"]),
    Wrong(source=FindsStreamsInAnyCase, fails=["a_stream_has_all_of_its_events"]),
    Wrong(source=FindsTheOldestFirst, fails=["a_stream_has_all_of_its_events"]),
    Wrong(source=FindsBeforeIncluded, fails=["a_part_of_a_stream_is_its_newest_below_a_sequence"]),
    Wrong(source=FindsMoreThanItsLimit, fails=["a_part_of_a_stream_is_its_newest_below_a_sequence"]),
    Wrong(source=FindsAStreamInVain, fails=["a_stream_that_is_not_there_is_empty"]),
    Wrong(source=FindsWhateverIsAsked, fails=["bad_arguments_of_a_stream_are_refused"]),
    Wrong(log=UsesTheLastNumberAgain, fails=["a_removed_sequence_is_not_used_again"]),
]
