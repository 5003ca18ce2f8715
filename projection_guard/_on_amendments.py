"""What both guards do with the payload of a failed event, once, as coroutines: show it, amend it, take that back."""

from __future__ import annotations

import json
from uuid import UUID

from sqlalchemy import Connection

from ._core import admin, amending
from ._mapping import EventMapping
from ._model import Failure, Json, Outcome, Page, check_text
from ._on_log import Registered, check_limit, id_of
from ._records import Amendment
from ._store import amendments, failures
from .errors import UnknownFailure

__all__ = ["OnAmendments"]


class OnAmendments:
    """What a person does who edits an event and tries it again."""

    def __init__(self, service: Registered, mapping: EventMapping) -> None:
        self._service = service
        self._mapping = mapping

    async def amend(self, failure_id: UUID | str, payload: Json, *, actor: str, note: str | None) -> Outcome:
        """Amend a failure's event and retry it."""
        deed = _deed(actor, note)
        failure = await self._failure(failure_id)
        projection = self._service.named(failure.projection_name)
        return await amending.amend(self._service.context, self._mapping, projection, failure, payload, deed)

    async def unamend(self, failure_id: UUID | str, *, actor: str, note: str | None) -> bool:
        """Withdraw the amendment of a failure's event."""
        deed = _deed(actor, note)
        failure = await self._failure(failure_id)
        projection = self._service.named(failure.projection_name)
        return await amending.unamend(self._service.context, projection, failure, deed)

    async def of(self, failure_id: UUID | str) -> Amendment | None:
        """Read the amendment of a failure's event."""
        failure = await self._failure(failure_id)
        return await self.of_event(failure.projection_name, failure.event_id)

    async def of_event(self, projection: str, event_id: str) -> Amendment | None:
        """Read the amendment of an event."""
        return await self._service.read(lambda connection: amendments.one(connection, projection, event_id))

    async def page(self, name: str, *, limit: int, after: str | None) -> Page[Amendment]:
        """Read a page of a projection's amendments."""
        check_limit(limit)
        await self._service.open([self._service.named(name).name])
        return await self._service.read(lambda connection: amendments.page(connection, name, limit=limit, after=after))

    async def editable(self, failure_id: UUID | str) -> Json:
        """Return the readable JSON of a failure's event."""
        failure = await self._failure(failure_id)
        amended = await self.of_event(failure.projection_name, failure.event_id)
        return await amending.editable(self._service.context, failure, amended)

    async def editable_text(self, failure_id: UUID | str) -> str | None:
        """Return it as the text that a person edits."""
        found = await self.editable(failure_id)
        return None if found is None else json.dumps(found, indent=2, ensure_ascii=False)

    async def _failure(self, failure_id: UUID | str) -> Failure:
        identity = id_of(failure_id, UnknownFailure, "a failure")
        await self._service.open()

        def look(connection: Connection) -> Failure | None:
            return failures.one(connection, identity)

        found = await self._service.read(look)
        if found is None:
            raise UnknownFailure(f"There is no failure {identity}")
        return found


def _deed(actor: str, note: str | None) -> admin.Deed:
    check_text(note, "note")
    return admin.Deed(actor=admin.check_actor(actor), note=note)
