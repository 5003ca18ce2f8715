"""What both guards do with the log, once, as coroutines: following it, and replays of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from ._core import admin, beginning, begun, replaying, rounds, slicing, spreading
from ._core.asked import Asked
from ._core.context import Context, new_token, transact
from ._core.following import Followed, Follower
from ._core.lagging import lags
from ._core.log import EventLog
from ._core.projection import Projection
from ._core.rounds import Round
from ._core.slicing import SliceDone, SliceOrder
from ._core.spreading import Workplace
from ._health import Lag
from ._model import Page, Replay, SkippedRange
from ._store import counters, reading, replays, states
from .errors import ConfigurationError, InvalidArgument, ProjectionGuardError, UnknownReplay

__all__ = ["OnLog", "Opened", "Registered", "check_limit", "ensure_rows", "id_of"]

T = TypeVar("T")


class Registered(Protocol):
    """The projections of a guard, and its database."""

    context: Context
    projections: dict[str, Projection]

    def named(self, name: str) -> Projection:
        """Return a projection. Raises `UnknownProjection`."""
        ...

    def runnable(self) -> frozenset[str]:
        """Name the projections whose failures can be retried here."""
        ...

    async def open(self, names: Sequence[str] | None = None) -> None:
        """Meet the database for the first time."""
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Look something up."""
        ...

    async def lags(self, names: Sequence[str]) -> Mapping[str, Lag]:
        """Say how far behind the log projections are."""
        ...


class OnLog:
    """What can be done with the log of one guard; a guard without one refuses it."""

    def __init__(self, service: Registered, log: EventLog | None) -> None:
        self._service = service
        self._log = log
        self._resting: dict[str, Follower] = {}

    @property
    def is_there(self) -> bool:
        """True where the guard has a log."""
        return self._log is not None

    @property
    def log(self) -> EventLog:
        """The log that is followed. Raises `ConfigurationError` where the guard has none."""
        if self._log is None:
            raise ConfigurationError(
                "This guard has no event log to read from: make it with source=, for example a SqlEventSource"
            )
        return self._log

    async def lags(self, names: Sequence[str]) -> Mapping[str, Lag]:
        """Say how far behind the log projections are."""
        return await lags(self._service.context, [self._service.named(name) for name in names], self._log)

    # -- following

    async def catch_up(self, names: Sequence[str] | None) -> tuple[Followed, ...]:
        """Apply what is in the log now."""
        log = self.log
        wanted = (
            [name for name in self._service.projections if self._service.projections[name].is_followed]
            if names is None
            else names
        )
        await self._service.open(wanted)
        results = await self._service.context.io.all(
            [self._catch_up(self._service.named(name), log) for name in wanted]
        )
        for result in results:
            if isinstance(result, Exception):
                raise result
        return tuple(result for result in results if isinstance(result, Followed))

    async def _catch_up(self, projection: Projection, log: EventLog) -> Followed:
        follower = self._resting.pop(projection.name, None) or Follower(self._service.context, projection, log)
        try:
            return await beginning.catch_up(self._service.context, projection, log, follower)
        finally:
            if follower.has_unsettled:
                self._resting[projection.name] = follower

    async def wait_for(self, name: str, sequence: int, timeout_seconds: float) -> None:
        """Wait until a projection has come to a sequence."""
        projection = self._service.named(name)
        _ = self.log
        if isinstance(sequence, bool) or sequence < 0 or not timeout_seconds >= 0:
            raise InvalidArgument("wait_for takes a sequence and a timeout in seconds, both 0 or more")
        await self._service.open([name])
        self._service.context.wake(0.0)
        await beginning.wait_for(self._service.context, projection, sequence, timeout_seconds)

    async def follow_from(self, name: str, sequence: int, *, actor: str, note: str | None) -> None:
        """Let following begin at a place that a person names."""
        admin.check_actor(actor)
        projection = self._service.named(name)
        _ = self.log
        await self._service.open([])
        what = f"{name}: first contact"
        await transact(self._service.context, lambda connection: ensure_rows(connection, projection), what=what)
        await beginning.follow_from(self._service.context, projection, sequence, actor=actor, note=note)

    # -- replays

    async def replay(self, name: str, asked: Asked, workplace: Workplace | None = None) -> Replay:
        """Begin a replay and run it to its end; with a workplace, by tasks there."""
        projection = await self._replayable(name, asked)
        if workplace is not None:
            await spreading.check(self._service.context, projection, workplace)
        token = new_token()
        job = await begun.begin(self._service.context, projection, self.log, asked, token=token)
        return await replaying.run(
            self._service.context, projection, self.log, job.id, token=token, workplace=workplace
        )

    async def go_on(self, replay_id: UUID | str, workplace: Workplace, *, actor: str) -> Replay:
        """Let a rebuild in slices go on with tasks at a workplace, to its end."""
        log = self.log
        seen = await self.replay_of(replay_id)
        if await self._service.read(lambda connection: replays.slices_of(connection, seen.id)) is None:
            raise InvalidArgument(f"Replay {seen.id} was not begun with executor=, and is in one piece: leave it out")
        await self.wish(seen.id, "run", actor=actor)
        projection = self._service.named(seen.projection_name)
        return await replaying.run(
            self._service.context, projection, log, seen.id, token=new_token(), workplace=workplace
        )

    async def run_slice(self, order: SliceOrder) -> SliceDone:
        """Replay slices, as a task of an executor; what goes wrong is put into words."""
        try:
            projection = self._service.named(order.projection)
            log = self.log
            await self._service.open([order.projection])
            done = await slicing.work_on_slice(self._service.context, projection, log, order)
            await rounds.keep_books(self._service.context)
        except Exception as error:
            return slicing.failed(error)
        return done

    async def start_replay(self, name: str, asked: Asked, workplace: Workplace | None = None) -> Replay:
        """Begin a replay, to be run by a worker; or by tasks at a workplace, which have looked for their guard then."""
        projection = await self._replayable(name, asked)
        if workplace is not None:
            await spreading.check(self._service.context, projection, workplace)
        return await begun.begin(self._service.context, projection, self.log, asked, token=None)

    async def _replayable(self, name: str, asked: Asked) -> Projection:
        admin.check_actor(asked.actor)
        projection = self._service.named(name)
        _ = self.log
        await self._service.open([name])
        return projection

    async def replays(self, name: str | None, *, limit: int, after: str | None) -> Page[Replay]:
        """Read a page of replays, newest first."""
        if name is not None:
            self._service.named(name)
        check_limit(limit)
        await self._service.open()
        return await self._service.read(lambda connection: replays.page(connection, name, limit=limit, after=after))

    async def replay_of(self, replay_id: UUID | str) -> Replay:
        """Read one replay. Raises `UnknownReplay`."""
        identity = id_of(replay_id, UnknownReplay, "a replay")
        await self._service.open()
        found = await self._service.read(lambda connection: replays.one(connection, identity))
        if found is None:
            raise UnknownReplay(f"There is no replay {identity}")
        return found

    async def steer(self, replay_id: UUID | str, wanted: Literal["run", "pause", "cancel"], *, actor: str) -> Replay:
        """Let a replay go on, rest or end. One that nobody runs is ended here."""
        log = self.log  # whoever cancels a job that nobody runs ends it himself
        changed = await self.wish(replay_id, wanted, actor=actor)
        if wanted != "cancel":
            return changed
        projection = self._service.named(changed.projection_name)
        return await replaying.run(self._service.context, projection, log, changed.id, token=new_token())

    async def wish(self, replay_id: UUID | str, wanted: Literal["run", "pause", "cancel"], *, actor: str) -> Replay:
        """Say what is wanted of a replay: whoever runs it does that, or takes it up for it. It takes no log."""
        admin.check_actor(actor)
        seen = await self.replay_of(replay_id)
        self._service.named(seen.projection_name)
        return await replaying.steer(self._service.context, seen.id, wanted, actor=actor)

    async def replays_due(self) -> dict[str, UUID]:
        """Name the replays that nobody runs at the moment, of the projections that are followed here."""
        due = await self._service.read(replays.due)
        return {name: job for name, job in due.items() if name in self._service.projections and self._log is not None}

    async def run_replay(
        self, name: str, job: UUID, *, stops: Callable[[], bool], workplace: Workplace | None = None
    ) -> Replay:
        """Run a replay that nobody runs."""
        return await replaying.run(
            self._service.context,
            self._service.named(name),
            self.log,
            job,
            token=new_token(),
            stops=stops,
            workplace=workplace,
        )

    def listening(self, heard: Callable[[], object]) -> AbstractAsyncContextManager[None]:
        """Say when another process has something in the log for one of these projections, while the block runs."""
        if self._log is None:
            return nullcontext()
        return self._service.context.io.listening(lambda name: heard() if name in self._service.projections else None)

    async def followed(self) -> list[str]:
        """Name the projections that are followed here."""
        await self._service.open()
        return [projection.name for projection in self._service.projections.values() if projection.is_followed]

    def follower(self, name: str) -> Follower:
        """Make a follower."""
        return Follower(self._service.context, self._service.named(name), self.log)

    async def skipped(self, name: str, *, limit: int, after: str | None) -> Page[SkippedRange]:
        """Read a page of the log's ranges in which there was nothing, newest first."""
        self._service.named(name)
        check_limit(limit)
        await self._service.open([name])
        return await self._service.read(
            lambda connection: reading.skipped_page(connection, name, limit=limit, after=after)
        )

    async def follow_once(self, name: str) -> Round:
        """Follow one projection, if it is followed, to the end that the log has now."""
        projection = self._service.named(name)
        if not projection.is_followed:
            return Round()
        follower = self._resting.pop(projection.name, None) or Follower(self._service.context, projection, self.log)
        try:
            turn = await follower.follow(stops=lambda: False, until=await self.log.head())
        finally:
            await self._service.context.io.shielded(follower.leave())
            if follower.has_unsettled:
                self._resting[projection.name] = follower
        return Round(followed=turn.applied + turn.failed + turn.parked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A projection as it was found. `has_work`: there are unresolved failures or parked events."""

    has_work: bool
    is_followed: bool


def ensure_rows(connection: Connection, projection: Projection) -> Opened:
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
        if replays.unfinished(connection, projection.name) is not None:  # what waits beside is set aside in that order
            busy = admin.why_busy(connection, projection, state.state)
            raise ConfigurationError(f"{busy}, then change order={state.ordering!r} to {projection.order.value!r}")
        states.set_ordering(connection, projection.name, projection.order)
    return Opened(has_work=is_open, is_followed=state is not None and state.mode == "followed")


def check_limit(limit: object) -> None:
    """Raise `InvalidArgument` for a page's length that cannot be."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 1000:
        raise InvalidArgument(f"limit= takes a number from 1 to 1000, not {limit!r}")


def id_of(given: UUID | str, unknown: type[ProjectionGuardError], what: str) -> UUID:
    """Read an id. Raises the error given for what is none."""
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise unknown(f"{given!r} is not the id of {what}: ids are UUIDs") from None
