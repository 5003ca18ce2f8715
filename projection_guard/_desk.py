"""What both guards are built of: options, registration, the service, the worker of this process, life after fork."""

from __future__ import annotations

import asyncio
import inspect
import os
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Generic, Literal, Protocol, TypeVar
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.pool import Pool

from ._alerts import AlertPolicy
from ._codec import JsonCodec
from ._core.context import Context
from ._core.log import EventLog, is_async_source
from ._encryption import EncryptedCodec, EventCodec
from ._health import HealthPolicy
from ._instruments import Instrument
from ._io.protocol import IO
from ._mapping import EventMapping
from ._notices import Observer, log_notice, tell
from ._policy import RetryPolicy
from ._receivers import receivers_of
from ._registration import EventType, Registration, make_projection, order_of
from ._service import Service
from ._store.attempts import PROCESS
from ._store.claims import HotStatements
from ._store.steps import FollowStatements
from ._worker import AsyncWorker, Worker
from .errors import ConfigurationError, RegistrationError

__all__ = [
    "Desk",
    "Ringing",
    "WorkerChoice",
    "begin_own_worker",
    "engine_of",
    "hold_own_worker",
    "loop_of",
    "service_of",
]

WorkerChoice = Literal["auto", "external"]
W = TypeVar("W", Worker, AsyncWorker)
_LONGEST_STOP_SECONDS: Final = 10.0


class Ringing(Protocol):
    """A worker that can be told that something becomes due."""

    def ring_in(self, seconds: float) -> None:
        """Say that something becomes due."""
        ...


class Desk(Generic[W]):
    """What both guards are built of: options, registration, the service, and the process's own worker."""

    _is_async: bool

    def __init__(
        self,
        io: IO,
        bare_io: IO,
        engine: Engine,
        *,
        source: object | None,
        retry: RetryPolicy,
        health: HealthPolicy,
        order: str,
        mapping: EventMapping | None,
        codec: EventCodec | EncryptedCodec | None,
        observers: Sequence[Observer],
        instruments: Sequence[Instrument],
        schema: str | None,
        worker: WorkerChoice,
        dedupe_window: timedelta,
        lease: timedelta,
        alerts: AlertPolicy | None,
    ) -> None:
        if worker not in ("auto", "external"):
            raise ConfigurationError(f"worker= takes 'auto' or 'external', not {worker!r}")
        if lease < timedelta(seconds=1) or dedupe_window < timedelta(0):
            raise ConfigurationError("lease= takes a second or more, dedupe_window= nothing negative")
        self._retry = retry
        self._order = order_of(order)
        self._worker_choice = worker
        self._own_worker: Ringing | None = None
        self._workers: weakref.WeakSet[W] = weakref.WeakSet()
        self._told = (log_notice, *observers, *(each.noticed for each in instruments))
        self.codec: EventCodec | EncryptedCodec = JsonCodec() if codec is None else codec
        self._sync_engine = engine
        self._kept_from_fork: list[Pool] = []
        events = mapping or EventMapping()
        self._is_following = source is not None
        self._events_are = _events_of(source)
        log = None if source is None else self._log_of(source, io, events)
        context = Context(
            io=io,
            hot=HotStatements(engine.dialect, schema),
            follow=FollowStatements(engine.dialect, schema),
            log=log,
            codec=self.codec,
            health=health,
            tell=lambda notices: tell(self._told, notices),
            wake=self._wake,
            works_here=self._works_here,
            schema=schema,
            lease_seconds=lease.total_seconds(),
            dedupe_seconds=dedupe_window.total_seconds(),
            process=PROCESS + uuid4().hex,
            instruments=tuple(instruments),
        )
        self._service = Service(
            context,
            events,
            log=log,
            bare_io=bare_io,
            started=self._started,
            alerts=alerts,
            receivers=receivers_of(() if alerts is None else alerts.to, guard_is_async=self._is_async),
        )
        if hasattr(os, "register_at_fork"):
            reference: weakref.ref[Desk[W]] = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _after_fork(reference))

    def _log_of(self, source: object, io: IO, mapping: EventMapping) -> EventLog:
        if is_async_source(source) and not self._is_async:
            raise ConfigurationError(
                f"{type(source).__name__} is an async source, which a blocking guard cannot await; "
                "use AsyncProjectionGuard, or a blocking source"
            )
        return EventLog(source, io, mapping)

    # -- registering

    def _register(
        self,
        name: str,
        handler: Callable[..., object],
        *,
        handles: Sequence[EventType] | None,
        can_handle: Callable[[object], bool] | None,
        retry: RetryPolicy | None,
        order: str | None,
        timeout: float,
        on_reset: Callable[..., object] | None,
        on_reset_stream: Callable[..., object] | None,
        partitions: int,
        batch: int | None,
        tables: Sequence[str],
        applies_again: bool = True,
    ) -> None:
        projection = make_projection(
            Registration(
                name=name,
                handler=handler,
                handles=handles,
                can_handle=can_handle,
                retry=retry or self._retry,
                order=self._order if order is None else order_of(order),
                timeout_seconds=timeout,
                on_reset=on_reset,
                on_reset_stream=on_reset_stream,
                is_followed=self._is_following,
                events_are=self._events_are,
                partitions=partitions,
                batch=batch,
                tables=tables,
                applies_again=applies_again,
            ),
            guard_is_async=self._is_async,
        )
        if name not in self._service.projections:
            self._learn(name, [entry for entry in handles or () if isinstance(entry, type)])
        self._service.add(projection)

    def _learn(self, name: str, classes: list[type]) -> None:
        """Make sure that there is a way back to every class of event a projection names."""
        register = getattr(self.codec, "register", None)
        if register is not None:
            try:
                register(*classes)
            except ValueError as error:
                if self._is_following:  # there is another way back: the log
                    return
                raise RegistrationError(f"Projection {name!r}: {error}") from error
        knows = getattr(self.codec, "knows", None)
        for kind in classes:
            if knows is not None and not self._is_following and not knows(kind) and not _is_only_a_base(kind):
                raise RegistrationError(
                    f"Projection {name!r} handles {kind.__qualname__}, and there is no way back to one from "
                    "the database; make it a dataclass, a Pydantic or attrs model, or use guard.codec.register(...)"
                )

    # -- the worker of this process

    def _works_here(self) -> bool:
        return self._worker_choice == "auto" or any(worker.is_running for worker in self._workers)

    def _started(self, *, has_work: bool) -> None:
        if self._worker_choice == "auto":
            self._wake(0.0 if has_work else 1.0)

    def _wake(self, seconds: float) -> None:
        running = [worker for worker in self._workers if worker.is_running]
        for worker in running:
            worker.ring_in(seconds)
        if not running and self._worker_choice == "auto":
            self._start_own_worker().ring_in(seconds)

    def _start_own_worker(self) -> Ringing:
        raise NotImplementedError

    def _renew_after_fork(self) -> None:
        """In a child of fork: none of the parent's connections, threads and leases are ours.

        The parent's pool is kept, unused: closing its connections here would disturb the parent.
        """
        self._kept_from_fork.append(self._sync_engine.pool)
        self._sync_engine.dispose(close=False)
        self._own_worker = None
        self._workers = weakref.WeakSet()
        self._service.context.process = PROCESS + uuid4().hex
        self._service.context.io.forget_threads()
        self._service.on_alerts.forget_threads()


def _events_of(source: object) -> type | None:
    """Return of which class a source makes every event, where it says so."""
    told: object = getattr(source, "events_are", None)
    return told if isinstance(told, type) else None


def service_of(guard: object) -> Service:
    """Return what a guard does, as coroutines: for adapters, which serve both kinds. Raises `ConfigurationError`."""
    if not isinstance(guard, Desk):
        raise ConfigurationError(f"This takes a ProjectionGuard or an AsyncProjectionGuard, not {type(guard).__name__}")
    return guard._service  # pyright: ignore[reportPrivateUsage]


def engine_of(guard: Desk[Any]) -> Engine:
    """Return a guard's engine; an async one's in SQLAlchemy's blocking guise, for looking at its URL."""
    return guard._sync_engine  # pyright: ignore[reportPrivateUsage]


def begin_own_worker(guard: object) -> None:
    """Let a guard's own worker begin, where it is to have one: for adapters that wait for events from elsewhere.

    What failed before heals then, though no event may come. An async guard's begins on the loop that runs.
    """
    service_of(guard).context.wake(0.0)


def hold_own_worker(guard: Desk[Any]) -> None:
    """Let a guard have no worker in this process, whatever it was told: `worker="external"` from now on.

    One that a blocking guard has already is stopped; an async one's would be a task of a loop that is over.
    """
    guard._worker_choice = "external"  # pyright: ignore[reportPrivateUsage]
    workers: list[object] = list(guard._workers)  # pyright: ignore[reportPrivateUsage]
    for worker in workers:
        if isinstance(worker, Worker) and worker.is_running:
            worker.stop(_LONGEST_STOP_SECONDS)


def loop_of(guard: Desk[Any]) -> asyncio.AbstractEventLoop | None:
    """Return the loop on which a worker of an async guard is at work in this process, None where none is."""
    workers: list[object] = list(guard._workers)  # pyright: ignore[reportPrivateUsage]
    loops = [worker.loop for worker in workers if isinstance(worker, AsyncWorker)]
    return next((loop for loop in loops if loop is not None), None)


def _is_only_a_base(kind: type) -> bool:
    """Return whether events are of its subclasses; whether there is a way back to those is asked when one arrives."""
    return inspect.isabstract(kind) or bool(type.__subclasses__(kind))


def _after_fork(reference: weakref.ref[Desk[W]]) -> None:
    guard = reference()
    if guard is not None:
        guard._renew_after_fork()  # pyright: ignore[reportPrivateUsage]
