"""The conformance suite's rules of what happens at the same time: writers beside a reader, and readers side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat

from .._source import AsyncEventSource, Batch, Recorded
from ._source_under_test import AnySource, SourceUnderTest, is_async
from ._source_walk import Ask, Walk, drive_async, expect, walk

__all__ = ["AtOnceRules"]

WRITERS = 4
TURNS = 10


class AtOnceRules(SourceUnderTest):
    """Tests with several threads, or with several tasks where the source is async."""

    def test_reading_waits_for_no_event(self) -> None:
        """Where there is nothing more, it returns at once; the follower decides when to ask again."""
        source = self.source()
        self._read_in_time(source, Ask())
        self.append("A")
        batch = self._read_in_time(source, Ask())
        self._read_in_time(source, Ask(after=batch.position))

    def _read_in_time(self, source: AnySource, ask: Ask) -> Batch:
        try:
            if is_async(source):
                reading = source.read(ask.after, ask.limit, ask.until)
                return self.run(asyncio.wait_for(reading, self.patience_seconds))
            return _in_a_thread(lambda: self._read(source, ask)).result(self.patience_seconds)
        except TimeoutError:
            says = f"read(after={ask.after}) with nothing there did not return within {self.patience_seconds} s"
            raise AssertionError(says) from None

    def test_readings_at_once_do_not_disturb_each_other(self) -> None:
        """One object, read from several threads (async: tasks) at different positions: each is given its own."""
        self.append(*"ABCDEFGHIJ")
        log = self._log()
        asks = [
            Ask(after=after, limit=limit, until=until)
            for after in (0, log.sequences[3], log.sequences[6])
            for limit, until in ((1, None), (2, log.sequences[8]), (100, None))
        ]
        for walked, ask in zip(self._walks_at_once(self.source(), asks), asks, strict=True):
            wanted = _between(log.events, ask)
            expect(
                list(walked.events) == wanted,
                f"Asked at the same time as others for {ask}, the source gave {walked.sequences}",
            )

    def _walks_at_once(self, source: AnySource, asks: Sequence[Ask]) -> list[Walk]:
        if is_async(source):
            return self.run(_gathered(source, asks))
        with ThreadPoolExecutor(len(asks)) as pool:
            return list(pool.map(self._walk, repeat(source), asks))

    def test_a_reader_beside_writers_loses_nothing(self) -> None:
        """Each committed event is read, once, in order; of one writer's events the later ones come later."""

        def write(number: int) -> list[str]:
            return [self.append(f"W{number}")[0] for _ in range(TURNS)]

        self._follow_beside(write)

    def test_a_reader_beside_transactions_loses_nothing(self) -> None:
        """Also where they commit in another order than they wrote, and some roll back."""
        pause = threading.Event()

        def write(number: int) -> list[str]:
            committed = list[str]()
            for turn in range(TURNS):
                commits = (number + turn) % 4 != 0
                with self._open(f"W{number}", commits=commits) as ids:
                    pause.wait(0.001 * ((number * 7 + turn * 3) % 5))  # no two are open for equally long
                committed += ids if commits else []
            return committed

        with self._open("A", commits=False):
            pass  # skips the test on this thread if there are no transactions
        self._follow_beside(write)

    def _follow_beside(self, write: Callable[[int], list[str]]) -> None:
        source, given, position = self.source(), list[Recorded](), 0
        with ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(write, number) for number in range(WRITERS)]
            while not all(writer.done() for writer in writers):
                walked = self._walk(source, Ask(after=position, limit=7))
                given += walked.events
                position = walked.position
        last = self._walk(source, Ask(after=position, limit=7), is_patient=True)
        ids = [self._record(recorded).event_id for recorded in [*given, *last.events]]
        appended = [writer.result() for writer in writers]
        all_of_them = {event_id for of_one in appended for event_id in of_one}
        lost = len(all_of_them - set(ids))
        expect(not lost, f"{lost} of {len(all_of_them)} events were lost to a reader who followed the writers")
        expect(len(ids) == len(all_of_them), f"{len(ids)} events were read, {len(all_of_them)} are in the log")
        for of_one in appended:
            in_order = [event_id for event_id in ids if event_id in set(of_one)]
            expect(
                in_order == of_one, f"One writer appended {of_one}, one after the other; they were read as {in_order}"
            )


def _between(events: Sequence[Recorded], ask: Ask) -> list[Recorded]:
    return [
        recorded
        for recorded in events
        if ask.after < recorded.sequence and (ask.until is None or recorded.sequence <= ask.until)
    ]


def _in_a_thread(read: Callable[[], Batch]) -> Future[Batch]:
    """Read in a thread that nobody has to wait for, should it never end."""
    future = Future[Batch]()

    def work() -> None:
        try:
            future.set_result(read())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


async def _gathered(source: AsyncEventSource, asks: Sequence[Ask]) -> list[Walk]:
    return list(await asyncio.gather(*(drive_async(walk(ask), source.read) for ask in asks)))
