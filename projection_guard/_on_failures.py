"""What both guards do with failures beyond one of them, once, as coroutines: lists, groups, numbers, the audit log."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from ._model import Failure, FailureFilter, FailureGroup, Page, check_text
from ._on_log import Registered, check_limit, id_of
from ._records import AuditEntry, Parked
from ._store import audits, matching, parked, states
from .errors import InvalidArgument, UnknownFailure

__all__ = ["OnFailures"]

_EVERYTHING: Final = FailureFilter()


class OnFailures:
    """What operators look at: failures, those that are alike, what is parked behind them, who did what."""

    def __init__(self, service: Registered) -> None:
        self._service = service

    async def failures(
        self,
        name: str | None,
        *,
        where: FailureFilter | None,
        include_resolved: bool,
        limit: int,
        after: str | None,
        bare: bool = False,
    ) -> Page[Failure]:
        """Read a page of failures, newest first; bare: without events and tracebacks, which may be very long."""
        meant = self._meant(name, where)
        check_limit(limit)
        await self._service.open()
        return await self._service.read(
            lambda connection: matching.failures_page(
                connection, meant, include_resolved=include_resolved, limit=limit, after=after, bare=bare
            )
        )

    async def failure_groups(
        self, name: str | None, *, where: FailureFilter | None, limit: int, after: str | None
    ) -> Page[FailureGroup]:
        """Read a page of groups of failures, the biggest first."""
        meant = self._meant(name, where)
        check_limit(limit)
        await self._service.open()
        return await self._service.read(
            lambda connection: matching.groups_page(connection, meant, limit=limit, after=after)
        )

    async def count_failures(self, where: FailureFilter) -> int:
        """Count failures."""
        meant = self._meant(None, where)
        await self._service.open()
        return await self._service.read(lambda connection: matching.count(connection, meant))

    async def search(self, wanted: str, *, limit: int) -> tuple[Failure, ...]:
        """Look for the failure with an id, or else for those of an event or a stream with it; resolved ones too."""
        check_text(wanted, "search")
        await self._service.open()
        return await self._service.read(lambda connection: matching.search(connection, wanted, limit=limit))

    def _meant(self, name: str | None, where: FailureFilter | None) -> FailureFilter:
        """Let a name that is given beside a filter narrow it. Raises `InvalidArgument`, `UnknownProjection`."""
        meant = where or _EVERYTHING
        if name is not None:
            if meant.projection_name not in (None, name):
                raise InvalidArgument(
                    f"The failures of {name!r} were asked for, and where= names {meant.projection_name!r}; name one"
                )
            meant = replace(meant, projection_name=name)
        if meant.projection_name is not None:
            self._service.named(meant.projection_name)
        return meant

    async def parked(self, name: str, *, stream_id: str | None, limit: int, after: str | None) -> Page[Parked]:
        """Read a page of parked events, stream by stream."""
        self._service.named(name)
        check_text(stream_id, "stream_id")
        check_limit(limit)
        await self._service.open([name])

        def look(connection: Connection) -> Page[Parked]:
            state = states.read(connection, name)
            return parked.page(
                connection,
                name,
                stream_id=stream_id,
                order="" if state is None else state.ordering,
                by_sequence=state is not None and state.mode == "followed",
                limit=limit,
                after=after,
            )

        return await self._service.read(look)

    async def audit(
        self,
        name: str | None,
        *,
        actor: str | None,
        action: str | None,
        failure_id: UUID | str | None,
        limit: int,
        after: str | None,
    ) -> Page[AuditEntry]:
        """Read a page of the audit log, newest first."""
        if name is not None:
            self._service.named(name)
        check_text(actor, "actor")
        check_text(action, "action")
        identity = None if failure_id is None else id_of(failure_id, UnknownFailure, "a failure")
        check_limit(limit)
        await self._service.open()
        return await self._service.read(
            lambda connection: audits.page(
                connection,
                projection=name,
                actor=actor,
                action=action,
                failure_id=identity,
                limit=limit,
                after=after,
            )
        )
