"""The part of both guards that replays and rebuilds, and steers such jobs; see `_for_verifying` for comparing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from . import _executors
from ._core.asked import Asked
from ._core.slicing import SliceDone, SliceOrder
from ._executors import AnyExecutor, GuardFactory
from ._io.protocol import drive
from ._model import Page, Replay
from ._service import Service

__all__ = ["AsyncForReplaying", "ForReplaying"]


class ForReplaying:
    """Replays and rebuilds, blocking."""

    _service: Service

    def replay(
        self,
        name: str,
        *,
        from_sequence: int | None = None,
        to_sequence: int | None = None,
        stream_id: str | None = None,
        skip_failed: bool = False,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Apply events of the log again, and return how that went. Live events wait in the log meanwhile.

        Without `from_sequence` it begins at the checkpoint, with what is failed or parked included (`skip_failed`
        leaves that as it is), and goes to the log's end. With it, what is in the range, up to the checkpoint at most,
        is applied again on purpose. `stream_id` does so for one stream, from its beginning, and ends its taint.
        Interrupted or killed, the job goes on where it stopped with whichever worker takes it up. Raises
        `InvalidArgument`, `FailureBusy` while another one runs.
        """
        asked = Asked(
            actor=actor,
            from_sequence=from_sequence,
            to_sequence=to_sequence,
            stream_id=stream_id,
            skip_failed=skip_failed,
            events_per_second=events_per_second,
            note=note,
        )
        return drive(self._service.on_log.replay(name, asked))

    def rebuild(
        self,
        name: str,
        *,
        into: str | None = None,
        max_failures: int = 0,
        events_per_second: float | None = None,
        executor: AnyExecutor | None = None,
        guard_factory: GuardFactory | None = None,
        slices: int | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Clear the read model by `on_reset` and fill it again from the log's beginning; see `replay`.

        With `into=`, a name that is free, its `tables` are built beside the live ones, compared with them (`compared`),
        and exchanged for them in one transaction: nobody sees a half-built one. Where more than `max_failures` events
        fail there the job fails, and the live one stays; up to so many are failures from the exchange on, with what
        waits behind them parked. PostgreSQL: `into` is a schema; the handler must not name another one itself.

        With `executor=`, any `concurrent.futures.Executor` (or a callable that makes one, so that a broken one is
        replaced), the streams are divided into `slices`, by default eight for each of its workers, and each is replayed
        in order by tasks there. A pool of threads uses this guard; elsewhere `guard_factory=` ("module:attribute", or a
        function at the top of a module) makes each process its own. Raises `ExecutorLost`; see `resume_replay`.
        """
        asked = Asked(
            actor=actor,
            is_rebuild=True,
            into=into,
            max_failures=max_failures,
            events_per_second=events_per_second,
            note=note,
        )
        spreading = _executors.Spreading(
            executor=executor, guard_factory=guard_factory, slices=slices, here=self.run_slice
        )
        return drive(_executors.rebuild(self._service.on_log, self._service.context.io, name, asked, spreading))

    def start_replay(
        self,
        name: str,
        *,
        rebuild: bool = False,
        into: str | None = None,
        max_failures: int = 0,
        from_sequence: int | None = None,
        to_sequence: int | None = None,
        stream_id: str | None = None,
        skip_failed: bool = False,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Write a replay or rebuild down, to be run by a worker, and return at once."""
        asked = Asked(
            actor=actor,
            is_rebuild=rebuild or into is not None,
            into=into,
            max_failures=max_failures,
            from_sequence=from_sequence,
            to_sequence=to_sequence,
            stream_id=stream_id,
            skip_failed=skip_failed,
            events_per_second=events_per_second,
            note=note,
        )
        return drive(self._service.on_log.start_replay(name, asked))

    def replays(self, name: str | None = None, *, limit: int = 100, after: str | None = None) -> Page[Replay]:
        """Return replays and rebuilds, newest first, `limit` (1 to 1000) at a time."""
        return drive(self._service.on_log.replays(name, limit=limit, after=after))

    def replay_of(self, replay_id: UUID | str) -> Replay:
        """Return one replay or rebuild, as far as it has come. Raises `UnknownReplay`."""
        return drive(self._service.on_log.replay_of(replay_id))

    def pause_replay(self, replay_id: UUID | str, *, actor: str) -> Replay:
        """Let a replay rest; its projection goes on standing still."""
        return drive(self._service.on_log.steer(replay_id, "pause", actor=actor))

    def resume_replay(
        self,
        replay_id: UUID | str,
        *,
        executor: AnyExecutor | None = None,
        guard_factory: GuardFactory | None = None,
        actor: str,
    ) -> Replay:
        """Let a worker go on with a replay that rests.

        With `executor=`, see `rebuild`, one that was begun with that goes on here, to its end; also after its executor,
        or whoever ran it, was lost. Those that are lost keep their slices for a `lease`.
        """
        spreading = _executors.Spreading(
            executor=executor, guard_factory=guard_factory, slices=None, here=self.run_slice
        )
        return drive(
            _executors.go_on(self._service.on_log, self._service.context.io, replay_id, spreading, actor=actor)
        )

    def run_slice(self, order: SliceOrder) -> SliceDone:
        """Replay a slice of a rebuild: what a task of `executor=` does in its process. You need not call it."""
        return drive(self._service.on_log.run_slice(order))

    def cancel_replay(self, replay_id: UUID | str, *, actor: str) -> Replay:
        """End a replay where it is: what it has applied stays, and its projection goes on from its checkpoint."""
        return drive(self._service.on_log.steer(replay_id, "cancel", actor=actor))


class AsyncForReplaying:
    """Replays and rebuilds, awaited."""

    _service: Service

    async def replay(
        self,
        name: str,
        *,
        from_sequence: int | None = None,
        to_sequence: int | None = None,
        stream_id: str | None = None,
        skip_failed: bool = False,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Apply events of the log again, and return how that went. Live events wait in the log meanwhile.

        Without `from_sequence` it begins at the checkpoint, with what is failed or parked included (`skip_failed`
        leaves that as it is), and goes to the log's end. With it, what is in the range, up to the checkpoint at most,
        is applied again on purpose. `stream_id` does so for one stream, from its beginning, and ends its taint.
        Interrupted or killed, the job goes on where it stopped with whichever worker takes it up. Raises
        `InvalidArgument`, `FailureBusy` while another one runs.
        """
        asked = Asked(
            actor=actor,
            from_sequence=from_sequence,
            to_sequence=to_sequence,
            stream_id=stream_id,
            skip_failed=skip_failed,
            events_per_second=events_per_second,
            note=note,
        )
        return await self._service.on_log.replay(name, asked)

    async def rebuild(
        self,
        name: str,
        *,
        into: str | None = None,
        max_failures: int = 0,
        events_per_second: float | None = None,
        executor: AnyExecutor | None = None,
        guard_factory: GuardFactory | None = None,
        slices: int | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Clear the read model by `on_reset` and fill it again from the log's beginning; see `replay`.

        With `into=`, a name that is free, its `tables` are built beside the live ones, compared with them (`compared`),
        and exchanged for them in one transaction: nobody sees a half-built one. Where more than `max_failures` events
        fail there the job fails, and the live one stays; up to so many are failures from the exchange on, with what
        waits behind them parked. PostgreSQL: `into` is a schema; the handler must not name another one itself.

        With `executor=`, any `concurrent.futures.Executor` (or a callable that makes one, so that a broken one is
        replaced), the streams are divided into `slices`, by default eight for each of its workers, and each is replayed
        in order by tasks there. A pool of threads uses this guard; elsewhere `guard_factory=` ("module:attribute", or a
        function at the top of a module) makes each process its own. Raises `ExecutorLost`; see `resume_replay`.
        """
        asked = Asked(
            actor=actor,
            is_rebuild=True,
            into=into,
            max_failures=max_failures,
            events_per_second=events_per_second,
            note=note,
        )
        spreading = _executors.Spreading(
            executor=executor, guard_factory=guard_factory, slices=slices, here=self._on_this_loop()
        )
        return await _executors.rebuild(self._service.on_log, self._service.context.io, name, asked, spreading)

    async def start_replay(
        self,
        name: str,
        *,
        rebuild: bool = False,
        into: str | None = None,
        max_failures: int = 0,
        from_sequence: int | None = None,
        to_sequence: int | None = None,
        stream_id: str | None = None,
        skip_failed: bool = False,
        events_per_second: float | None = None,
        actor: str,
        note: str | None = None,
    ) -> Replay:
        """Write a replay or rebuild down, to be run by a worker, and return at once."""
        asked = Asked(
            actor=actor,
            is_rebuild=rebuild or into is not None,
            into=into,
            max_failures=max_failures,
            from_sequence=from_sequence,
            to_sequence=to_sequence,
            stream_id=stream_id,
            skip_failed=skip_failed,
            events_per_second=events_per_second,
            note=note,
        )
        return await self._service.on_log.start_replay(name, asked)

    async def replays(self, name: str | None = None, *, limit: int = 100, after: str | None = None) -> Page[Replay]:
        """Return replays and rebuilds, newest first, `limit` (1 to 1000) at a time."""
        return await self._service.on_log.replays(name, limit=limit, after=after)

    async def replay_of(self, replay_id: UUID | str) -> Replay:
        """Return one replay or rebuild, as far as it has come. Raises `UnknownReplay`."""
        return await self._service.on_log.replay_of(replay_id)

    async def pause_replay(self, replay_id: UUID | str, *, actor: str) -> Replay:
        """Let a replay rest; its projection goes on standing still."""
        return await self._service.on_log.steer(replay_id, "pause", actor=actor)

    async def resume_replay(
        self,
        replay_id: UUID | str,
        *,
        executor: AnyExecutor | None = None,
        guard_factory: GuardFactory | None = None,
        actor: str,
    ) -> Replay:
        """Let a worker go on with a replay that rests.

        With `executor=`, see `rebuild`, one that was begun with that goes on here, to its end; also after its executor,
        or whoever ran it, was lost. Those that are lost keep their slices for a `lease`.
        """
        spreading = _executors.Spreading(
            executor=executor, guard_factory=guard_factory, slices=None, here=self._on_this_loop()
        )
        return await _executors.go_on(self._service.on_log, self._service.context.io, replay_id, spreading, actor=actor)

    async def run_slice(self, order: SliceOrder) -> SliceDone:
        """Replay a slice of a rebuild: what a task of `executor=` does in its process. You need not call it."""
        return await self._service.on_log.run_slice(order)

    def _on_this_loop(self) -> Callable[[SliceOrder], SliceDone]:
        """Return what a thread of a pool calls: it waits there for what is done on the loop."""
        loop = asyncio.get_running_loop()
        return lambda order: asyncio.run_coroutine_threadsafe(self.run_slice(order), loop).result()

    async def cancel_replay(self, replay_id: UUID | str, *, actor: str) -> Replay:
        """End a replay where it is: what it has applied stays, and its projection goes on from its checkpoint."""
        return await self._service.on_log.steer(replay_id, "cancel", actor=actor)
