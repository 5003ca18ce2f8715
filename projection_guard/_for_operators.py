"""The operators' part of both guards: failures, streams, parked events, the audit log, bulk actions, history."""

from __future__ import annotations

from uuid import UUID

from ._alerts import OpenAlert, TestedReceiver
from ._history import History
from ._io.protocol import drive
from ._model import Failure, FailureFilter, FailureGroup, Page
from ._on_streams import history_of, untaint
from ._on_workers import workers_of
from ._records import AuditEntry, BulkAction, Parked, Strategy, StreamHistory, WorkerState
from ._service import Service

__all__ = ["AsyncForOperators", "ForOperators"]


class ForOperators:
    """What operators look at and do, blocking."""

    _service: Service

    def failures(
        self,
        name: str | None = None,
        *,
        where: FailureFilter | None = None,
        include_resolved: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Failure]:
        """Return failures, newest first, `limit` (1 to 1000) at a time; give a page's `after` to get the next.

        Without `include_resolved`, or a `state` in `where`, those that are unresolved.
        """
        return drive(
            self._service.on_failures.failures(
                name, where=where, include_resolved=include_resolved, limit=limit, after=after
            )
        )

    def failure_groups(
        self,
        name: str | None = None,
        *,
        where: FailureFilter | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[FailureGroup]:
        """Return failures that are alike (their `fingerprint` is one) as groups, the biggest first.

        Without a `state` in `where`, those that are unresolved. A group that grows or shrinks between two pages may be
        seen twice or not at all; any other is seen once.
        """
        return drive(self._service.on_failures.failure_groups(name, where=where, limit=limit, after=after))

    def count_failures(self, where: FailureFilter) -> int:
        """Count failures; without a `state` in `where`, those that are unresolved."""
        return drive(self._service.on_failures.count_failures(where))

    def parked(
        self, name: str, *, stream_id: str | None = None, limit: int = 100, after: str | None = None
    ) -> Page[Parked]:
        """Return parked events stream by stream, those of a stream in the order in which they will be drained."""
        return drive(self._service.on_failures.parked(name, stream_id=stream_id, limit=limit, after=after))

    def stream(self, name: str, stream_id: str, *, limit: int = 100, after: str | None = None) -> StreamHistory:
        """Return one stream through one projection: how it stands, and a page of its events, newest first.

        Newest first, since what has failed or waits stands at a stream's end. Followed, the events are read from the
        log, where the source finds streams (`read_stream`); else from what is on record: applied events then go back as
        far as `dedupe_window`, or are not listed. `applied_events` says which. One that nobody knows has no events.
        """
        return drive(history_of(self._service, name, stream_id, limit=limit, after=after))

    def untaint(
        self, name: str, stream_id: str, *, actor: str, tainted_reason: str | None = None, note: str | None = None
    ) -> bool:
        """End a stream's taint, whose read model you have mended by hand, and write down who said so.

        False where it is not tainted. Give `tainted_reason` as you saw it, and a taint that came since, for another
        reason, is not ended. Events that were skipped there count as mended by hand from then on. With `order="global"`
        the one stream is "". Raises `InvalidArgument`, `UnknownProjection`; `FailureBusy` where the reason is another
        one, or a replay, rebuild or verification is under way.
        """
        return drive(untaint(self._service, name, stream_id, tainted_reason=tainted_reason, actor=actor, note=note))

    def audit(
        self,
        name: str | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        failure_id: UUID | str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[AuditEntry]:
        """Return who did what, newest first: to one projection or all, by one actor, of one kind, to one failure."""
        return drive(
            self._service.on_failures.audit(
                name, actor=actor, action=action, failure_id=failure_id, limit=limit, after=after
            )
        )

    def propose_bulk(
        self, strategy: Strategy, *, where: FailureFilter, actor: str, note: str | None = None
    ) -> BulkAction:
        """Count what a strategy for all unresolved failures that `where` means would touch; change nothing.

        The `id` of what is returned confirms it, within 10 minutes. Only failures that had failed by then are touched
        later. Raises `InvalidArgument` for a filter that says nothing, or that names what is resolved.
        """
        return drive(self._service.on_bulk.propose(strategy, where, actor=actor, note=note))

    def confirm_bulk(self, action_id: UUID | str, *, actor: str) -> BulkAction:
        """Let a worker do what was proposed, failure by failure, each as `resolve` does, the oldest first.

        It is run where all of its `projections` are registered. Retries stand still while their projection is paused.
        Raises `UnknownBulkAction`, `InvalidArgument` where the proposal has expired, `FailureBusy` where it was
        confirmed already.
        """
        return drive(self._service.on_bulk.confirm(action_id, actor=actor))

    def bulk_action(self, action_id: UUID | str) -> BulkAction:
        """Return one bulk action, as far as it has come. Raises `UnknownBulkAction`."""
        return drive(self._service.on_bulk.one(action_id))

    def bulk_actions(self, *, limit: int = 100, after: str | None = None) -> Page[BulkAction]:
        """Return bulk actions, proposals among them, newest first, `limit` (1 to 1000) at a time."""
        return drive(self._service.on_bulk.page(limit=limit, after=after))

    def cancel_bulk(self, action_id: UUID | str, *, actor: str) -> BulkAction:
        """End a bulk action where it is; where it runs at the moment, after the failure in hand.

        Raises `UnknownBulkAction`, `FailureBusy` where it has ended.
        """
        return drive(self._service.on_bulk.cancel(action_id, actor=actor))

    def history(self, name: str, *, hours: float = 24.0, points: int = 96) -> History:
        """Return how a projection did in the last hours (up to 168), in at most so many points (2 to 500).

        Workers take a sample a minute; where none did, a point has None. Raises `UnknownProjection`, `InvalidArgument`.
        """
        return drive(self._service.on_history.of(name, hours=hours, points=points))

    def histories(self, *, hours: float = 3.0, points: int = 36) -> tuple[History, ...]:
        """Return the histories of all projections of this guard, in the order in which they were registered."""
        return drive(self._service.on_history.of_each(None, hours=hours, points=points))

    def workers(self) -> tuple[WorkerState, ...]:
        """Return the workers that are on record, the oldest first: those at work, and those silent for up to a day."""
        return drive(workers_of(self._service))

    def alerts(self) -> tuple[OpenAlert, ...]:
        """Return what people were told of and is not over, the oldest first; of all projections in the database."""
        return drive(self._service.on_alerts.open_alerts())

    def test_alert(self) -> tuple[TestedReceiver, ...]:
        """Give every receiver a test message now, and return how each has taken it.

        Nothing is put on record or tried again. Raises `ConfigurationError` where there are no receivers.
        """
        return drive(self._service.on_alerts.test())


class AsyncForOperators:
    """What operators look at and do, awaited."""

    _service: Service

    async def failures(
        self,
        name: str | None = None,
        *,
        where: FailureFilter | None = None,
        include_resolved: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[Failure]:
        """Return failures, newest first, `limit` (1 to 1000) at a time; give a page's `after` to get the next.

        Without `include_resolved`, or a `state` in `where`, those that are unresolved.
        """
        return await self._service.on_failures.failures(
            name, where=where, include_resolved=include_resolved, limit=limit, after=after
        )

    async def failure_groups(
        self,
        name: str | None = None,
        *,
        where: FailureFilter | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[FailureGroup]:
        """Return failures that are alike (their `fingerprint` is one) as groups, the biggest first.

        Without a `state` in `where`, those that are unresolved. A group that grows or shrinks between two pages may be
        seen twice or not at all; any other is seen once.
        """
        return await self._service.on_failures.failure_groups(name, where=where, limit=limit, after=after)

    async def count_failures(self, where: FailureFilter) -> int:
        """Count failures; without a `state` in `where`, those that are unresolved."""
        return await self._service.on_failures.count_failures(where)

    async def parked(
        self, name: str, *, stream_id: str | None = None, limit: int = 100, after: str | None = None
    ) -> Page[Parked]:
        """Return parked events stream by stream, those of a stream in the order in which they will be drained."""
        return await self._service.on_failures.parked(name, stream_id=stream_id, limit=limit, after=after)

    async def stream(self, name: str, stream_id: str, *, limit: int = 100, after: str | None = None) -> StreamHistory:
        """Return one stream through one projection: how it stands, and a page of its events, newest first.

        Newest first, since what has failed or waits stands at a stream's end. Followed, the events are read from the
        log, where the source finds streams (`read_stream`); else from what is on record: applied events then go back as
        far as `dedupe_window`, or are not listed. `applied_events` says which. One that nobody knows has no events.
        """
        return await history_of(self._service, name, stream_id, limit=limit, after=after)

    async def untaint(
        self, name: str, stream_id: str, *, actor: str, tainted_reason: str | None = None, note: str | None = None
    ) -> bool:
        """End a stream's taint, whose read model you have mended by hand, and write down who said so.

        False where it is not tainted. Give `tainted_reason` as you saw it, and a taint that came since, for another
        reason, is not ended. Events that were skipped there count as mended by hand from then on. With `order="global"`
        the one stream is "". Raises `InvalidArgument`, `UnknownProjection`; `FailureBusy` where the reason is another
        one, or a replay, rebuild or verification is under way.
        """
        return await untaint(self._service, name, stream_id, tainted_reason=tainted_reason, actor=actor, note=note)

    async def audit(
        self,
        name: str | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        failure_id: UUID | str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[AuditEntry]:
        """Return who did what, newest first: to one projection or all, by one actor, of one kind, to one failure."""
        return await self._service.on_failures.audit(
            name, actor=actor, action=action, failure_id=failure_id, limit=limit, after=after
        )

    async def propose_bulk(
        self, strategy: Strategy, *, where: FailureFilter, actor: str, note: str | None = None
    ) -> BulkAction:
        """Count what a strategy for all unresolved failures that `where` means would touch; change nothing.

        The `id` of what is returned confirms it, within 10 minutes. Only failures that had failed by then are touched
        later. Raises `InvalidArgument` for a filter that says nothing, or that names what is resolved.
        """
        return await self._service.on_bulk.propose(strategy, where, actor=actor, note=note)

    async def confirm_bulk(self, action_id: UUID | str, *, actor: str) -> BulkAction:
        """Let a worker do what was proposed, failure by failure, each as `resolve` does, the oldest first.

        It is run where all of its `projections` are registered. Retries stand still while their projection is paused.
        Raises `UnknownBulkAction`, `InvalidArgument` where the proposal has expired, `FailureBusy` where it was
        confirmed already.
        """
        return await self._service.on_bulk.confirm(action_id, actor=actor)

    async def bulk_action(self, action_id: UUID | str) -> BulkAction:
        """Return one bulk action, as far as it has come. Raises `UnknownBulkAction`."""
        return await self._service.on_bulk.one(action_id)

    async def bulk_actions(self, *, limit: int = 100, after: str | None = None) -> Page[BulkAction]:
        """Return bulk actions, proposals among them, newest first, `limit` (1 to 1000) at a time."""
        return await self._service.on_bulk.page(limit=limit, after=after)

    async def cancel_bulk(self, action_id: UUID | str, *, actor: str) -> BulkAction:
        """End a bulk action where it is; where it runs at the moment, after the failure in hand.

        Raises `UnknownBulkAction`, `FailureBusy` where it has ended.
        """
        return await self._service.on_bulk.cancel(action_id, actor=actor)

    async def history(self, name: str, *, hours: float = 24.0, points: int = 96) -> History:
        """Return how a projection did in the last hours (up to 168), in at most so many points (2 to 500).

        Workers take a sample a minute; where none did, a point has None. Raises `UnknownProjection`, `InvalidArgument`.
        """
        return await self._service.on_history.of(name, hours=hours, points=points)

    async def histories(self, *, hours: float = 3.0, points: int = 36) -> tuple[History, ...]:
        """Return the histories of all projections of this guard, in the order in which they were registered."""
        return await self._service.on_history.of_each(None, hours=hours, points=points)

    async def workers(self) -> tuple[WorkerState, ...]:
        """Return the workers that are on record, the oldest first: those at work, and those silent for up to a day."""
        return await workers_of(self._service)

    async def alerts(self) -> tuple[OpenAlert, ...]:
        """Return what people were told of and is not over, the oldest first; of all projections in the database."""
        return await self._service.on_alerts.open_alerts()

    async def test_alert(self) -> tuple[TestedReceiver, ...]:
        """Give every receiver a test message now, and return how each has taken it.

        Nothing is put on record or tried again. Raises `ConfigurationError` where there are no receivers.
        """
        return await self._service.on_alerts.test()
