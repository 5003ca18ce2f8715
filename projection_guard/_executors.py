"""The executors that slices of a rebuild are spread over, and how a task in another process comes by its guard.

Nothing travels there but names and numbers: the task imports the guard's factory, calls it once in its process, and
keeps the guard. An engine, a URL or a password is in no task.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import inspect
import os
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, Final, Protocol, cast
from uuid import UUID

from ._core.asked import MOST_SLICES, Asked
from ._core.slicing import SliceDone, SliceOrder, failed
from ._io.protocol import IO
from ._model import Replay
from ._on_log import OnLog
from .errors import ConfigurationError, InvalidArgument

__all__ = ["AnyExecutor", "GuardFactory", "Spreading", "go_on", "processes", "rebuild", "slices_over", "work_on_slice"]

AnyExecutor = Executor | Callable[[], Executor]
GuardFactory = str | Callable[[], object]
_SLICES: Final = 8
"""For each worker: streams are not alike, and who has done his gets some of what others have."""

_lock: Final = threading.Lock()
_guards: Final[dict[tuple[int, str], _Guard]] = {}


class _Guard(Protocol):
    """Either guard."""

    def run_slice(self, order: SliceOrder) -> SliceDone | Awaitable[SliceDone]: ...


# -- where it is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Spreading:
    """Over what a rebuild is to be spread, as it was said; `here`: a task, done by the guard that was asked."""

    executor: AnyExecutor | None
    guard_factory: GuardFactory | None
    slices: int | None
    here: Callable[[SliceOrder], SliceDone]


async def rebuild(on_log: OnLog, io: IO, name: str, asked: Asked, spreading: Spreading) -> Replay:
    """Rebuild a projection, by tasks of an executor if there is one."""
    if spreading.executor is None:
        _check_needless(spreading)
        return await on_log.replay(name, asked)
    async with _place(io, spreading.executor, spreading) as place:
        slices = slices_over(place.workers or 1) if spreading.slices is None else spreading.slices
        return await on_log.replay(name, replace(asked, slices=slices), place)


async def go_on(on_log: OnLog, io: IO, replay_id: UUID | str, spreading: Spreading, *, actor: str) -> Replay:
    """Let a replay go on: by whichever worker, or by tasks of an executor, to its end."""
    if spreading.executor is None:
        _check_needless(spreading)
        return await on_log.steer(replay_id, "run", actor=actor)
    async with _place(io, spreading.executor, spreading) as place:
        return await on_log.go_on(replay_id, place, actor=actor)


@asynccontextmanager
async def processes(io: IO, number: int, path: str) -> AsyncGenerator[Place]:
    """Give a place of so many processes of this machine, while the block runs; a pool that breaks is replaced."""

    def made() -> Executor:
        return ProcessPoolExecutor(number, mp_context=get_context("spawn"))

    def here(order: SliceOrder) -> SliceDone:
        return work_on_slice(path, order)

    spreading = Spreading(executor=made, guard_factory=path, slices=number, here=here)
    async with _place(io, made, spreading) as place:
        yield place


def _check_needless(spreading: Spreading) -> None:
    if spreading.guard_factory is not None or spreading.slices is not None:
        raise InvalidArgument("guard_factory= and slices= go with executor=, over which a rebuild is spread")


@asynccontextmanager
async def _place(io: IO, executor: AnyExecutor, spreading: Spreading) -> AsyncGenerator[Place]:
    place = _place_of(io, executor, spreading)
    try:
        yield place
    finally:
        await io.shielded(place.close())


@dataclass(slots=True, kw_only=True)
class Place:
    """An executor, and the function that a task calls there. `made_by`: how to make another one, if that is known."""

    io: IO
    executor: Executor
    task: Callable[[SliceOrder], SliceDone]
    made_by: Callable[[], Executor] | None

    @property
    def workers(self) -> int | None:
        """How many tasks run there at the same time, where it tells."""
        return _workers_of(self.executor)

    async def submit(self, order: SliceOrder) -> Future[SliceDone]:
        """Let a task run."""
        submitted = await self.io.ask(lambda: self.executor.submit(self.task, order), is_async=False)
        return cast("Future[SliceDone]", submitted)

    async def renew(self) -> bool:
        """Replace the executor; False where it was given, and not how to make one."""
        if self.made_by is None:
            return False
        made_by, old = self.made_by, self.executor
        self.executor = cast("Executor", await self.io.ask(lambda: _replaced(old, made_by), is_async=False))
        return True

    async def close(self) -> None:
        """End an executor that was made here."""
        if self.made_by is not None:
            await self.io.ask(lambda: self.executor.shutdown(wait=False), is_async=False)


def _replaced(old: Executor, made_by: Callable[[], Executor]) -> Executor:
    old.shutdown(wait=False)
    return made_by()


def _place_of(io: IO, executor: AnyExecutor, spreading: Spreading) -> Place:
    """Say where tasks run: by the guard `here` in a pool of threads, elsewhere by that of a factory.

    Raises `InvalidArgument`.
    """
    made_by, guard_factory = None, spreading.guard_factory
    if not isinstance(executor, Executor):
        if not callable(executor):
            raise InvalidArgument(
                f"executor= takes a concurrent.futures.Executor, or a callable that makes one, not "
                f"{type(executor).__name__}"
            )
        made_by, executor = executor, executor()
    if guard_factory is not None:
        return Place(io=io, executor=executor, task=partial(work_on_slice, _path_of(guard_factory)), made_by=made_by)
    apart = getattr(concurrent.futures, "InterpreterPoolExecutor", ())  # from Python 3.14 on; it has threads, too
    if not isinstance(executor, ThreadPoolExecutor) or isinstance(executor, apart):
        raise InvalidArgument(
            f"executor= is a {type(executor).__name__}, whose tasks may run in other processes: say how they come by "
            "their guard, with guard_factory='module:attribute'"
        )
    return Place(io=io, executor=executor, task=spreading.here, made_by=made_by)


def slices_over(workers: int) -> int:
    """Return into how many slices to divide, for so many workers."""
    return min(workers * _SLICES, MOST_SLICES)


def _workers_of(executor: Executor) -> int | None:
    workers: object = getattr(executor, "_max_workers", None)
    return workers if isinstance(workers, int) and workers > 0 else None


def _path_of(factory: GuardFactory) -> str:
    """Return by which name a factory is imported elsewhere. Raises `InvalidArgument`."""
    if isinstance(factory, str):
        module, colon, attribute = factory.partition(":")
        if not (module and colon and attribute):
            raise InvalidArgument(f"guard_factory= takes module:attribute, such as shop.guards:make, not {factory!r}")
        return factory
    its_module: object = getattr(factory, "__module__", None)
    name: object = getattr(factory, "__qualname__", None)
    if not isinstance(its_module, str) or not isinstance(name, str) or _found(its_module, name) is not factory:
        raise InvalidArgument(
            "guard_factory= takes a function that can be imported by its name in another process, at the top of its "
            "module: no lambda, no partial, no method of an object"
        )
    return f"{its_module}:{name}"


def _found(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


# -- in a process of the executor


def work_on_slice(path: str, order: SliceOrder) -> SliceDone:
    """Replay slices with the guard that a factory makes here; what goes wrong comes back in words."""
    try:
        done = _guard_of(path).run_slice(order)
        return _loop.result_of(done) if inspect.isawaitable(done) else done
    except Exception as error:
        return failed(error)


def _guard_of(path: str) -> _Guard:
    """Return the guard of a factory, made once in each process."""
    key = (os.getpid(), path)
    with _lock:
        if key not in _guards:
            _guards[key] = _made(path)
        return _guards[key]


def _made(path: str) -> _Guard:
    module, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
        if not hasattr(found, "run_slice"):
            found = found()
            if inspect.isawaitable(found):
                found = _loop.result_of(found)
            if hasattr(found, "run_slice"):
                found._worker_choice = "external"  # a process of an executor works on slices, and is no worker
    except Exception as error:
        missing = f" ({error})" if isinstance(error, (ModuleNotFoundError, AttributeError)) else ""
        raise ConfigurationError(
            f"guard_factory={path!r} gave no guard in a process of the executor: {type(error).__name__}{missing}; the "
            "module has to be importable there, and what it needs to reach the database has to be set there"
        ) from error
    if not hasattr(found, "run_slice"):
        raise ConfigurationError(
            f"guard_factory={path!r} gave a {type(found).__name__}, not a ProjectionGuard or AsyncProjectionGuard"
        )
    return cast("_Guard", found)


class _Loop:
    """A loop of this process, on which its async guard lives from one task to the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}

    def result_of(self, work: Awaitable[Any]) -> Any:
        """Await something there, and return what it came to."""

        async def awaited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._running()).result()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            loop = self._loops.get(os.getpid())
            if loop is None:
                loop = self._loops[os.getpid()] = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="projection_guard-slices", daemon=True).start()
            return loop


_loop: Final = _Loop()
