"""Reading a log as a follower does, batch after batch, for the conformance suite; every batch is checked.

What to ask for next is decided in a generator without I/O, so that blocking and async sources take the same steps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from time import monotonic, sleep

from .._source import Batch, Recorded, Skipped, checked
from ..errors import SourceError

__all__ = ["Ask", "Walk", "drive", "drive_async", "expect", "sound", "walk"]

MOST_BATCHES_OF_NOTHING = 1_000
PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The arguments of one `read`."""

    after: int = 0
    limit: int = 100
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What one reader was given on its way, and the positions it came through. `is_held`: it stopped before a hole."""

    after: int
    events: tuple[Recorded, ...]
    positions: tuple[int, ...]
    skipped: tuple[Skipped, ...]
    is_held: bool

    @property
    def sequences(self) -> list[int]:
        """The events' sequences."""
        return [recorded.sequence for recorded in self.events]

    @property
    def position(self) -> int:
        """Where it stopped."""
        return self.positions[-1]


Steps = Generator[Ask, Batch, Walk]


def expect(claim: bool, says: str) -> None:  # noqa: FBT001 - it reads as `assert`, which `python -O` would take away
    """Fail with a sentence for the source's author unless the claim is true."""
    __tracebackhide__ = True
    if not claim:
        raise AssertionError(says)


def walk(ask: Ask, *, patience_seconds: float = 0) -> Steps:
    """Ask for one batch after the other, until one brings nothing new; at a hole be patient, then stop."""
    end = monotonic() + patience_seconds
    events, positions, skipped = list[Recorded](), list[int](), list[Skipped]()
    position, batches_of_nothing = ask.after, 0
    while True:
        asked = Ask(after=position, limit=ask.limit, until=ask.until)
        batch = sound((yield asked), asked)
        events += batch.events
        skipped += batch.skipped
        positions.append(batch.position)
        batches_of_nothing = 0 if batch.events else batches_of_nothing + 1
        expect(
            batches_of_nothing < MOST_BATCHES_OF_NOTHING,
            f"{batches_of_nothing} batches without an event, and the position still moves: it has come to {position}",
        )
        if not batch.events and batch.position == position:
            if not batch.is_held or monotonic() >= end:
                break
            sleep(PAUSE_SECONDS)
        position = batch.position
    return Walk(
        after=ask.after,
        events=tuple(events),
        positions=tuple(positions),
        skipped=tuple(skipped),
        is_held=batch.is_held,
    )


def drive(steps: Steps, read: Callable[[int, int, int | None], Batch]) -> Walk:
    """Take the steps of a walk with a function that reads."""
    asked = next(steps)
    try:
        while True:
            asked = steps.send(read(asked.after, asked.limit, asked.until))
    except StopIteration as done:
        return _walk_of(done)


async def drive_async(steps: Steps, read: Callable[[int, int, int | None], Awaitable[Batch]]) -> Walk:
    """The same, awaited."""
    asked = next(steps)
    try:
        while True:
            asked = steps.send(await read(asked.after, asked.limit, asked.until))
    except StopIteration as done:
        return _walk_of(done)


def _walk_of(done: StopIteration) -> Walk:
    walked: Walk = done.value
    return walked


def sound(batch: Batch, ask: Ask) -> Batch:
    """Return a batch that keeps the contract. Raises `SourceError` for one that does not."""
    checked(batch, ask.after, ask.limit, ask.until)
    for recorded in batch.events:
        if recorded.error is not None:
            raise SourceError(
                f"The source could not rebuild sequence {recorded.sequence}, which was only just appended"
            ) from recorded.error
        if recorded.record is not None and recorded.record.sequence not in (None, recorded.sequence):
            raise SourceError(
                f"The source returned sequence {recorded.sequence} with the record of {recorded.record.sequence}"
            )
    _check_skipped(batch.skipped, ask.after, batch)
    return batch


def _check_skipped(skipped: Sequence[Skipped], after: int, batch: Batch) -> None:
    passed = after
    for hole in skipped:
        named = f"skipped={hole.first}-{hole.last}"
        if hole.first > hole.last or not hole.reason:
            raise SourceError(f"{named}: a hole has a first sequence, a last one not below it, and a reason")
        if hole.first <= passed or hole.last > batch.position:
            raise SourceError(f"{named} is out of order, or outside of what was read: {after + 1}-{batch.position}")
        if any(hole.first <= recorded.sequence <= hole.last for recorded in batch.events):
            raise SourceError(f"{named}: there is an event in that hole, in the same batch")
        passed = hole.last
