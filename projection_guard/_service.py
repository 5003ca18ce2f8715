"""Everything both guards do, once, as coroutines; `ProjectionGuard` drives them, `AsyncProjectionGuard` awaits them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from . import _schema
from ._alerts import AlertPolicy
from ._core import admin, beginning, rounds
from ._core.context import Context, look, new_token, redone, transact
from ._core.delivering import deliver
from ._core.immediate import retry_now
from ._core.log import EventLog
from ._core.projection import Projection
from ._core.rounds import Round
from ._core.telling import NamedReceiver
from ._health import Lag
from ._instruments import Delivery, watching
from ._io.protocol import IO
from ._mapping import EventMapping
from ._model import (
    Attempt,
    Checkpoint,
    EventRecord,
    Failure,
    Health,
    HealthStatus,
    Origin,
    Outcome,
    OutcomeStatus,
    Page,
    StreamState,
    SystemStatus,
)
from ._on_alerts import OnAlerts
from ._on_amendments import OnAmendments
from ._on_bulk import OnBulk
from ._on_failures import OnFailures
from ._on_history import OnHistory
from ._on_log import OnLog, Opened, check_limit, ensure_rows, id_of
from ._store import attempts, counters, failures, reading, states
from ._store.reading import Judged
from ._untaken import Untaken
from .errors import (
    DeliveryInterrupted,
    EventError,
    InvalidArgument,
    RegistrationError,
    StoreUnavailable,
    UnknownFailure,
    UnknownProjection,
)

__all__ = ["Service", "summed_up"]

T = TypeVar("T")
_WORST_FIRST = (HealthStatus.OFFLINE, HealthStatus.CRITICAL, HealthStatus.DEGRADED, HealthStatus.HEALTHY)


class Started(Protocol):
    """Is told of the first contact with the database."""

    def __call__(self, *, has_work: bool) -> None:
        """`has_work`: there are unresolved failures or parked events."""
        ...


class Service:
    """The projections of one guard, and what can be done with them."""

    def __init__(
        self,
        context: Context,
        mapping: EventMapping,
        *,
        log: EventLog | None,
        bare_io: IO,
        started: Started,
        alerts: AlertPolicy | None,
        receivers: Sequence[NamedReceiver],
    ) -> None:
        self.context = context
        self._log = log
        self.on_log = OnLog(self, log)
        self.on_failures = OnFailures(self)
        self.on_bulk = OnBulk(self)
        self.on_history = OnHistory(self)
        self.on_amendments = OnAmendments(self, mapping)
        self.on_alerts = OnAlerts(self, alerts, receivers)
        self._followed_elsewhere: set[str] = set()
        self._untaken = Untaken()
        self._bare_io = bare_io
        self.mapping = mapping
        self.projections: dict[str, Projection] = {}
        self._started = started
        self._opened: set[str] = set()
        self._schema_checked = False
        self._only_looks = False
        self._kept_classes: set[type] = set()

    # -- registering and first contact

    def add(self, projection: Projection) -> None:
        """Register a projection. Raises `RegistrationError` where the name is taken."""
        if projection.name in self.projections:
            raise RegistrationError(f"A projection named {projection.name!r} is registered already; names are unique")
        self.projections[projection.name] = projection

    def beside(self, projections: Iterable[Projection]) -> Service:
        """Return a service of projections that are on record: looking at them writes nothing, also the first time."""
        made = Service(
            self.context,
            self.mapping,
            log=self._log,
            bare_io=self._bare_io,
            started=_tell_nobody,
            alerts=None,
            receivers=(),
        )
        for projection in projections:
            made.add(projection)
        made._opened.update(made.projections)
        made._schema_checked = made._only_looks = True
        return made

    def named(self, name: str) -> Projection:
        """Return a projection. Raises `UnknownProjection`."""
        try:
            return self.projections[name]
        except KeyError:
            known = ", ".join(repr(known) for known in sorted(self.projections)) or "none"
            raise UnknownProjection(f"No projection is named {name!r}; registered here: {known}") from None

    async def migrate(self) -> None:
        """Create the guard's tables, or bring them up to this version."""
        await self.on_schema(lambda connection: _schema.migrate(connection, self.context.schema))
        self._schema_checked = True

    async def on_schema(self, work: Callable[[Connection], T]) -> T:
        """Run work on the schema itself: nothing may be taken for granted of the tables."""
        transaction = await self._bare_io.begin()
        try:
            await transaction.together(())  # begins, whatever the host's engine does by itself
            result = await transaction.run(work)
            await transaction.commit()
        finally:
            await transaction.close()
        return result

    async def check_schema(self) -> None:
        """Look whether the tables are those of this version. Raises `SchemaError`, `StoreUnavailable`."""

        def look() -> Coroutine[object, None, None]:
            return self.on_schema(lambda connection: _schema.check(connection, self.context.schema))

        await redone(self._bare_io, look, what="the tables were not looked at")

    async def open(self, names: Sequence[str] | None = None) -> None:
        """Meet the database for the first time: check the schema, and make the projections' rows."""
        wanted = self.projections if names is None else names
        missing = [self.named(name) for name in wanted if name not in self._opened]
        if not missing and self._schema_checked:
            return
        if not self._schema_checked:
            await self.check_schema()
            self._schema_checked = True

        def ensure(connection: Connection) -> list[Opened]:
            return [ensure_rows(connection, projection) for projection in missing]

        opened = await transact(self.context, ensure, what="the projections' first contact with the database")
        for projection, found in zip(missing, opened, strict=True):
            if projection.is_followed:
                await beginning.begin_following(self.context, projection, self.on_log.log)
            elif found.is_followed:
                self._followed_elsewhere.add(projection.name)
        self._opened.update(projection.name for projection in missing)
        self._started(has_work=any(found.has_work for found in opened))

    # -- events

    async def publish(self, event: object, wait_seconds: float | None = None) -> tuple[Outcome, ...]:
        """Bring an event to every projection that takes it; each gets it, whatever becomes of the others.

        Those that are followed find it in the log; `wait_seconds` waits for that.
        """
        record = self.mapping.read(event)
        takers = [p for p in self.projections.values() if p.takes(event, record.event_type)]
        if not takers:
            self._untaken.note(record.event_type, self.projections)
            return ()
        self._untaken.is_fine = True
        await self._ready(takers, event, record)
        works = [self._deliver(taker, event, record, Origin.PUBLISH, wait_seconds) for taker in takers]
        results = await self.context.io.all(works)
        return _all_or_interrupted(takers, record, results)

    async def apply(self, name: str, event: object) -> Outcome:
        """Bring one event to one projection."""
        projection = self.named(name)
        record = self.mapping.read(event)
        if not projection.takes(event, record.event_type):
            return Outcome(status=OutcomeStatus.IGNORED, projection=name, event_id=record.event_id)
        await self._ready([projection], event, record)
        return await self._deliver(projection, event, record, Origin.APPLY, None)

    async def _ready(self, takers: Sequence[Projection], event: object, record: EventRecord) -> None:
        """Refuse what could not be kept or ordered before any handler is called."""
        kind = type(event)
        pushed = [taker for taker in takers if not taker.is_followed]
        if pushed and kind not in self._kept_classes:
            knows = getattr(self.context.codec, "knows", None)
            if knows is not None and not knows(kind):
                raise EventError(
                    f"Event {record.event_id!r} is a {kind.__qualname__}, and there is no way back to one from the "
                    "database; name the class in handles=, or call guard.codec.register(...)"
                )
            self._kept_classes.add(kind)
        for taker in pushed:
            taker.ticket(record)
        if any(taker.name not in self._opened for taker in takers):
            await self.open([taker.name for taker in takers])

    async def _deliver(
        self, projection: Projection, event: object, record: EventRecord, origin: Origin, wait_seconds: float | None
    ) -> Outcome:
        if projection.is_followed:
            outcome = await beginning.defer(self.context, projection, self.on_log.log, record, wait_seconds)
            watching(
                self.context.instruments,
                lambda: [Delivery(projection=projection.name, origin=origin, record=record, event=event)],
            ).settled_each(OutcomeStatus.DEFERRED, 1)
            return outcome
        if not projection.retry.blocking:
            return await deliver(self.context, projection, event, record, origin=origin)
        born = attempts.PROCESS + new_token()
        outcome = await deliver(self.context, projection, event, record, origin=origin, born=born)
        return await retry_now(self.context, projection, outcome, born)

    # -- looking

    async def health(self, names: Sequence[str] | None = None) -> tuple[Health, ...]:
        """Judge projections by the facts as they are now."""
        return tuple(each.health for each in await self.judged(names))

    async def judged(self, names: Sequence[str] | None = None) -> tuple[Judged, ...]:
        """Judge projections, and say by what."""
        await self.open(names)
        wanted = list(self.projections if names is None else names)
        await self._roll_up()
        lagging = await self.lags(wanted)
        return tuple(
            await self.read(lambda connection: reading.judged(connection, self.context.health, lagging, wanted))
        )

    async def lags(self, names: Sequence[str]) -> Mapping[str, Lag]:
        """Say how far behind the log projections are."""
        return await self.on_log.lags(names)

    async def status(self) -> SystemStatus:
        """Sum up all projections."""
        judged = await self.health()
        return summed_up(judged, await self.read(reading.now))

    async def checkpoint(self, name: str) -> Checkpoint:
        """Read how far a projection has come."""
        await self.open([self.named(name).name])
        await self._roll_up()
        found = await self.read(lambda connection: counters.checkpoint(connection, name))
        if found is None:
            raise UnknownProjection(f"Projection {name!r} has no checkpoint on record; was its row deleted by hand?")
        return found

    async def failure(self, failure_id: UUID | str) -> Failure:
        """Read one failure. Raises `UnknownFailure`."""
        identity = id_of(failure_id, UnknownFailure, "a failure")
        await self.open()
        found = await self.read(lambda connection: failures.one(connection, identity))
        if found is None:
            raise UnknownFailure(f"There is no failure {identity}")
        return found

    async def attempts(self, failure_id: UUID | str, *, newest: int | None = None) -> tuple[Attempt, ...]:
        """Read the failed attempts of a failure, oldest first; of very many only the newest, where it is said so."""
        failure = await self.failure(failure_id)
        return await self.read(lambda connection: attempts.attempts_of(connection, failure.id, newest=newest))

    async def streams(
        self, name: str, *, state: Literal["blocked", "tainted"], limit: int, after: str | None
    ) -> Page[StreamState]:
        """Read the blocked or tainted streams of a projection."""
        await self.open([self.named(name).name])
        check_limit(limit)
        if state not in ("blocked", "tainted"):
            raise InvalidArgument(f"state= takes 'blocked' or 'tainted', not {state!r}")
        return await self.read(
            lambda connection: reading.streams_page(connection, name, state=state, limit=limit, after=after)
        )

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Look something up."""
        if self._only_looks:
            return await look(self.context, work, what="reading")
        return await transact(self.context, work, what="reading")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Write something down. It may be done again: `work` looks first whether it was done."""
        return await transact(self.context, work, what="writing")

    async def _roll_up(self) -> None:
        if self._only_looks:
            return
        for name in await self.read(counters.names_to_roll_up):
            await rounds.roll_up(self.context, name, 100_000)

    # -- acting

    async def resolve(self, failure_id: UUID | str, strategy: str, *, actor: str, note: str | None) -> Outcome:
        """End a failure by a person's decision."""
        admin.check_actor(actor)
        failure = await self.failure(failure_id)
        projection = self.named(failure.projection_name)
        return await admin.resolve(self.context, projection, failure, strategy, admin.Deed(actor=actor, note=note))

    async def pause(self, name: str, *, actor: str, reason: str | None) -> None:
        """Stop a projection."""
        await self._act(name, actor)
        await admin.pause(self.context, self.named(name), actor=actor, reason=reason)

    async def resume(self, name: str, *, actor: str) -> None:
        """Let a projection go on."""
        await self._act(name, actor)
        await admin.resume(self.context, self.named(name), actor=actor)

    async def reset(self, name: str, *, actor: str) -> None:
        """Set a projection back to the beginning."""
        await self._act(name, actor)
        await admin.reset(self.context, self.named(name), actor=actor)

    async def _act(self, name: str, actor: str) -> None:
        admin.check_actor(actor)
        await self.open([self.named(name).name])

    # -- working

    def runnable(self) -> frozenset[str]:
        """Name the projections whose failures can be retried here: those that are followed have their log here."""
        return frozenset(self.projections) - self._followed_elsewhere

    async def names_with_work(self) -> list[str]:
        """Name the registered projections in which something is due now."""
        await self.open()

        pushed = {name for name, projection in self.projections.items() if not projection.is_followed}

        def look(connection: Connection) -> tuple[frozenset[str], frozenset[str]]:
            due = states.names_with_work(connection, self.context.process)
            return due, states.followed(connection) if pushed else frozenset()

        due, followed = await self.read(look)
        self._followed_elsewhere |= pushed & followed  # also since this process began: a deployment gave others the log
        runnable = self.runnable()
        return [name for name in self.projections if name in due and name in runnable]

    async def work_on(self, name: str, *, batch: int, stops: Callable[[], bool]) -> Round:
        """Do what is due in one projection."""
        return await rounds.work_on(self.context, self.projections[name], batch=batch, stops=stops)

    async def keep_books(self) -> Round:
        """Bring counters and checkpoints up to date."""
        return await rounds.keep_books(self.context)

    async def store_judgements(self) -> None:
        """Store what the judge says now, and samples; of what is followed elsewhere the lag is not known here."""
        lagging = await self.lags(list(self.projections))
        await rounds.store_judgements(self.context, tuple(self.projections), lagging, sampled=self.runnable())

    async def prune(self) -> Round:
        """Forget what is too old."""
        return await rounds.prune(self.context)

    async def run_once(self, *, batch: int) -> Round:
        """Do one whole round: every projection's work, the counters, and pruning."""
        total = Round()
        errors: list[Exception] = []
        await self.open()
        for result in await self.context.io.all([self.on_log.follow_once(name) for name in self.projections]):
            if isinstance(result, Exception):
                errors.append(result)
            else:
                total = total.plus(result)
        names = await self.names_with_work()
        works: list[Coroutine[object, None, Round]] = [
            self.work_on(name, batch=batch, stops=lambda: False) for name in names
        ]
        for result in await self.context.io.all(works):
            if isinstance(result, Exception):
                errors.append(result)
            else:
                total = total.plus(result)
        for job in await self.on_bulk.due():
            total = total.plus(await self.on_bulk.run(job, stops=lambda: False, most=batch))
        total = total.plus(await self.keep_books()).plus(await self.prune())
        await self.store_judgements()
        try:
            total = total.plus(await self.on_alerts.run_once())
        except Exception as error:  # what has failed before is told first
            errors.append(error)
        if errors:
            raise errors[0]
        return total


def summed_up(judged: Sequence[Health], moment: datetime) -> SystemStatus:
    """Sum up projections that were judged."""
    counted = {status: sum(health.status is status for health in judged) for status in HealthStatus}
    return SystemStatus(
        overall_status=next((status for status in _WORST_FIRST if counted[status]), HealthStatus.HEALTHY),
        total_projections=len(judged),
        healthy_projections=counted[HealthStatus.HEALTHY],
        degraded_projections=counted[HealthStatus.DEGRADED],
        critical_projections=counted[HealthStatus.CRITICAL],
        offline_projections=counted[HealthStatus.OFFLINE],
        total_active_failures=sum(health.active_failures for health in judged),
        total_events_processed=sum(health.total_events_processed for health in judged),
        timestamp=moment,
    )


def _tell_nobody(*, has_work: bool) -> None:
    del has_work


def _all_or_interrupted(
    takers: Sequence[Projection], record: EventRecord, results: Sequence[Outcome | Exception]
) -> tuple[Outcome, ...]:
    outcomes = tuple(result for result in results if isinstance(result, Outcome))
    errors = {
        taker.name: result for taker, result in zip(takers, results, strict=True) if isinstance(result, Exception)
    }
    if not errors:
        return outcomes
    first = next(iter(errors.values()))
    if not all(isinstance(error, StoreUnavailable) for error in errors.values()):
        first = next(error for error in errors.values() if not isinstance(error, StoreUnavailable))
        if len(errors) == 1 and not outcomes:
            raise first
    names = ", ".join(repr(name) for name in errors)
    raise DeliveryInterrupted(
        f"Event {record.event_id!r} did not reach {names}: {first}", outcomes=outcomes, errors=errors
    ) from first
