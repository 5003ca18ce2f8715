"""The publisher middleware: the application's own publisher first, then every projection."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from ._io.protocol import drive
from ._model import Outcome
from ._service import Service
from .errors import ConfigurationError, DeliveryInterrupted, StoreUnavailable

__all__ = ["AsyncPublisher", "Inner", "OnUnavailable", "Publisher"]

log = logging.getLogger("projection_guard")
OnUnavailable = Literal["raise", "log"]


class Inner(Protocol):
    """The application's own publisher. One that has `publish_all(events)` is given batches whole."""

    def publish(self, event: Any, /) -> object:
        """Publish an event."""
        ...


class AsyncPublisher:
    """Publishes an event to `inner`, then to every projection; returns what became of it in each.

    `on_unavailable="log"` logs an event that the guard's database did not take, instead of raising
    `StoreUnavailable`: it is on you to deliver it again. Cancelled, events that were not reached are not delivered.
    """

    def __init__(
        self, service: Service, inner: Inner | None, on_unavailable: OnUnavailable, wait_seconds: float | None
    ) -> None:
        if wait_seconds is not None and not 0 <= wait_seconds <= 86_400:
            raise ConfigurationError(f"publisher(wait=...) takes seconds from 0 to a day, not {wait_seconds!r}")
        if inspect.isfunction(inspect.getattr_static(inner, "publish", None)) and isinstance(inner, type):
            raise ConfigurationError(
                f"publisher(inner=...) takes an object; {inner.__name__} is a class: make one of it"
            )
        if inner is not None and not callable(getattr(inner, "publish", None)):
            raise ConfigurationError("publisher(inner=...) takes an object with a method publish(event)")
        if on_unavailable not in ("raise", "log"):
            raise ConfigurationError(f"on_unavailable= takes 'raise' or 'log', not {on_unavailable!r}")
        self._service = service
        self._inner = inner
        self._on_unavailable = on_unavailable
        self._wait_seconds = wait_seconds

    @property
    def has_source(self) -> bool:
        """Whether its guard has a source: what was not delivered is found there."""
        return self._service.on_log.is_there

    async def publish(self, event: object) -> tuple[Outcome, ...]:
        """Publish one event. An error of `inner` is raised and no projection gets the event."""
        if self._inner is not None:
            await _awaited(self._inner.publish(event))
        return await self._project(event)

    async def publish_all(self, events: Iterable[object]) -> tuple[Outcome, ...]:
        """Publish events in their order: all of them to `inner`, then one after the other to the projections."""
        batch = list(events)
        if self._inner is not None:
            whole = getattr(self._inner, "publish_all", None)
            if callable(whole):
                await _awaited(whole(batch))
            else:
                for event in batch:
                    await _awaited(self._inner.publish(event))
        outcomes: list[Outcome] = []
        for event in batch:
            outcomes += await self._project(event)
        return tuple(outcomes)

    async def _project(self, event: object) -> tuple[Outcome, ...]:
        try:
            return await self._service.publish(event, self._wait_seconds)
        except StoreUnavailable as error:
            if self._on_unavailable == "raise":
                raise
            log.error("an event was not recorded and has to be delivered again: %s", error)  # noqa: TRY400  # the sentence says it
            if isinstance(error, DeliveryInterrupted):
                return tuple(outcome for outcome in error.outcomes if isinstance(outcome, Outcome))
            return ()


class Publisher:
    """Publishes an event to `inner`, then to every projection; returns what became of it in each.

    `on_unavailable="log"` logs an event that the guard's database did not take, instead of raising
    `StoreUnavailable`: it is on you to deliver it again.
    """

    def __init__(
        self, service: Service, inner: Inner | None, on_unavailable: OnUnavailable, wait_seconds: float | None
    ) -> None:
        self._publisher = AsyncPublisher(service, inner, on_unavailable, wait_seconds)
        if inner is not None and inspect.iscoroutinefunction(inner.publish):
            raise ConfigurationError("publisher(inner=...) has an async publish; a blocking guard cannot await it")

    @property
    def has_source(self) -> bool:
        """Whether its guard has a source: what was not delivered is found there."""
        return self._publisher.has_source

    def publish(self, event: object) -> tuple[Outcome, ...]:
        """Publish one event. An error of `inner` is raised and no projection gets the event."""
        return drive(self._publisher.publish(event))

    def publish_all(self, events: Iterable[object]) -> tuple[Outcome, ...]:
        """Publish events in their order: all of them to `inner`, then one after the other to the projections."""
        return drive(self._publisher.publish_all(events))


async def _awaited(result: object) -> None:
    if inspect.isawaitable(result):
        await result
