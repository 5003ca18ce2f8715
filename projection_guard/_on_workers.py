"""Who is at work: each worker says so by itself every 10 s, in a row that it takes away when it stops."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from ._core.context import new_token
from ._records import WorkerKind, WorkerState
from ._service import Service
from ._store import workers

__all__ = ["BEAT_EVERY_SECONDS", "SignsOfLife", "workers_of"]

BEAT_EVERY_SECONDS: Final = 10.0


class SignsOfLife:
    """A worker's row: written at its first look, renewed every 10 s, taken away in the end."""

    def __init__(self, service: Service, kind: WorkerKind) -> None:
        self._service = service
        self._kind: WorkerKind = kind
        self._id = new_token()
        self._due_at = 0.0
        self._has_row = False
        """Written, and reachable when it was last looked after."""

    def next_in(self) -> float:
        """Return the seconds until the next sign is due."""
        return max(self._due_at - time.monotonic(), 0.01)

    async def show(self) -> None:
        """Give a sign of life if one is due. Raises `StoreUnavailable`."""
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + BEAT_EVERY_SECONDS
        itself = workers.Introduction(
            worker_id=self._id,
            kind=self._kind,
            host=socket.gethostname()[:255],
            process_id=os.getpid(),
            library_version=_version(),
            projections=tuple(self._service.projections),
        )
        self._has_row = False
        await self._service.write(lambda connection: workers.beat(connection, itself))
        self._has_row = True

    async def stopping(self) -> None:
        """Say that nothing is taken up any more."""
        if self._has_row:
            with suppress(Exception):
                await self._service.write(lambda connection: workers.stopping(connection, self._id))

    async def end(self) -> None:
        """Take the row away. Where that cannot be done it is one of a worker that is silent, and gone after a day."""
        if self._has_row:
            with suppress(Exception):
                await self._service.write(lambda connection: workers.leave(connection, self._id))


async def workers_of(service: Service) -> tuple[WorkerState, ...]:
    """Read which workers there are, the oldest first."""
    await service.open(())
    return await service.read(workers.seen)


def _version() -> str:
    try:
        return version("projection-guard")[:64]
    except PackageNotFoundError:  # run from a folder, not installed
        return "unknown"
