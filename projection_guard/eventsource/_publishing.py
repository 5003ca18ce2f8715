"""Where events come from in an application of theirs: a repository's publisher, a bus, a subscription manager.

With a source the guard reads events in the store, and is only woken here. Without one, what comes this way is all it
gets: an error of the guard's database is raised, and who swallows it loses the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from .._async_guard import AsyncProjectionGuard
from ..errors import ConfigurationError
from ._library import subscription_config

__all__ = ["GuardedPublisher", "GuardedSubscriber", "subscribe"]


class Bus(Protocol):
    """An event bus of theirs."""

    async def publish(self, events: list[Any], background: bool = False) -> None:  # noqa: FBT001, FBT002  # theirs
        """Publish events to its subscribers."""
        ...


class Manager(Protocol):
    """A `SubscriptionManager`."""

    async def subscribe(self, subscriber: Any, config: Any = None, name: str | None = None) -> object:
        """Let a subscriber be driven."""
        ...


class GuardedPublisher:
    """What an `AggregateRepository` takes as `event_publisher=`: the bus first, if there is one, then every projection.

    An error of the guard's database is raised to whoever saves: the events are stored then, and have not reached every
    projection that is pushed. Those that follow the store read them there.
    """

    def __init__(self, guard: AsyncProjectionGuard, bus: Bus | None = None) -> None:
        self._publisher = guard.publisher()
        self._bus = bus

    async def publish(self, events: Sequence[object], background: bool = False) -> None:  # noqa: FBT001, FBT002  # theirs
        """Publish events in their order. `background` is the bus's: projections are reached before this returns."""
        batch = list(events)
        if self._bus is not None:
            await self._bus.publish(batch, background=background)
        await self._publisher.publish_all(batch)


class GuardedSubscriber:
    """What a bus's `subscribe_all`, or `subscribe`, takes: brings each event to every projection, or to those named.

    `handles` are the classes of events to subscribe to. A handler that fails raises nothing here, its failure is on
    record; what is raised is that the guard's database did not take the event, and the bus has to deliver it again.
    `InMemoryEventBus` only logs that: follow the store, or use a `GuardedPublisher`.
    """

    def __init__(self, guard: AsyncProjectionGuard, handles: Sequence[type], *, names: Sequence[str] = ()) -> None:
        if not handles or not all(isinstance(each, type) for each in cast("Sequence[object]", handles)):
            raise ConfigurationError("GuardedSubscriber takes handles=, a list of event classes, not empty")
        self._guard = guard
        self._publisher = guard.publisher()
        self._handles = list(handles)
        self._names = tuple(names)

    def subscribed_to(self) -> list[type]:
        """Return the classes of events that it takes."""
        return list(self._handles)

    async def handle(self, event: object) -> None:
        """Bring an event to the projections. Raises `StoreUnavailable`."""
        if not self._names:
            await self._publisher.publish(event)
        for name in self._names:
            await self._guard.apply(name, event)


async def subscribe(
    manager: Manager,
    subscriber: GuardedSubscriber,
    *,
    name: str,
    config: object = None,
) -> object:
    """Let a `SubscriptionManager` drive a subscriber: what it reads in the store is pushed to the projections.

    Its configuration says `continue_on_error=False`, as does the one that is taken if none is given: where the guard's
    database is away the subscription stops at that event, instead of leaving it out.
    """
    chosen: Any = subscription_config(continue_on_error=False) if config is None else config
    if chosen.continue_on_error:
        raise ConfigurationError(
            f"Subscription {name!r} would leave out events while the guard's database is away: give it a "
            "SubscriptionConfig(continue_on_error=False)"
        )
    return await manager.subscribe(subscriber, chosen, name)
