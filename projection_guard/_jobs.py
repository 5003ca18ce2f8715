"""Durable jobs, replays and bulk actions, as the worker sees them: something that nobody runs at the moment."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from uuid import UUID

from ._service import Service

__all__ = ["Job", "jobs_due"]


class Runs(Protocol):
    """Runs a job that nobody runs, until it `stops`."""

    def __call__(self, *, stops: Callable[[], bool]) -> Coroutine[object, None, object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A durable job that nobody runs at the moment."""

    id: UUID
    what: str
    run: Runs


async def jobs_due(service: Service) -> list[Job]:
    """Name the jobs that nobody runs at the moment, as far as they can be run here."""
    replays = [
        Job(id=job, what=f"{name}: replay", run=partial(service.on_log.run_replay, name, job))
        for name, job in (await service.on_log.replays_due()).items()
    ]
    bulk = [
        Job(id=job, what="bulk action", run=partial(service.on_bulk.run, job)) for job in await service.on_bulk.due()
    ]
    return replays + bulk
