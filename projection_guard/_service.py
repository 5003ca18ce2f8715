"""Everything both guards do, once, as coroutines; `ProjectionGuard` drives them, `AsyncProjectionGuard` awaits them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from . import _schema
from ._core import admin, beginning, replaying, rounds
from ._core.context import Context, new_token, transact
from ._core.delivering import deliver
from ._core.following import Followed, Follower
from ._core.immediate import retry_now
from ._core.lagging import lags
from ._core.log import EventLog
from ._core.projection import Projection
from ._core.replaying import Asked
from ._core.rounds import Round
from ._io.protocol import IO
from ._mapping import EventMapping
from ._model import (
    Attempt,
    Checkpoint,
    EventRecord,
    Failure,
    Health,
    HealthStatus,
    Outcome,
    OutcomeStatus,
    Page,
    Replay,
    SkippedRange,
    StreamState,
    SystemStatus,
)
from ._store import attempts, counters, failures, reading, replays, states
from .errors import (
    ConfigurationError,
    DeliveryInterrupted,
    EventError,
    InvalidArgument,
    ProjectionGuardError,
    RegistrationError,
    StoreUnavailable,
    UnknownFailure,
    UnknownProjection,
    UnknownReplay,
)

__all__ = ["Service"]

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
        self, context: Context, mapping: EventMapping, *, log: EventLog | None, bare_io: IO, started: Started
    ) -> None:
        self.context = context
        self._log = log
        self._followed_elsewhere: set[str] = set()
        self._resting: dict[str, Follower] = {}
        self._bare_io = bare_io
        self.mapping = mapping
        self.projections: dict[str, Projection] = {}
        self._started = started
        self._opened: set[str] = set()
        self._schema_checked = False
        self._kept_classes: set[type] = set()

    # -- registering and first contact

    def add(self, projection: Projection) -> None:
        """Register a projection. Raises `RegistrationError` where the name is taken."""
        if projection.name in self.projections:
            raise RegistrationError(f"A projection named {projection.name!r} is registered already; names are unique")
        self.projections[projection.name] = projection

    def named(self, name: str) -> Projection:
        """Return a projection. Raises `UnknownProjection`."""
        try:
            return self.projections[name]
        except KeyError:
            known = ", ".join(repr(known) for known in sorted(self.projections)) or "none"
            raise UnknownProjection(f"No projection is named {name!r}; registered here: {known}") from None

    async def migrate(self) -> None:
        """Create the guard's tables, or bring them up to this version."""
        await self._bare(lambda connection: _schema.migrate(connection, self.context.schema))
        self._schema_checked = True

    async def _bare(self, work: Callable[[Connection], T]) -> T:
        """Run work on the schema itself: nothing may be taken for granted of the tables."""
        transaction = await self._bare_io.begin()
        try:
            await transaction.together(())  # begins, whatever the host's engine does by itself
            result = await transaction.run(work)
            await transaction.commit()
        finally:
            await transaction.close()
        return result

    async def open(self, names: Sequence[str] | None = None) -> None:
        """Meet the database for the first time: check the schema, and make the projections' rows."""
        wanted = self.projections if names is None else names
        missing = [self.named(name) for name in wanted if name not in self._opened]
        if not missing and self._schema_checked:
            return
        if not self._schema_checked:
            await self._bare(lambda connection: _schema.check(connection, self.context.schema))
            self._schema_checked = True

        def ensure(connection: Connection) -> list[_Opened]:
            return [_ensure(connection, projection) for projection in missing]

        opened = await transact(self.context, ensure, what="the projections' first contact with the database")
        for projection, found in zip(missing, opened, strict=True):
            if projection.is_followed:
                await beginning.begin_following(self.context, projection, self.log)
            elif found.is_followed:
                self._followed_elsewhere.add(projection.name)
        self._opened.update(projection.name for projection in missing)
        self._started(has_work=any(found.has_work for found in opened))

    @property
    def log(self) -> EventLog:
        """The log that is followed. Raises `ConfigurationError` where the guard has none."""
        if self._log is None:
            raise ConfigurationError(
                "This guard has no event log to read from: make it with source=, for example a SqlEventSource"
            )
        return self._log

    # -- events

    async def publish(self, event: object, wait_seconds: float | None = None) -> tuple[Outcome, ...]:
        """Bring an event to every projection that takes it; each gets it, whatever becomes of the others.

        Those that are followed find it in the log; `wait_seconds` waits for that.
        """
        record = self.mapping.read(event)
        takers = [p for p in self.projections.values() if p.takes(event, record.event_type)]
        if not takers:
            return ()
        await self._ready(takers, event, record)
        works = [self._deliver(taker, event, record, wait_seconds) for taker in takers]
        results = await self.context.io.all(works)
        return _all_or_interrupted(takers, record, results)

    async def apply(self, name: str, event: object) -> Outcome:
        """Bring one event to one projection."""
        projection = self.named(name)
        record = self.mapping.read(event)
        if not projection.takes(event, record.event_type):
            return Outcome(status=OutcomeStatus.IGNORED, projection=name, event_id=record.event_id)
        await self._ready([projection], event, record)
        return await self._deliver(projection, event, record, None)

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
        self, projection: Projection, event: object, record: EventRecord, wait_seconds: float | None
    ) -> Outcome:
        if projection.is_followed:
            return await beginning.defer(self.context, projection, self.log, record, wait_seconds)
        if not projection.retry.blocking:
            return await deliver(self.context, projection, event, record)
        born = attempts.PROCESS + new_token()
        outcome = await deliver(self.context, projection, event, record, born=born)
        return await retry_now(self.context, projection, outcome, born)

    # -- looking

    async def health(self, names: Sequence[str] | None = None) -> tuple[Health, ...]:
        """Judge projections by the facts as they are now."""
        await self.open(names)
        wanted = list(self.projections if names is None else names)
        await self._roll_up()
        lagging = await lags(self.context, [self.named(name) for name in wanted], self._log)
        return tuple(
            await self._read(lambda connection: reading.healths(connection, self.context.health, lagging, wanted))
        )

    async def status(self) -> SystemStatus:
        """Sum up all projections."""
        judged = await self.health()
        moment = await self._read(reading.now)
        counted = {status: sum(health.status is status for health in judged) for status in HealthStatus}
        worst = next((status for status in _WORST_FIRST if counted[status]), HealthStatus.HEALTHY)
        return SystemStatus(
            overall_status=worst,
            total_projections=len(judged),
            healthy_projections=counted[HealthStatus.HEALTHY],
            degraded_projections=counted[HealthStatus.DEGRADED],
            critical_projections=counted[HealthStatus.CRITICAL],
            offline_projections=counted[HealthStatus.OFFLINE],
            total_active_failures=sum(health.active_failures for health in judged),
            total_events_processed=sum(health.total_events_processed for health in judged),
            timestamp=moment,
        )

    async def checkpoint(self, name: str) -> Checkpoint:
        """Read how far a projection has come."""
        await self.open([self.named(name).name])
        await self._roll_up()
        found = await self._read(lambda connection: counters.checkpoint(connection, name))
        if found is None:
            raise UnknownProjection(f"Projection {name!r} has no checkpoint on record; was its row deleted by hand?")
        return found

    async def failures(
        self, name: str | None, *, include_resolved: bool, limit: int, after: str | None
    ) -> Page[Failure]:
        """Read a page of failures, newest first."""
        if name is not None:
            self.named(name)
        _check_limit(limit)
        await self.open()
        return await self._read(
            lambda connection: reading.failures_page(
                connection, name, include_resolved=include_resolved, limit=limit, after=after
            )
        )

    async def failure(self, failure_id: UUID | str) -> Failure:
        """Read one failure. Raises `UnknownFailure`."""
        identity = _id_of(failure_id, UnknownFailure, "a failure")
        await self.open()
        found = await self._read(lambda connection: failures.one(connection, identity))
        if found is None:
            raise UnknownFailure(f"There is no failure {identity}")
        return found

    async def attempts(self, failure_id: UUID | str) -> tuple[Attempt, ...]:
        """Read the failed attempts of a failure, oldest first."""
        failure = await self.failure(failure_id)
        return await self._read(lambda connection: attempts.attempts_of(connection, failure.id))

    async def streams(
        self, name: str, *, state: Literal["blocked", "tainted"], limit: int, after: str | None
    ) -> Page[StreamState]:
        """Read the blocked or tainted streams of a projection."""
        await self.open([self.named(name).name])
        _check_limit(limit)
        if state not in ("blocked", "tainted"):
            raise InvalidArgument(f"state= takes 'blocked' or 'tainted', not {state!r}")
        return await self._read(
            lambda connection: reading.streams_page(connection, name, state=state, limit=limit, after=after)
        )

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await transact(self.context, work, what="reading")

    async def _roll_up(self) -> None:
        for name in await self._read(counters.names_to_roll_up):
            await rounds.roll_up(self.context, name, 100_000)

    # -- acting

    async def resolve(self, failure_id: UUID | str, strategy: str, *, actor: str, note: str | None) -> Outcome:
        """End a failure by a person's decision."""
        admin.check_actor(actor)
        failure = await self.failure(failure_id)
        projection = self.named(failure.projection_name)
        return await admin.resolve(self.context, projection, failure, strategy, actor=actor, note=note)

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

    # -- following

    async def catch_up(self, names: Sequence[str] | None) -> tuple[Followed, ...]:
        """Apply what is in the log now."""
        log = self.log
        wanted = [name for name in self.projections if self.projections[name].is_followed] if names is None else names
        await self.open(wanted)
        results = await self.context.io.all([self._catch_up(self.named(name), log) for name in wanted])
        for result in results:
            if isinstance(result, Exception):
                raise result
        return tuple(result for result in results if isinstance(result, Followed))

    async def _catch_up(self, projection: Projection, log: EventLog) -> Followed:
        follower = self._resting.pop(projection.name, None) or Follower(self.context, projection, log)
        try:
            return await beginning.catch_up(self.context, projection, log, follower)
        finally:
            if follower.has_unsettled:
                self._resting[projection.name] = follower

    async def wait_for(self, name: str, sequence: int, timeout_seconds: float) -> None:
        """Wait until a projection has come to a sequence."""
        projection = self.named(name)
        _ = self.log
        if isinstance(sequence, bool) or sequence < 0 or not timeout_seconds >= 0:
            raise InvalidArgument("wait_for takes a sequence and a timeout in seconds, both 0 or more")
        await self.open([name])
        self.context.wake(0.0)
        await beginning.wait_for(self.context, projection, sequence, timeout_seconds)

    async def follow_from(self, name: str, sequence: int, *, actor: str, note: str | None) -> None:
        """Let following begin at a place that a person names."""
        admin.check_actor(actor)
        projection = self.named(name)
        _ = self.log
        if not self._schema_checked:
            await self.open([])
        await transact(self.context, lambda connection: _ensure(connection, projection), what=f"{name}: first contact")
        await beginning.follow_from(self.context, projection, sequence, actor=actor, note=note)

    # -- replays

    async def replay(self, name: str, asked: Asked) -> Replay:
        """Begin a replay and run it to its end."""
        projection = await self._replayable(name, asked)
        token = new_token()
        begun = await replaying.begin(self.context, projection, self.log, asked, token=token)
        return await replaying.run(self.context, projection, self.log, begun.id, token=token)

    async def start_replay(self, name: str, asked: Asked) -> Replay:
        """Begin a replay, to be run by a worker."""
        projection = await self._replayable(name, asked)
        return await replaying.begin(self.context, projection, self.log, asked, token=None)

    async def _replayable(self, name: str, asked: Asked) -> Projection:
        admin.check_actor(asked.actor)
        projection = self.named(name)
        _ = self.log
        await self.open([name])
        return projection

    async def replays(self, name: str | None, *, limit: int, after: str | None) -> Page[Replay]:
        """Read a page of replays, newest first."""
        if name is not None:
            self.named(name)
        _check_limit(limit)
        await self.open()
        return await self._read(lambda connection: replays.page(connection, name, limit=limit, after=after))

    async def replay_of(self, replay_id: UUID | str) -> Replay:
        """Read one replay. Raises `UnknownReplay`."""
        identity = _id_of(replay_id, UnknownReplay, "a replay")
        await self.open()
        found = await self._read(lambda connection: replays.one(connection, identity))
        if found is None:
            raise UnknownReplay(f"There is no replay {identity}")
        return found

    async def steer(self, replay_id: UUID | str, wanted: Literal["run", "pause", "cancel"], *, actor: str) -> Replay:
        """Let a replay go on, rest or end. One that nobody runs is ended here."""
        admin.check_actor(actor)
        seen = await self.replay_of(replay_id)
        projection = self.named(seen.projection_name)
        changed = await replaying.steer(self.context, seen.id, wanted, actor=actor)
        if wanted != "cancel":
            return changed
        return await replaying.run(self.context, projection, self.log, seen.id, token=new_token())

    async def replays_due(self) -> dict[str, UUID]:
        """Name the replays that nobody runs at the moment, of the projections that are followed here."""
        due = await self._read(replays.due)
        return {name: job for name, job in due.items() if name in self.projections and self._log is not None}

    async def run_replay(self, name: str, job: UUID, *, stops: Callable[[], bool]) -> Replay:
        """Run a replay that nobody runs."""
        return await replaying.run(self.context, self.named(name), self.log, job, token=new_token(), stops=stops)

    def listening(self, heard: Callable[[], object]) -> AbstractAsyncContextManager[None]:
        """Say when another process has something in the log for one of these projections, while the block runs."""
        if self._log is None:
            return nullcontext()
        return self.context.io.listening(lambda name: heard() if name in self.projections else None)

    async def followed(self) -> list[str]:
        """Name the projections that are followed here."""
        await self.open()
        return [projection.name for projection in self.projections.values() if projection.is_followed]

    def follower(self, name: str) -> Follower:
        """Make a follower."""
        return Follower(self.context, self.named(name), self.log)

    async def skipped(self, name: str, *, limit: int, after: str | None) -> Page[SkippedRange]:
        """Read a page of the log's ranges in which there was nothing, newest first."""
        self.named(name)
        _check_limit(limit)
        await self.open([name])
        return await self._read(lambda connection: reading.skipped_page(connection, name, limit=limit, after=after))

    # -- working

    async def names_with_work(self) -> list[str]:
        """Name the registered projections in which something is due now."""
        await self.open()
        due = await self._read(lambda connection: states.names_with_work(connection, self.context.process))
        return [name for name in self.projections if name in due and name not in self._followed_elsewhere]

    async def work_on(self, name: str, *, batch: int, stops: Callable[[], bool]) -> Round:
        """Do what is due in one projection."""
        return await rounds.work_on(self.context, self.projections[name], batch=batch, stops=stops)

    async def keep_books(self) -> Round:
        """Bring counters and checkpoints up to date."""
        return await rounds.keep_books(self.context)

    async def store_judgements(self) -> None:
        """Store what the judge says now."""
        lagging = await lags(self.context, list(self.projections.values()), self._log)
        await rounds.store_judgements(self.context, tuple(self.projections), lagging)

    async def prune(self) -> Round:
        """Forget what is older than the deduplication window."""
        return await rounds.prune(self.context)

    async def _follow_once(self, projection: Projection) -> Round:
        if not projection.is_followed:
            return Round()
        follower = self._resting.pop(projection.name, None) or Follower(self.context, projection, self.log)
        try:
            turn = await follower.follow(stops=lambda: False, until=await self.log.head())
        finally:
            await self.context.io.shielded(follower.leave())
            if follower.has_unsettled:
                self._resting[projection.name] = follower
        return Round(followed=turn.applied + turn.failed + turn.parked)

    async def run_once(self, *, batch: int) -> Round:
        """Do one whole round: every projection's work, the counters, and pruning."""
        total = Round()
        errors: list[Exception] = []
        await self.open()
        for result in await self.context.io.all([self._follow_once(p) for p in self.projections.values()]):
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
        total = total.plus(await self.keep_books()).plus(await self.prune())
        await self.store_judgements()
        if errors:
            raise errors[0]
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A projection as it was found. `has_work`: there are unresolved failures or parked events."""

    has_work: bool
    is_followed: bool


def _ensure(connection: Connection, projection: Projection) -> _Opened:
    """Make a projection's rows, and say how it was found. A changed order needs an empty line."""
    states.ensure(connection, projection.name, projection.order, "followed" if projection.is_followed else "pushed")
    counters.ensure(connection, projection.name)
    state = states.read(connection, projection.name)
    is_open = states.open_rows(connection, projection.name)
    if state is not None and state.ordering != projection.order:
        if is_open:
            raise ConfigurationError(
                f"Projection {projection.name!r} was registered with order={state.ordering!r} and has unresolved "
                f"failures or parked events; resolve them, or reset it, then change to order={projection.order.value!r}"
            )
        states.set_ordering(connection, projection.name, projection.order)
    return _Opened(has_work=is_open, is_followed=state is not None and state.mode == "followed")


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


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 1000:
        raise InvalidArgument(f"limit= takes a number from 1 to 1000, not {limit!r}")


def _id_of(given: UUID | str, unknown: type[ProjectionGuardError], what: str) -> UUID:
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise unknown(f"{given!r} is not the id of {what}: ids are UUIDs") from None
