"""Replays, rebuilds, verifications: durable jobs. While a replay or rebuild lasts, its projection stands still.

A replay applies again what is at or below the checkpoint, on a row of its own beside the partitions, and never moves
the checkpoint; from the checkpoint on it follows. A rebuild is a reset followed from the beginning. Whoever runs a job
holds its lease; the cursor and what was counted are committed with the effects, so that another one goes on where he
stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import Connection

from .._model import EventRecord, Replay
from .._notices import Notice, NoticeKind
from .._store import audits, gates, partitions, replays, set_aside, shadows, slices, standing_still, states
from .._store.drift import Comparing
from .._store.replays import Stands
from ..errors import FailureBusy, RebuildRefused, UnknownReplay
from . import building, slicing, verifying
from .admin import pass_barrier
from .clearing import clear, forget
from .context import Context, new_token, transact
from .course import HELD_BY_A_FAILURE, Again, Beside, Course
from .following import Followed, Follower
from .log import EventLog
from .projection import Projection
from .spreading import Spread, Workplace

__all__ = ["run", "steer"]

_SLICE_SECONDS: Final = 0.5
_STILL_RUN_BY_OTHERS_SECONDS: Final = 0.1
_WITHOUT_EVENTS: Final = ("clear", "make", "still", "exchange", "compare")
_ON_ONE_ROW: Final = ("again", "build", "rest", *verifying.MENDING)


async def run(
    context: Context,
    projection: Projection,
    log: EventLog,
    job: UUID,
    *,
    token: str,
    stops: Callable[[], bool] = lambda: False,
    workplace: Workplace | None = None,
) -> Replay:
    """Run a job to its end, or until it is paused or `stops`; where somebody else runs it, wait for him.

    With a `workplace`, slices are handed out to tasks; whoever runs it without one replays them by himself.
    Raises what the source or the store raises; the job then goes on with whoever takes it up.
    """
    what = f"{projection.name}: replay {job}"
    while True:
        mine = await transact(
            context,
            lambda connection: replays.claim(connection, job, token=token, lease_seconds=context.lease_seconds),
            what=what,
        )
        if mine:
            try:
                await _Run(context, projection, log, job, token, workplace).to_the_end(stops)
            finally:
                await context.io.shielded(
                    transact(context, lambda connection: replays.let_go(connection, job, token=token), what=what)
                )
        seen = await _seen(context, job)
        if seen.is_finished or seen.status == "paused" or stops():
            return seen
        await context.io.sleep(_STILL_RUN_BY_OTHERS_SECONDS)


async def _seen(context: Context, job: UUID) -> Replay:
    seen = await transact(context, lambda connection: replays.one(connection, job), what=f"replay {job}")
    if seen is None:
        raise UnknownReplay(f"There is no replay {job}")
    return seen


class _Run:
    """One who runs a job."""

    def __init__(
        self,
        context: Context,
        projection: Projection,
        log: EventLog,
        job: UUID,
        token: str,
        workplace: Workplace | None,
    ) -> None:
        self._context = context
        self._projection = projection
        self._log = log
        self._job = job
        self._token = token
        self._workplace = workplace
        self._spread: Spread | None = None
        self._slices: int | None = None
        self._follower: Follower | None = None
        self._phase = ""
        self._waits: str | None = None
        self._mends_to: int | None = None
        self._rounds = 0

    async def to_the_end(self, stops: Callable[[], bool]) -> None:
        """Walk through the job's phases, in slices between which he looks what is wanted."""
        job = await _seen(self._context, self._job)
        if job.status == "pending" and job.kind != "verify":  # that lets nothing stand still yet
            await pass_barrier(self._context, self._projection)
        try:
            await building.check_tables(self._context, self._projection, job)
            while not stops():
                stands = await self._go_on(job)
                self._slices = None if stands is None else stands.slices
                if stands is None or stands.wanted == "pause":
                    return
                if stands.wanted == "cancel":
                    if self._spread is not None:
                        await self._spread.come_to_rest()
                    if job.built_into is None:  # whoever ran it before may be in a call that has outlasted his lease
                        await pass_barrier(self._context, self._projection)
                    await self._finish("cancelled")
                    return
                if await self._walk(job, stands.phase):
                    return
        except RebuildRefused as refused:
            await self._finish("failed", str(refused))
        finally:
            await self._context.io.shielded(self._leave())

    async def _walk(self, job: Replay, phase: str) -> bool:
        """Do a part of the job; True where it has ended."""
        if phase in _WITHOUT_EVENTS:
            return await self._without_events(job, phase)
        if phase == slicing.PHASE and self._workplace is not None:
            return await self._hand_out(job, self._workplace)
        if (self._follower is None or phase != self._phase) and not await self._set_out(job, phase):
            return False
        assert self._follower is not None
        if await self._slice(self._follower, job, phase):
            return await self._phase_ended(job, phase)
        if self._waits == HELD_BY_A_FAILURE:  # its retries stand still as long as this lasts: the follower goes on
            await self._finish("failed", "a failure holds the whole projection; once it is healed, following goes on")
            return True
        return False

    async def _hand_out(self, job: Replay, workplace: Workplace) -> bool:
        """Let tasks replay the slices for a while; True where the job has ended."""
        assert self._slices is not None
        if self._spread is None:
            self._spread = Spread(self._context, self._projection, job, workplace, token=self._token, of=self._slices)
        if await self._spread.round(job.ends_at):
            return await self._phase_ended(job, slicing.PHASE)
        return False

    async def _without_events(self, job: Replay, phase: str) -> bool:
        context, projection = self._context, self._projection
        if phase == "clear":
            await self._clear(job)
        elif phase == "make":
            await building.make(context, projection, job, slices_number=self._slices)
        elif phase == "still":
            await (verifying if job.kind == "verify" else building).say_how_far(context, projection, job)
        elif phase == "compare":
            return await self._compare(job)
        else:
            if await building.exchange(context, projection, job):
                self._tell_end("completed")
            return True
        return False

    async def _set_out(self, job: Replay, phase: str) -> bool:
        """Take a follower for a phase; False where there is nothing to do in it, and the next one has begun."""
        await self._leave()
        if phase == "build" and self._phase != phase:
            self._rounds += 1
        self._phase, self._mends_to = phase, None
        if phase in verifying.MENDING:
            self._mends_to = await verifying.next_mending(
                self._context, self._projection, job, phase, rounds=self._rounds
            )
            if self._mends_to is None:
                return False
        self._follower = Follower(self._context, self._projection, self._log, self._course(job, phase))
        return True

    async def _compare(self, job: Replay) -> bool:
        """Compare a copy with the live read model, as that is where the two stand now."""
        is_other = await verifying.compare(self._context, self._projection, await _seen(self._context, job.id))
        if is_other is not None:
            self._tell_end("drifted" if is_other else "alike")
        return True

    async def _leave(self) -> None:
        if self._spread is not None:
            await self._spread.leave()
            self._spread = None
        if self._follower is not None:
            await self._follower.leave()
            self._follower = None

    async def _go_on(self, job: Replay) -> Stands | None:
        """Prolong the lease, say that it runs (or rests), and return what is wanted and the phase."""
        awaited = verifying.STILL if job.kind == "verify" else ()

        def write(connection: Connection) -> Stands | None:
            stands = replays.go_on(
                connection, self._job, token=self._token, status="running", lease_seconds=self._context.lease_seconds
            )
            if stands is not None and stands.wanted == "pause":
                if stands.phase in awaited:  # the live one would wait for whoever has paused it
                    return replace(stands, wanted="run")
                replays.go_on(connection, self._job, token=self._token, status="paused", lease_seconds=0.0)
            return stands

        return await transact(self._context, write, what=f"replay {self._job}")

    def _course(self, job: Replay, phase: str) -> Course:
        if phase == slicing.PHASE and self._slices is not None:
            return slicing.course_of(self._projection, job, of=self._slices, events_per_second=job.events_per_second)
        again = None
        if phase == "again":
            again = Again(
                job=job.id,
                only_open=job.kind == "open",
                skip_failed=job.skip_failed,
                stream_id=job.stream_id,
            )
        beside = None
        if job.built_into is not None:
            streams = None if job.comparing is None else Comparing.of(job.comparing).streams
            beside = Beside(
                job=job.id,
                into=job.built_into,
                tables=self._projection.tables,
                is_copy=job.kind == "verify",
                mends=phase in verifying.MENDING,
                streams=None if streams is None else frozenset(streams),
            )
        states = {"rebuilding"} if job.kind in ("rebuild", "beside") else {"replaying"}
        if phase in ("build", "mend"):  # the live one is no concern of it; also where a person has paused that
            states = {"active", "paused"}
        is_awaited = job.kind == "verify" and phase in verifying.STILL
        return Course(
            states=frozenset(states),
            again=again,
            beside=beside,
            job=job.id,
            events_per_second=None if is_awaited else job.events_per_second,
        )

    async def _slice(self, follower: Follower, job: Replay, phase: str) -> bool:
        """Follow for a while; True where the phase has come to its end."""
        end = monotonic() + _SLICE_SECONDS
        until = await self._until(job, phase)
        turn = await follower.follow(stops=lambda: monotonic() > end, until=until)
        self._waits = turn.waits
        rows = self._slices if phase == slicing.PHASE else self._projection.partitions
        is_whole = phase in _ON_ONE_ROW or turn.partitions == rows
        if is_whole and turn.position is not None and (turn.position >= until or await self._is_all(turn, until)):
            return True
        if turn.waits is not None or not turn.partitions:
            await self._context.io.sleep(0.05)
        return False

    async def _is_all(self, turn: Followed, until: int) -> bool:
        """Return whether the log has nothing more up to there: one that comes to events' positions only stays below."""
        if turn.position is None or turn.waits is not None or turn.applied or turn.failed or turn.parked:
            return False
        if await self._log.head() < until:
            return False
        rest = await self._log.read(turn.position, 1, until)
        return not rest.is_held and rest.position <= turn.position

    async def _until(self, job: Replay, phase: str) -> int:
        if phase in verifying.MENDING and self._mends_to is not None:
            return self._mends_to
        if job.built_into is not None:
            return (await _seen(self._context, job.id)).ends_at
        if job.kind == "stream":
            return await self._end_of_stream(job)
        if phase != "again" or job.kind != "open":
            return job.ends_at
        high = await transact(
            self._context,
            lambda connection: max(row.cursor for row in partitions.rows(connection, job.projection_name)),
            what=f"replay {job.id}",
        )
        return min(high, job.ends_at) if job.to_sequence is not None else high

    async def _end_of_stream(self, job: Replay) -> int:
        """Return up to where its events were cleared: what was in flight when the job was begun was, too."""
        record = EventRecord(event_id="", event_type="", stream_id=job.stream_id)
        partition = self._projection.partition(record)

        def look(connection: Connection) -> int:
            rows = partitions.rows(connection, job.projection_name)
            return max((row.cursor for row in rows if row.partition == partition), default=job.ends_at)

        return await transact(self._context, look, what=f"replay {job.id}")

    async def _phase_ended(self, job: Replay, phase: str) -> bool:
        """Begin the next phase, or end the job; True where it has ended."""
        if phase in verifying.MENDING:
            await self._leave()
            return False
        if job.kind == "verify":
            await verifying.came_to_its_end(self._context, self._projection, job, phase)
            return False
        if phase == slicing.PHASE:
            await self._leave()
            await building.join_slices(self._context, self._projection, job)
            return False
        if job.kind == "beside":
            if phase == "build":
                await building.stand_still(self._context, self._projection, job)
            else:
                await building.be_ready(self._context, job)
            return False
        if phase == "again" and job.kind == "open":

            def write(connection: Connection) -> None:
                partitions.end_replay(connection, job.projection_name)
                replays.next_phase(connection, job.id, "follow")

            await transact(self._context, write, what=f"replay {job.id}")
            return False
        await self._finish("completed")
        return True

    async def _clear(self, job: Replay) -> None:
        """Let the application clear its read model, or one stream of it; if it does not want to, the job has failed."""

        def then(connection: Connection) -> None:
            if job.kind == "rebuild":
                forget(connection, self._context, self._projection, actor=job.actor)
                if self._slices is not None:
                    slices.begin(connection, job.projection_name, self._slices, job.begins_after)
                replays.next_phase(connection, job.id, "follow" if self._slices is None else slicing.PHASE)
            else:
                partitions.begin_replay(connection, job.projection_name, job.begins_after)
                replays.next_phase(connection, job.id, "again")

        def is_due(connection: Connection) -> bool:
            states.hold_row(connection, job.projection_name)  # clearing may outlast the lease of who has begun it
            seen = replays.one(connection, job.id)
            return seen is not None and not seen.is_finished and seen.phase == "clear"

        try:
            await clear(self._context, self._projection, is_due=is_due, then=then, stream_id=job.stream_id)
        except Exception as error:
            await self._finish("failed", f"clearing the read model raised {type(error).__name__}")
            raise

    async def _finish(self, status: str, error: str | None = None) -> None:
        name, job = self._projection.name, self._job

        def write(connection: Connection) -> bool:
            state = states.hold_row(connection, name)
            seen = replays.one(connection, job)
            if seen is None or seen.is_finished:
                return False
            partitions.end_replay(connection, name)
            if seen.phase == slicing.PHASE:
                (slices.leave if seen.built_into is None else slices.end)(connection, name)
            if seen.built_into is not None and seen.phase != "make":
                shadows.drop(connection, seen.built_into, self._projection.tables)
                set_aside.clear(connection, job)
            replays.end(connection, job, status, error)
            if seen.kind == "verify" and state.state == "replaying":
                standing_still.go_on(connection, name)
            elif state.state in ("replaying", "rebuilding"):
                states.end_job(connection, name, actor=seen.actor, reason=None)
            if status == "completed" and seen.stream_id is not None:
                gates.untaint(connection, name, seen.stream_id)
            return True

        if await transact(self._context, write, what=f"{name}: replay {job}"):
            self._tell_end(status)

    def _tell_end(self, status: str) -> None:
        ends = {"completed": NoticeKind.REPLAYED, "alike": NoticeKind.VERIFIED, "drifted": NoticeKind.VERIFIED}
        kind = ends.get(status, NoticeKind.REPLAY_STOPPED)
        self._context.tell([Notice(kind=kind, projection=self._projection.name, after=status)])
        self._context.wake(0.0)


async def steer(context: Context, job: UUID, wanted: Literal["run", "pause", "cancel"], *, actor: str) -> Replay:
    """Say that a job is to go on, to rest, or to end where it is. Raises `UnknownReplay`, `FailureBusy`."""
    action_id = new_token()

    def write(connection: Connection) -> Replay:
        seen = replays.one(connection, job)
        if seen is None:
            raise UnknownReplay(f"There is no replay {job}")
        if audits.details_of(connection, seen.projection_name, action_id) is not None:
            return seen
        changed = replays.want(connection, job, wanted)
        if changed is None:
            raise FailureBusy(f"Replay {job} is {seen.status} already")
        audits.write(
            connection,
            action_id=action_id,
            actor=actor,
            action={"run": "resume_replay", "pause": "pause_replay", "cancel": "cancel_replay"}[wanted],
            projection=seen.projection_name,
            details={"job": str(job), "before": seen.wanted, "after": wanted},
        )
        return changed

    changed = await transact(context, write, what=f"replay {job}")
    context.wake(0.0)
    return changed
