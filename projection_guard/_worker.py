"""The worker in the process: a `Shift`, worked in threads or tasks, begun and ended by the program that has it."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Final, Self

from ._core.rounds import Round
from ._io.protocol import drive
from ._lanes import Tasks, Threads, is_at_work_for
from ._records import WorkerKind
from ._service import Service
from ._shift import Pulse, Shift
from .errors import ConfigurationError

__all__ = ["AsyncWorker", "Worker"]

_SETTLING_SECONDS: Final = 1.0
"""What a cancelled task has to write down what it has in hand."""


def _check(kind: WorkerKind, poll_seconds: float, batch: int) -> None:
    if kind not in ("service", "embedded"):
        raise ConfigurationError(f"worker(kind=...) takes 'service' or 'embedded', not {kind!r}")
    if not 0 < poll_seconds <= 3600:
        raise ConfigurationError(
            f"worker(poll_seconds=...) takes seconds above 0, at most an hour, not {poll_seconds!r}"
        )
    if not 1 <= batch <= 10_000:
        raise ConfigurationError(f"worker(batch=...) takes a number from 1 to 10000, not {batch!r}")


class Worker:
    """Makes the retries, drains what is parked, keeps the counters; in threads of this process.

    `with guard.worker():` runs it beside your program, `guard.worker().run()` in this thread until `stop()`,
    `guard.worker().run_once()` does one round. Any number of workers on any number of machines share the work.
    """

    def __init__(
        self, service: Service, *, kind: WorkerKind = "embedded", poll_seconds: float = 0.5, batch: int = 100
    ) -> None:
        _check(kind, poll_seconds, batch)
        self._service = service
        self._poll_seconds = poll_seconds
        self._batch = batch
        self._kind: WorkerKind = kind
        self.pulse = Pulse()
        self._hands = Threads()
        self._thread: threading.Thread | None = None

    def run_once(self) -> Round:
        """Do what is due now, up to `batch` retries and drains a projection, and return what was done."""
        return drive(self._service.run_once(batch=self._batch))

    def run(self) -> None:
        """Work until `stop()` is called from another thread or a signal handler.

        Interrupted (Ctrl-C), it settles the events in hand first; interrupted again, it leaves them to the next worker.
        """
        self._kind = "service"
        thread = self.start()._thread
        assert thread is not None
        try:
            thread.join()
        finally:
            self.stop()

    def start(self) -> Self:
        """Work in a background thread, which ends with the program. One that was told to stop ends beside it."""
        if not self.is_running or self._hands.is_stopping:
            hands = self._hands = Threads()
            self._thread = threading.Thread(
                target=self._work, args=(hands,), name="projection_guard-worker", daemon=True
            )
            self._thread.start()
        return self

    def _work(self, hands: Threads) -> None:
        shift = Shift(
            self._service, hands, self.pulse, kind=self._kind, poll_seconds=self._poll_seconds, batch=self._batch
        )
        try:
            drive(shift.run())
        finally:
            hands.join(None)
            drive(shift.leave())

    def stop(self, timeout_seconds: float | None = None) -> bool:
        """Ask it to stop and wait until the event in hand is settled; False where that took longer than the timeout.

        Nothing is lost either way: what was not settled is taken over by another worker when its lease ends. Asked by a
        handler or observer that is itself at work for this worker, it does not wait: it stops once that is done.
        """
        thread, hands = self._thread, self._hands
        hands.stop()
        if thread is None:
            return True
        if thread is threading.current_thread() or is_at_work_for(hands):
            return False
        thread.join(timeout_seconds)
        return not thread.is_alive()

    @property
    def is_running(self) -> bool:
        """True while it works."""
        return self._thread is not None and self._thread.is_alive()

    def ring_in(self, seconds: float) -> None:
        """Say that something becomes due."""
        self._hands.ring_in(seconds)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class AsyncWorker:
    """Makes the retries, drains what is parked, keeps the counters; in tasks of the running loop.

    `async with guard.worker():` runs it beside your program, `await guard.worker().run()` until `stop()` or cancelled,
    `await guard.worker().run_once()` does one round. Cancelled, it leaves what is in hand to the next worker.
    """

    def __init__(
        self, service: Service, *, kind: WorkerKind = "embedded", poll_seconds: float = 0.5, batch: int = 100
    ) -> None:
        _check(kind, poll_seconds, batch)
        self._service = service
        self._poll_seconds = poll_seconds
        self._batch = batch
        self._kind: WorkerKind = kind
        self.pulse = Pulse()
        self._hands: Tasks | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run_once(self) -> Round:
        """Do what is due now, up to `batch` retries and drains a projection, and return what was done."""
        return await self._service.run_once(batch=self._batch)

    async def run(self) -> None:
        """Work until `stop()` is called or this is cancelled."""
        self._kind = "service"
        task = self.start()._task
        assert task is not None
        await task

    async def _work(self, hands: Tasks) -> None:
        shift = Shift(
            self._service, hands, self.pulse, kind=self._kind, poll_seconds=self._poll_seconds, batch=self._batch
        )
        try:
            await shift.run()
            await asyncio.gather(*hands.lanes)
        finally:
            for lane in list(hands.lanes):
                lane.cancel()
            await asyncio.gather(*hands.lanes, return_exceptions=True)
            await self._service.context.io.shielded(shift.leave())

    def start(self) -> Self:
        """Work in a task of the running loop. One that was told to stop ends beside it."""
        if not self.is_running or (self._hands is not None and self._hands.is_stopping):
            hands = self._hands = Tasks()
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._work(hands), name="projection_guard-worker")
        return self

    async def stop(self, timeout_seconds: float | None = None) -> bool:
        """Ask it to stop and wait until the events in hand are settled; False where it had to be cancelled.

        A blocking handler cannot be: after another second it is left to itself, and recorded when it ends. Asked by a
        handler or observer that is itself at work for this worker, it does not wait: it stops once that is done.
        """
        task, hands = self._task, self._hands
        if task is None or task.done():
            return True
        if hands is not None:
            hands.stop()
        if task is asyncio.current_task() or is_at_work_for(hands):
            return False
        done, _ = await asyncio.wait([task], timeout=timeout_seconds)
        if done:
            return True
        task.cancel()
        ended, _ = await asyncio.wait([task], timeout=_SETTLING_SECONDS)
        if not ended:
            task.cancel()
            await asyncio.wait([task])
        return False

    @property
    def is_running(self) -> bool:
        """True while it works on the loop that is running now."""
        if self._task is None or self._task.done():
            return False
        return self._loop is asyncio.get_running_loop()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop on which it works, seen from any thread; None while it does not."""
        return None if self._task is None or self._task.done() else self._loop

    def ring_in(self, seconds: float) -> None:
        """Say that something becomes due."""
        if self._hands is not None:
            self._hands.ring_in(seconds)

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
