"""The part of both guards that edits an event which failed, and tries it again; the original is kept."""

from __future__ import annotations

from uuid import UUID

from ._io.protocol import drive
from ._model import Json, Outcome, Page
from ._records import Amendment
from ._service import Service

__all__ = ["AsyncForAmending", "ForAmending"]


class ForAmending:
    """Amending, blocking."""

    _service: Service

    def amend(self, failure_id: UUID | str, payload: Json, *, actor: str, note: str | None = None) -> Outcome:
        """Give a projection an amended event instead of one that it could not apply, and retry it now, once.

        Returns how that went. `payload` is the event as JSON, in the form in which `editable_payload` shows it. It has
        to be the same event: of the same class, with the same id, type, sequence and stream. The log and the failure
        keep the original; this projection is given the amended one from then on, by every retry, replay and rebuild,
        until `unamend`. Raises `InvalidArgument`, and what `resolve` raises; `FailureBusy` also while a rebuild into
        other tables is under way.
        """
        return drive(self._service.on_amendments.amend(failure_id, payload, actor=actor, note=note))

    def unamend(self, failure_id: UUID | str, *, actor: str, note: str | None = None) -> bool:
        """Withdraw the amendment of a failure's event, also once that is resolved; False where there is none.

        From then on the projection is given the event as the log has it; what was applied stays applied. Raises
        `UnknownFailure`, `FailureBusy` while it is being retried, or a replay, rebuild or verification is under way.
        """
        return drive(self._service.on_amendments.unamend(failure_id, actor=actor, note=note))

    def amendment(self, failure_id: UUID | str) -> Amendment | None:
        """Return what a failure's event is amended to, None where it is not. Raises `UnknownFailure`."""
        return drive(self._service.on_amendments.of(failure_id))

    def amendments(self, name: str, *, limit: int = 100, after: str | None = None) -> Page[Amendment]:
        """Return the amendments of a projection, by their events' ids, `limit` (1 to 1000) at a time."""
        return drive(self._service.on_amendments.page(name, limit=limit, after=after))

    def editable_payload(self, failure_id: UUID | str) -> str | None:
        """Return the JSON text of a failure's event for a person who may see it, decrypted: as amended, if it is.

        Where nothing of it was kept it is read from the log; None where that cannot be done, or the codec has no way to
        JSON for its class. Raises `UnknownFailure`, `CodecError` where it is encrypted and its key is gone.
        """
        return drive(self._service.on_amendments.editable_text(failure_id))


class AsyncForAmending:
    """Amending, awaited."""

    _service: Service

    async def amend(self, failure_id: UUID | str, payload: Json, *, actor: str, note: str | None = None) -> Outcome:
        """Give a projection an amended event instead of one that it could not apply, and retry it now, once.

        Returns how that went. `payload` is the event as JSON, in the form in which `editable_payload` shows it. It has
        to be the same event: of the same class, with the same id, type, sequence and stream. The log and the failure
        keep the original; this projection is given the amended one from then on, by every retry, replay and rebuild,
        until `unamend`. Raises `InvalidArgument`, and what `resolve` raises; `FailureBusy` also while a rebuild into
        other tables is under way.
        """
        return await self._service.on_amendments.amend(failure_id, payload, actor=actor, note=note)

    async def unamend(self, failure_id: UUID | str, *, actor: str, note: str | None = None) -> bool:
        """Withdraw the amendment of a failure's event, also once that is resolved; False where there is none.

        From then on the projection is given the event as the log has it; what was applied stays applied. Raises
        `UnknownFailure`, `FailureBusy` while it is being retried, or a replay, rebuild or verification is under way.
        """
        return await self._service.on_amendments.unamend(failure_id, actor=actor, note=note)

    async def amendment(self, failure_id: UUID | str) -> Amendment | None:
        """Return what a failure's event is amended to, None where it is not. Raises `UnknownFailure`."""
        return await self._service.on_amendments.of(failure_id)

    async def amendments(self, name: str, *, limit: int = 100, after: str | None = None) -> Page[Amendment]:
        """Return the amendments of a projection, by their events' ids, `limit` (1 to 1000) at a time."""
        return await self._service.on_amendments.page(name, limit=limit, after=after)

    async def editable_payload(self, failure_id: UUID | str) -> str | None:
        """Return the JSON text of a failure's event for a person who may see it, decrypted: as amended, if it is.

        Where nothing of it was kept it is read from the log; None where that cannot be done, or the codec has no way to
        JSON for its class. Raises `UnknownFailure`, `CodecError` where it is encrypted and its key is gone.
        """
        return await self._service.on_amendments.editable_text(failure_id)
