"""What both guards do with bulk actions, once, as coroutines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from sqlalchemy import Connection

from ._core import admin, bulk
from ._core.rounds import Round
from ._model import FailureFilter, Page
from ._on_log import Registered, check_limit, id_of
from ._records import BulkAction
from ._store import bulk as actions
from .errors import UnknownBulkAction

__all__ = ["OnBulk"]


class OnBulk:
    """Actions on many failures at once: proposed, confirmed, run by a worker that has all their projections."""

    def __init__(self, service: Registered) -> None:
        self._service = service

    async def propose(self, strategy: str, where: FailureFilter, *, actor: str, note: str | None) -> BulkAction:
        """Count what would be touched, and write that down as a proposal."""
        admin.check_actor(actor)
        if where.projection_name is not None:
            self._service.named(where.projection_name)
        await self._service.open()
        return await bulk.propose(self._service.context, strategy, where, actor=actor, note=note)

    async def confirm(self, action_id: UUID | str, *, actor: str) -> BulkAction:
        """Let workers run what was proposed."""
        job = await self._acting_on(action_id, actor)
        return await bulk.confirm(self._service.context, job, actor=actor)

    async def cancel(self, action_id: UUID | str, *, actor: str) -> BulkAction:
        """End a bulk action where it is."""
        job = await self._acting_on(action_id, actor)
        return await bulk.cancel(self._service.context, job, actor=actor)

    async def _acting_on(self, action_id: UUID | str, actor: str) -> UUID:
        admin.check_actor(actor)
        job = id_of(action_id, UnknownBulkAction, "a bulk action")
        await self._service.open()
        return job

    async def one(self, action_id: UUID | str) -> BulkAction:
        """Read a bulk action. Raises `UnknownBulkAction`."""
        job = id_of(action_id, UnknownBulkAction, "a bulk action")
        await self._service.open()

        def look(connection: Connection) -> BulkAction:
            found = actions.one(connection, job)
            if found is None:
                raise UnknownBulkAction(f"There is no bulk action {job}")
            return bulk.shown(connection, found)

        return await self._service.read(look)

    async def page(self, *, limit: int, after: str | None) -> Page[BulkAction]:
        """Read a page of bulk actions, newest first."""
        check_limit(limit)
        await self._service.open()

        def look(connection: Connection) -> Page[BulkAction]:
            found = actions.page(connection, limit=limit, after=after)
            return replace(found, items=bulk.shown_each(connection, found.items))

        return await self._service.read(look)

    async def due(self) -> list[UUID]:
        """Name the confirmed actions that nobody runs and that can go on, as far as all their projections are here."""
        runnable = self._service.runnable()
        found = await self._service.read(bulk.due)
        return [each.id for each in found if runnable >= set(each.projections)]

    async def run(self, job: UUID, *, stops: Callable[[], bool], most: int | None = None) -> Round:
        """Run one that nobody runs."""
        done = await bulk.run(self._service.context, self._service.projections, job, stops=stops, most=most)
        return Round(resolved=done, has_more=done == most)
