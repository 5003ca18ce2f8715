"""A worker as a process of its own: signals, a grace period, probes for whoever watches over it.

`projection-guard worker app:guard` runs this; a program of your own may call `run_worker_service` as well. Any number
of such processes share the work.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from sqlalchemy.ext.asyncio import AsyncEngine

from ._async_guard import AsyncProjectionGuard
from ._desk import engine_of, service_of
from ._guard import ProjectionGuard
from ._io.protocol import drive
from ._probes import Condition, HealthFile, HealthPort, Page, condition, notify_systemd
from ._service import Service
from ._shift import Pulse
from .errors import ConfigurationError, StoreUnavailable

__all__ = ["Page", "WorkerServiceSettings", "run_worker_service"]

log = logging.getLogger("projection_guard")
_TICK_SECONDS: Final = 0.5
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_START_GOES_ON_SECONDS: Final = 30
_AFTER_GRACE_SECONDS: Final = 5.0
"""What cancelled tasks, and a pool that is closed, may take beyond the grace period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerServiceSettings:
    """How a worker service runs. Raises `ConfigurationError`.

    `grace_seconds`: how long what is in hand may take to end after SIGTERM or SIGINT; give the orchestrator some
    seconds more. `health_file` is written every 5 s while the worker is alive, and removed when it stops.
    `health_port` (0 for any that is free) answers `/livez`, `/readyz` and the `pages` at `health_host`.
    """

    poll_seconds: float = 0.5
    batch: int = 100
    grace_seconds: float = 25.0
    health_file: Path | None = None
    health_host: str = "127.0.0.1"
    health_port: int | None = None
    pages: tuple[Page, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.grace_seconds <= 24 * 3600:
            raise ConfigurationError(f"grace_seconds= takes seconds from 0, at most a day, not {self.grace_seconds!r}")
        if self.health_port is not None and not 0 <= self.health_port <= 65535:
            raise ConfigurationError(f"health_port= takes a number from 0 to 65535, not {self.health_port!r}")
        if self.health_file is not None and not self.health_file.parent.is_dir():
            raise ConfigurationError(f"There is no folder {self.health_file.parent} for the health file")


def run_worker_service(
    guard: ProjectionGuard | AsyncProjectionGuard, settings: WorkerServiceSettings | None = None
) -> int:
    """Work until SIGTERM or SIGINT, then end what is in hand, close guard, source and engine; return the exit code.

    0: everything in hand was settled. 128 and the signal's number: the grace period was over, or a second signal came,
    at which the process ends at once; what was in hand is taken over by others when its lease ends, as after a kill.
    1: the worker ended by itself, and the log says why. It waits for a database that is away. Call it on the main
    thread. Raises `SchemaError` where the tables are not those of this version, `ConfigurationError`.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "run_worker_service takes the signals of the process: call it on the main thread, or use guard.worker()"
        )
    chosen = settings or WorkerServiceSettings()
    if isinstance(guard, AsyncProjectionGuard):
        return asyncio.run(_run_async(guard, chosen))
    return _run_blocking(guard, chosen)


class _Signals:
    """The first SIGTERM or SIGINT is noted; a second one, or the end of the grace period, ends the process at once.

    The interpreter writes the number of each signal into a pipe, on whatever thread that comes, and a thread reads it:
    neither a loop that is blocked nor a log that is being written holds it up.
    """

    def __init__(self, grace_seconds: float, stack: ExitStack) -> None:
        self._grace_seconds = grace_seconds
        self.received: signal.Signals | None = None
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._thread = threading.Thread(
            target=self._listen, args=(reader,), name="projection_guard-signals", daemon=True
        )
        self._thread.start()
        stack.callback(os.close, reader)
        stack.callback(self._thread.join)
        stack.callback(os.close, writer)  # once nothing writes there any more: callbacks are called in reverse
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        for number in _ENDING:
            stack.callback(signal.signal, number, signal.signal(number, _heard))

    def _listen(self, reader: int) -> None:
        came = _next_signal(reader, None)
        if came is None:
            return
        log.info(
            "worker service: %s: it ends what is in hand, for %.0f s at most; a second signal stops it at once",
            came.name,
            self._grace_seconds,
        )
        self.received = came
        try:
            again = _next_signal(reader, self._grace_seconds + _AFTER_GRACE_SECONDS)
        except TimeoutError:
            log.warning("worker service: the grace period is over: it stops at once; others take over what was in hand")
            self.exit_at_once()
        if again is not None:
            log.warning("worker service: a second signal: it stops at once; others take over what was in hand")
            self.exit_at_once()

    def exit_at_once(self) -> NoReturn:
        """End the process without waiting for threads, as a kill would: nothing that is committed is lost."""
        os._exit(128 + (self.received or signal.SIGTERM))


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the pipe has it."""


def _next_signal(reader: int, within_seconds: float | None) -> signal.Signals | None:
    """Wait for a signal that ends the process; None once the pipe is closed. Raises `TimeoutError`."""
    end = None if within_seconds is None else time.monotonic() + within_seconds
    while True:
        left = None if end is None else max(end - time.monotonic(), 0.0)
        if not select.select([reader], [], [], left)[0]:
            raise TimeoutError
        number = os.read(reader, 1)
        if not number:
            return None
        if number[0] in _ENDING:
            return signal.Signals(number[0])


class _Watched:
    """A worker service as others see it."""

    def __init__(self, pulse: Pulse, signals: _Signals, settings: WorkerServiceSettings, stack: ExitStack) -> None:
        self._pulse = pulse
        self._signals = signals
        self._began = time.monotonic()
        self._file = None if settings.health_file is None else HealthFile(settings.health_file)
        self._is_ready = False
        if self._file is not None:
            stack.callback(self._file.remove)
        if settings.health_port is not None:
            port = HealthPort(settings.health_host, settings.health_port, self.condition, settings.pages)
            port.start()
            stack.callback(port.close)
            log.info("worker service: probes are answered on %s:%d", settings.health_host, port.port)

    def condition(self) -> Condition:
        """Judge it now."""
        return condition(
            self._pulse,
            is_stopping=self._signals.received is not None,
            now=time.monotonic(),
            began=self._began,
        )

    def tick(self) -> None:
        """Tell those who watch."""
        found = self.condition()
        if self._file is not None:
            self._file.show(found)
        if found.is_alive:
            notify_systemd("WATCHDOG=1")
            if not self._is_ready:  # it may wait for the database longer than systemd lets a start last
                notify_systemd(f"EXTEND_TIMEOUT_USEC={_START_GOES_ON_SECONDS * 1_000_000}")
        if found.is_ready and not self._is_ready:
            self._is_ready = True
            notify_systemd("READY=1\nSTATUS=it is well")
            log.info("worker service: it is at work, process %d", os.getpid())

    def stopping(self) -> None:
        """Tell them that it ends."""
        notify_systemd("STOPPING=1")
        self.tick()


def _run_blocking(guard: ProjectionGuard, settings: WorkerServiceSettings) -> int:
    worker = guard.worker(kind="service", poll_seconds=settings.poll_seconds, batch=settings.batch)
    with ExitStack() as stack:
        signals = _Signals(settings.grace_seconds, stack)
        watched = _Watched(worker.pulse, signals, settings, stack)
        checked = _in_thread(partial(_check_schema, service_of(guard)))
        while signals.received is None and not wait([checked], _TICK_SECONDS).done:
            watched.tick()
        if checked.done():
            checked.result()
            worker.start()
        while signals.received is None and worker.is_running:
            watched.tick()
            time.sleep(_TICK_SECONDS)
        watched.stopping()
        is_settled = worker.stop(settings.grace_seconds)
        if is_settled and checked.done():  # else nothing was begun, and the database does not answer
            guard.close(0.0)
            drive(_close_source(service_of(guard)))
            engine_of(guard).dispose()
        return _exit_code(signals, is_settled=is_settled)


def _in_thread(work: Callable[[], Coroutine[object, None, None]]) -> Future[None]:
    """Do what may wait long for the database where signals and probes need not wait for it."""
    done = Future[None]()

    def run() -> None:
        try:
            drive(work())
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="projection_guard-check", daemon=True).start()
    return done


async def _run_async(guard: AsyncProjectionGuard, settings: WorkerServiceSettings) -> int:
    worker = guard.worker(kind="service", poll_seconds=settings.poll_seconds, batch=settings.batch)
    with ExitStack() as stack:
        signals = _Signals(settings.grace_seconds, stack)
        watched = _Watched(worker.pulse, signals, settings, stack)
        checked = asyncio.create_task(_check_schema(service_of(guard)))
        while signals.received is None and not (await asyncio.wait([checked], timeout=_TICK_SECONDS))[0]:
            watched.tick()
        if checked.done():
            checked.result()
            worker.start()
        while signals.received is None and worker.is_running:
            watched.tick()
            await asyncio.sleep(_TICK_SECONDS)
        watched.stopping()
        is_settled = await worker.stop(settings.grace_seconds)
        if is_settled and checked.done():  # else nothing was begun, and the database does not answer
            await guard.close(0.0)
            await _close_source(service_of(guard))
            await AsyncEngine(engine_of(guard)).dispose()
        return _exit_code(signals, is_settled=is_settled)


async def _check_schema(service: Service) -> None:
    try:
        await service.check_schema()
    except StoreUnavailable as error:
        log.warning("worker service: %s; it waits for that", error)


async def _close_source(service: Service) -> None:
    if service.on_log.is_there:
        await service.on_log.log.close()


def _exit_code(signals: _Signals, *, is_settled: bool) -> int:
    if signals.received is None:
        log.error("worker service: the worker has ended by itself")
        return 1
    if not is_settled:
        log.warning("worker service: the grace period is over; others take over what was in hand")
        signals.exit_at_once()  # threads that are left behind must not hold it up
    log.info("worker service: it has stopped, and everything it had in hand is settled")
    return 0
