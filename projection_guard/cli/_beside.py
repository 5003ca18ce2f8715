"""Work that goes on beside the command which watches it: in a thread of a blocking guard, as a task of an async one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Generic, Protocol, TypeVar

from .._io.protocol import drive

__all__ = ["Beside", "UnderWay", "as_task", "in_thread"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class UnderWay(Protocol[T_co]):
    """Work that was begun."""

    @property
    def is_done(self) -> bool:
        """True once it has ended, well or not."""
        ...

    @property
    def result(self) -> T_co:
        """What it returned; raises what it raised. Only once it is done."""
        ...

    async def ended(self) -> None:
        """Wait until it has ended; raises nothing of what it raised."""
        ...


class Beside(Protocol):
    """Begins work."""

    def __call__(self, work: Coroutine[object, None, T]) -> UnderWay[T]: ...


class _Thread(Generic[T]):
    def __init__(self, work: Coroutine[object, None, T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="projection_guard-cli", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(drive(self._work))
        except Exception as error:
            self._error = error

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    @property
    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]

    async def ended(self) -> None:
        self._thread.join()


class _Task(Generic[T]):
    def __init__(self, work: Coroutine[object, None, T]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    @property
    def is_done(self) -> bool:
        return self._task.done()

    @property
    def result(self) -> T:
        return self._task.result()

    async def ended(self) -> None:
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # looked at: asyncio need not complain that nobody did


def in_thread(work: Coroutine[object, None, T]) -> UnderWay[T]:
    """Run work whose I/O is blocking in a thread, which ends with the program."""
    return _Thread(work)


def as_task(work: Coroutine[object, None, T]) -> UnderWay[T]:
    """Run work as a task of the running loop."""
    return _Task(work)
