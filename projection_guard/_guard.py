"""`ProjectionGuard`: the guard of blocking code. It drives what `Service` does to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import update_wrapper
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar, overload
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from ._alerts import AlertPolicy
from ._core.following import Followed
from ._desk import Desk, Ringing, WorkerChoice
from ._encryption import EncryptedCodec, EventCodec
from ._for_amending import ForAmending
from ._for_operators import ForOperators
from ._for_replaying import ForReplaying
from ._for_verifying import ForVerifying
from ._health import HealthPolicy
from ._instruments import Instrument
from ._io.blocking import BlockingIO
from ._io.engines import engine_for, view
from ._io.protocol import drive
from ._mapping import EventMapping
from ._model import Attempt, Checkpoint, Failure, Health, Outcome, Page, SkippedRange, StreamState, SystemStatus
from ._notices import Observer
from ._policy import RetryPolicy
from ._publisher import Inner, OnUnavailable, Publisher
from ._records import WorkerKind
from ._registration import EventType, Handler, OrderName, Reset, StreamReset, check_name, handler_of, type_of
from ._schema import check_schema_name
from ._service import Service
from ._source import EventSource
from ._worker import Worker

__all__ = ["Guarded", "ProjectionGuard"]

H_co = TypeVar("H_co", bound=Callable[..., object], covariant=True)
F = TypeVar("F", bound=Handler)


class Guarded(Generic[H_co]):
    """A handler under guard: call it with an event and it returns an `Outcome`, also when the handler fails."""

    def __init__(self, handler: H_co, name: str, service: Service) -> None:
        update_wrapper(self, handler)
        self.handler = handler
        self.name = name
        self._service = service

    def __call__(self, event: object) -> Outcome:
        """Bring an event to this projection."""
        return drive(self._service.apply(self.name, event))


class ProjectionGuard(ForOperators, ForAmending, ForReplaying, ForVerifying, Desk[Worker]):
    """Keeps projections healing by themselves, in order, with nothing lost; for blocking code.

    The database is a URL or an engine of yours, whose settings stay as they are. `order` ("stream", "none", "global")
    and `retry` are the defaults for projections that name none. With a `source`, an event log that can be read again,
    projections are followed: workers apply what stands in the log, and publishing only wakes them.
    `observers` are told of changes of state, `instruments` watch handlers (`prometheus`, `opentelemetry`).
    `worker="external"` starts no worker in this process: run one elsewhere. `dedupe_window` is how long a redelivered
    event is recognised; `lease` how long an apart call or a follower may go without a sign of life before others take
    its stream or partition (it is renewed while the call runs). `alerts`: whom workers tell what is wrong.

    Raises `ConfigurationError`. All methods: `UnknownProjection` for a name that is not registered, `StoreUnavailable`
    where the database does not answer, `SchemaError` where its tables are not those of this version, and
    `InvalidArgument`: `limit` is 1 to 1000, `actor` (who acts) has 1 to 255 characters.
    """

    _is_async = False

    def __init__(
        self,
        database: str | URL | Engine,
        *,
        source: EventSource | None = None,
        retry: RetryPolicy | None = None,
        health: HealthPolicy | None = None,
        order: OrderName = "stream",
        mapping: EventMapping | None = None,
        codec: EventCodec | EncryptedCodec | None = None,
        observers: Sequence[Observer] = (),
        instruments: Sequence[Instrument] = (),
        schema: str | None = None,
        worker: WorkerChoice = "auto",
        dedupe_window: timedelta = timedelta(days=7),
        lease: timedelta = timedelta(seconds=15),
        alerts: AlertPolicy | None = None,
    ) -> None:
        engine = engine_for(database)
        self._owns_engine = not isinstance(database, Engine)
        self._engine = engine
        check_schema_name(engine.dialect.name, schema)
        guarded = view(engine)
        super().__init__(
            BlockingIO(guarded, schema),
            BlockingIO(guarded, None),
            engine,
            source=source,
            retry=retry or RetryPolicy(),
            health=health or HealthPolicy(),
            order=order,
            mapping=mapping,
            codec=codec,
            observers=observers,
            instruments=instruments,
            schema=schema,
            worker=worker,
            dedupe_window=dedupe_window,
            lease=lease,
            alerts=alerts,
        )

    # -- registering

    def projection(
        self,
        name: str,
        *,
        handles: Sequence[EventType] | None = None,
        retry: RetryPolicy | None = None,
        order: OrderName | None = None,
        timeout: float = 60.0,
        on_reset: Reset | None = None,
        on_reset_stream: StreamReset | None = None,
        partitions: int = 1,
        batch: int | None = None,
        tables: Sequence[str] = (),
    ) -> Callable[[F], Guarded[F]]:
        """Register a handler as a projection.

        `handler(event, connection)` joins the guard's transaction and has its effect exactly once; `handler(event)`
        writes elsewhere and is called at least once. `handles` are event classes (subclasses too) or types' names; None
        takes all. `timeout` is in seconds. `on_reset(connection)` clears the read model,
        `on_reset_stream(connection, stream_id)` one stream of it. With `batch=` the handler takes a list of up to so
        many events. `partitions` divides the streams among the workers that follow the log. `tables` names the read
        model's tables, parents first, for a rebuild beside them. Raises `RegistrationError`.
        """
        check_name(name)

        def decorate(handler: F) -> Guarded[F]:
            self._register(
                name,
                handler,
                handles=handles,
                can_handle=None,
                retry=retry,
                order=order,
                timeout=timeout,
                on_reset=on_reset,
                on_reset_stream=on_reset_stream,
                partitions=partitions,
                batch=batch,
                tables=tables,
            )
            return Guarded(handler, name, self._service)

        return decorate

    def register(
        self,
        projection: object,
        name: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        order: OrderName | None = None,
        timeout: float = 60.0,
        on_reset: Reset | None = None,
        on_reset_stream: StreamReset | None = None,
        partitions: int = 1,
        batch: int | None = None,
        tables: Sequence[str] = (),
    ) -> Guarded[Callable[..., object]]:
        """Register an object with `handle(event)` or `handle(event, connection)`, by its class's name if none is given.

        What it takes is told by `handles()` (classes or names) or `can_handle(event)`; without either it takes all. Its
        `on_reset(connection)` is used if it has one, and `applies_again = False` says that its read model refuses what
        it has already, so that no range can be replayed on purpose. Raises `RegistrationError`.
        """
        chosen = name or type(projection).__name__
        handler = handler_of(projection, chosen)
        handles, can_handle = type_of(projection, chosen)
        self._register(
            chosen,
            handler,
            handles=handles,
            can_handle=can_handle,
            retry=retry,
            order=order,
            timeout=timeout,
            on_reset=on_reset or getattr(projection, "on_reset", None),
            on_reset_stream=on_reset_stream or getattr(projection, "on_reset_stream", None),
            partitions=partitions,
            batch=batch,
            tables=tables,
            applies_again=bool(getattr(projection, "applies_again", True)),
        )
        return Guarded(handler, chosen, self._service)

    def migrate(self) -> None:
        """Create the guard's tables, or bring them up to this version. Safe at every start, by any number at once."""
        drive(self._service.migrate())

    # -- events

    def publisher(
        self, inner: Inner | None = None, *, wait: float | None = None, on_unavailable: OnUnavailable = "raise"
    ) -> Publisher:
        """Return a publisher that brings each event to `inner`, if there is one, and then to every projection.

        Followed projections read it in the log, where `inner` or the application has appended it; with `wait=` each
        `publish` waits up to so many seconds (0 to a day) until they have. Where the guard's database does not take
        an event, `publish` raises `StoreUnavailable`; with `on_unavailable="log"` it logs that, and it is on you to
        deliver the event again. Raises `ConfigurationError`.
        """
        return Publisher(self._service, inner, on_unavailable, wait)

    def apply(self, name: str, event: object) -> Outcome:
        """Bring one event to one projection. Raises `UnknownProjection`, `EventError`, `StoreUnavailable`."""
        return drive(self._service.apply(name, event))

    # -- following

    @overload
    def catch_up(self, name: str) -> Followed: ...
    @overload
    def catch_up(self, name: None = None) -> tuple[Followed, ...]: ...
    def catch_up(self, name: str | None = None) -> Followed | tuple[Followed, ...]:
        """Apply what is in the log now, to its end, in one projection or in all of them; returns how far that came.

        Partitions that another worker follows are waited for. Where a pause, the breaker or a hole that may still be
        filled stands in the way it returns early, and `waits` says why. Raises `SourceError`, `StoreUnavailable`.
        """
        if name is None:
            return drive(self._service.on_log.catch_up(None))
        return (drive(self._service.on_log.catch_up([name])))[0]

    def wait_for(self, name: str, sequence: int, timeout: float = 10.0) -> None:
        """Wait until a followed projection has come to a sequence of the log: read your own writes.

        Everything up to there is applied, failed, parked or skipped then. Raises `WaitTimeout` after `timeout` seconds.
        """
        drive(self._service.on_log.wait_for(name, sequence, timeout))

    def follow_from(self, name: str, sequence: int, *, actor: str, note: str | None = None) -> None:
        """Let following begin after a sequence, 0 for the beginning: what is at or below it counts as done. Audited.

        For a read model that was filled by other means, or one that was pushed for longer than `dedupe_window`. A
        projection that is being followed has to be paused first. Raises `FailureBusy` while a job is under way.
        """
        drive(self._service.on_log.follow_from(name, sequence, actor=actor, note=note))

    # -- looking

    @overload
    def health(self, name: str) -> Health: ...
    @overload
    def health(self, name: None = None) -> tuple[Health, ...]: ...
    def health(self, name: str | None = None) -> Health | tuple[Health, ...]:
        """Judge one projection, or all of them in the order of their registration, by the facts as they are now."""
        if name is None:
            return drive(self._service.health())
        return (drive(self._service.health([name])))[0]

    def status(self) -> SystemStatus:
        """Sum up all projections of this guard."""
        return drive(self._service.status())

    def checkpoint(self, name: str) -> Checkpoint:
        """Return how far a projection has come; the counters are rolled up before, so that they are exact."""
        return drive(self._service.checkpoint(name))

    def failure(self, failure_id: UUID | str) -> Failure:
        """Return one failure. Raises `UnknownFailure`."""
        return drive(self._service.failure(failure_id))

    def attempts(self, failure_id: UUID | str) -> tuple[Attempt, ...]:
        """Return the failed attempts of a failure, oldest first. Raises `UnknownFailure`."""
        return drive(self._service.attempts(failure_id))

    def streams(
        self,
        name: str,
        *,
        state: Literal["blocked", "tainted"] = "blocked",
        limit: int = 100,
        after: str | None = None,
    ) -> Page[StreamState]:
        """Return the blocked or the tainted streams of a projection, by their ids."""
        return drive(self._service.streams(name, state=state, limit=limit, after=after))

    def skipped(self, name: str, *, limit: int = 100, after: str | None = None) -> Page[SkippedRange]:
        """Return the ranges of the log in which a followed projection has found nothing, highest first."""
        return drive(self._service.on_log.skipped(name, limit=limit, after=after))

    # -- acting

    def resolve(
        self,
        failure_id: UUID | str,
        strategy: Literal["retry", "skip", "manual_fix"],
        *,
        actor: str,
        note: str | None = None,
    ) -> Outcome:
        """End a failure by a person's decision, and write down who took it.

        "retry" tries the event once, now, and returns how that went. "skip" leaves its effect out: the stream is
        tainted and flows on. "manual_fix" says that its effect was made by hand. Raises `UnknownFailure`,
        `FailureResolved`, `FailureBusy` where it is being worked on, `InvalidArgument`.
        """
        return drive(self._service.resolve(failure_id, strategy, actor=actor, note=note))

    def pause(self, name: str, *, actor: str, reason: str | None = None) -> None:
        """Stop a projection; events are parked. When this returns, nothing of it is in flight any more.

        Raises `FailureBusy` during a reset or a replay; `StoreUnavailable` also where it is paused, and something is
        still in flight half a minute after the handler's timeout.
        """
        drive(self._service.pause(name, actor=actor, reason=reason))

    def resume(self, name: str, *, actor: str) -> None:
        """Let a paused projection go on; workers apply what was parked, in order. Raises `FailureBusy`, as `pause`."""
        drive(self._service.resume(name, actor=actor))

    def reset(self, name: str, *, actor: str) -> None:
        """Set a projection back to the beginning; `on_reset` clears the read model in the same transaction.

        Failures and parked events from before are resolved, what was applied is forgotten; publish the events again.
        What `on_reset` raises is raised, and everything is as it was, also when it is cancelled. Raises `FailureBusy`
        during a replay or another reset.
        """
        drive(self._service.reset(name, actor=actor))

    # -- working

    def worker(self, *, kind: WorkerKind = "embedded", poll_seconds: float = 0.5, batch: int = 100) -> Worker:
        """Return a worker: it makes retries, drains what is parked, keeps counters. Not started yet.

        `poll_seconds` is how often it looks for work of others, `batch` the most retries and drains in one go. A
        "service" is one whose absence matters: `run()` makes it one, `start()` beside an application does not.
        """
        worker = Worker(self._service, kind=kind, poll_seconds=poll_seconds, batch=batch)
        self._workers.add(worker)
        return worker

    def _start_own_worker(self) -> Ringing:
        self._own_worker = self.worker().start()
        return self._own_worker

    def close(self, timeout_seconds: float | None = 10.0) -> None:
        """Stop this guard's workers, and close the engine if the guard made it."""
        for worker in list(self._workers):
            worker.stop(timeout_seconds)
        self._service.context.io.close()
        if self._owns_engine:
            self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
