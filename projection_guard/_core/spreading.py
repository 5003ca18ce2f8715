"""Whoever runs a rebuild that is spread over an executor: hands out its slices, looks how far they are, goes on.

All that must not be lost is in the slices' rows: a task that is lost with its process, a broken pool, or the end of
this process itself leave the slices where they are, to be taken up again once their leases have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from time import monotonic
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy import Connection

from .._model import Replay
from .._store import replays, slices
from .._store.partitions import PartitionRow
from ..errors import ExecutorLost
from .context import Context, new_token, transact
from .projection import Projection
from .slicing import SliceDone, SliceOrder, raised_by

__all__ = ["Spread", "Workplace", "check", "dealt", "task_seconds"]

_NOBODYS: Final = ""
"""In place of a token, where nothing is to be taken in hand."""

_SHORTEST_TASK_SECONDS: Final = 0.25
_LONGEST_TASK_SECONDS: Final = 5.0
_PART_OF_ALL: Final = 8
_ROUND_SECONDS: Final = 0.5
_LONGEST_POLL_SECONDS: Final = 0.02
_LEAVE_SECONDS: Final = 10.0
_MOST_LOSSES: Final = 8


class Workplace(Protocol):
    """Where tasks run."""

    @property
    def workers(self) -> int | None:
        """How many run there at the same time; None where that is not known."""
        ...

    async def submit(self, order: SliceOrder) -> Future[SliceDone]:
        """Let a task run. Raises what the executor raises."""
        ...

    async def renew(self) -> bool:
        """Replace an executor that runs nothing any more; False where that cannot be done."""
        ...


async def check(context: Context, projection: Projection, workplace: Workplace) -> None:
    """Let a task look whether it comes by its guard there, before anything is cleared. Raises what it came to."""
    order = SliceOrder(
        projection=projection.name,
        job=UUID(int=0),
        token=_NOBODYS,
        numbers=(),
        of=1,
        until=0,
        seconds=0.0,
        attempt=new_token(),
    )
    try:
        future = await workplace.submit(order)
        while not future.done():
            await context.io.sleep(_LONGEST_POLL_SECONDS)
        raised = raised_by(future.result(), projection.name)
    except (BrokenExecutor, RuntimeError) as error:
        raise ExecutorLost(
            f"{projection.name}: the executor runs nothing ({type(error).__name__}); nothing was begun"
        ) from error
    if raised is not None:
        raise raised


def dealt(slices: Sequence[int], hands: int) -> list[tuple[int, ...]]:
    """Deal slices out in turn, to so many hands at most: of those that are furthest behind each gets some."""
    return [tuple(slices[hand::hands]) for hand in range(min(hands, len(slices)))]


def task_seconds(gone_on: float) -> float:
    """Return how long a task goes on after so many seconds: its slices are then dealt out anew, and an orphan ends.

    Who is done with his slices waits for those of the others so long at most: that is a part of what it took so far.
    """
    return min(max(gone_on / _PART_OF_ALL, _SHORTEST_TASK_SECONDS), _LONGEST_TASK_SECONDS)


class Spread:
    """One who hands out the slices of a job."""

    def __init__(
        self, context: Context, projection: Projection, job: Replay, workplace: Workplace, *, token: str, of: int
    ) -> None:
        self._context = context
        self._projection = projection
        self._job = job
        self._workplace = workplace
        self._token = token
        self._of = of
        self._running: dict[tuple[int, ...], Future[SliceDone]] = {}
        self._began = monotonic()
        self._losses = 0
        self._sum = -1
        self._levelled_at = 0.0

    async def round(self, until: int) -> bool:
        """Hand out what is free, and wait a little; True where all slices have come to their end.

        Raises what a task raised, and `ExecutorLost` where the executor runs nothing any more.
        """
        rows = await transact(self._context, self._look, what=self._what)
        self._note_progress(rows)
        if all(row.cursor >= until for row in rows) and not self._running:
            return True
        await self._hand_out(rows, until)
        await self._wait(_ROUND_SECONDS)
        await self._collect()
        return False

    @property
    def _what(self) -> str:
        return f"{self._projection.name}: replay {self._job.id}"

    def _look(self, connection: Connection) -> list[PartitionRow]:
        if monotonic() - self._levelled_at > 1.0:
            slices.level(connection, self._projection.name, beside=self._job.built_into is not None)
            self._levelled_at = monotonic()
        return slices.rows(connection, self._projection.name)

    def _note_progress(self, rows: Sequence[PartitionRow]) -> None:
        total = sum(row.cursor for row in rows)
        if total > self._sum:
            self._losses, self._sum = 0, total

    async def _hand_out(self, rows: Sequence[PartitionRow], until: int) -> None:
        """Let tasks run for the slices that nobody has, as many as there are workers without one."""
        rate = self._job.events_per_second
        taken = {number for numbers in self._running for number in numbers}
        free = [
            number
            for row in sorted(rows, key=lambda row: row.cursor)
            if (number := slices.slice_of(row.partition)) not in taken and row.owner is None and row.cursor < until
        ]
        for numbers in dealt(free, (self._workplace.workers or self._of) - len(self._running)):
            order = SliceOrder(
                projection=self._projection.name,
                job=self._job.id,
                token=self._token,
                numbers=numbers,
                of=self._of,
                until=until,
                seconds=task_seconds(monotonic() - self._began),
                events_per_second=None if rate is None else rate * len(numbers) / self._of,
                attempt=new_token(),
            )
            try:
                self._running[numbers] = await self._workplace.submit(order)
            except (BrokenExecutor, RuntimeError) as error:  # it is broken, or was shut down
                await self._lost(error)
                return

    async def _wait(self, seconds: float) -> None:
        """Wait until a task has ended, in a way that holds up no event loop."""
        end, pause = monotonic() + seconds, 0.001
        while monotonic() < end and not (self._running and any(each.done() for each in self._running.values())):
            await self._context.io.sleep(pause)
            pause = min(pause * 2, _LONGEST_POLL_SECONDS)

    async def _collect(self) -> None:
        """Take what has ended. A task that is lost is sent again once its slice is free."""
        lost: BaseException | None = None
        waits = False
        for numbers in [numbers for numbers, each in self._running.items() if each.done()]:
            future = self._running.pop(numbers)
            error = None if future.cancelled() else future.exception()
            if future.cancelled() or error is not None:
                lost = error or CancelledError()
                continue
            done = future.result()
            raised = raised_by(done, self._projection.name)
            if raised is not None:
                raise raised
            waits = waits or done.waits is not None
        if lost is not None:
            await self._lost(lost)
        elif waits:
            await self._context.io.sleep(0.05)

    async def _lost(self, error: BaseException) -> None:
        """Go on after a loss, with a new executor where it is of no use any more. Raises `ExecutorLost`."""
        self._losses += 1
        is_over = isinstance(error, (BrokenExecutor, RuntimeError)) and not await self._workplace.renew()
        if is_over or self._losses > _MOST_LOSSES:
            raise ExecutorLost(
                f"{self._projection.name}: the executor has lost what it was given ({type(error).__name__}), "
                f"{'and runs nothing any more' if is_over else 'again and again'}; replay {self._job.id} stays on "
                "record where it is: go on with guard.resume_replay(id, executor=..., actor=...), or let a worker do so"
            ) from error
        await self._context.io.sleep(0.05)

    async def leave(self) -> None:
        """Let the tasks that are under way come to an end, for at most 10 s."""
        if not self._running:
            return
        for each in self._running.values():
            each.cancel()
        token, job = self._token, self._job.id
        await transact(
            self._context, lambda connection: replays.let_go(connection, job, token=token), what=self._what, seconds=5.0
        )
        end = monotonic() + _LEAVE_SECONDS
        while monotonic() < end and not all(each.done() for each in self._running.values()):
            await self._context.io.sleep(_LONGEST_POLL_SECONDS)
        self._running.clear()

    async def come_to_rest(self) -> None:
        """Wait until tasks have seen that the job is not to go on."""
        end = monotonic() + _LEAVE_SECONDS
        while self._running and monotonic() < end:
            for numbers in [numbers for numbers, each in self._running.items() if each.done()]:
                del self._running[numbers]
            await self._context.io.sleep(_LONGEST_POLL_SECONDS)
