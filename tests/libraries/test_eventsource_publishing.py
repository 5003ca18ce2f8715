"""Where events come from in an application of `eventsource-py`: its bus, its repository, its subscription manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from projection_guard import AsyncProjectionGuard
from projection_guard.errors import ConfigurationError, StoreUnavailable
from tests.faults.proxy import Proxy
from tests.libraries.eventsource_events import PATIENT, Counted, append, counted, eventsource, heal, id_of

from eventsource.application.subscriptions import SubscriptionConfig, SubscriptionManager  # isort: skip  # not without
from projection_guard.eventsource import (  # isort: skip
    EventStoreSource,
    GuardedPublisher,
    GuardedSubscriber,
    subscribe,
)

STREAMS = [f"stream {number}" for number in range(20)]
POISON = "stream 7"
BAD = (id_of(POISON), 2)


class Scene:
    """A guard with one projection that notes what it is given, a store and a bus in memory."""

    def __init__(self, url: str, **options: Any) -> None:
        self.guard = AsyncProjectionGuard(url, worker="external", retry=PATIENT, **options)
        self.store = eventsource.InMemoryEventStore()
        self.bus = eventsource.InMemoryEventBus(enable_tracing=False)
        self.is_fixed = False
        self.seen: list[tuple[Any, int]] = []
        self.guard.projection("Noted", handles=[Counted])(self.note)
        self.checkpoints = eventsource.InMemoryCheckpointRepository(enable_tracing=False)

    async def note(self, event: Any) -> None:
        """Apply an event."""
        if not self.is_fixed and (event.aggregate_id, event.n) == BAD:
            raise ValueError("a bug")
        self.seen.append((event.aggregate_id, event.n))

    def of(self, stream: str) -> list[int]:
        """Return what a stream has had."""
        return [n for aggregate, n in self.seen if aggregate == id_of(stream)]

    def subscriber(self) -> GuardedSubscriber:
        return GuardedSubscriber(self.guard, handles=[Counted])

    def manager(self) -> Any:
        """Make a manager, as after a start of the process: what it keeps is in the checkpoints."""
        return SubscriptionManager(self.store, self.bus, self.checkpoints, enable_tracing=False)

    async def heal(self) -> None:
        """Mend the handler, and let a worker do what waits."""
        self.is_fixed = True
        await heal(self.guard)

    def expect_all(self) -> None:
        """Each stream has had each of its events once, in order."""
        assert [self.of(stream) for stream in STREAMS] == [[1, 2, 3]] * len(STREAMS)

    def expect_all_but_the_poisoned(self) -> None:
        """One stream waits at its second event, and no other one."""
        assert [self.of(stream) for stream in STREAMS] == [[1] if each == POISON else [1, 2, 3] for each in STREAMS]


ALL = [counted(stream, n) for n in (1, 2, 3) for stream in STREAMS]


def played(url: str, play: Callable[[Scene], Any], **options: Any) -> None:
    """Play a scene on a loop of its own."""

    async def run() -> None:
        scene = Scene(url, **options)
        try:
            await play(scene)
        finally:
            await scene.guard.close()

    asyncio.run(run())


def test_a_bus_brings_events_to_the_guard(sqlite_url: str) -> None:
    """One poison event in one of many streams, by `subscribe_all`."""

    async def play(scene: Scene) -> None:
        scene.bus.subscribe_all(scene.subscriber())
        await scene.bus.publish(ALL)
        scene.expect_all_but_the_poisoned()
        await scene.heal()
        scene.expect_all()

    played(sqlite_url, play)


@pytest.mark.parametrize("has_bus", [True, False], ids=["with a bus", "alone"])
def test_a_repository_brings_events_to_the_bus_and_to_the_guard(sqlite_url: str, has_bus: bool) -> None:
    """`GuardedPublisher` is its `event_publisher`: nothing else of the application's is changed."""

    class Counter(eventsource.AggregateRoot):  # type: ignore[misc]
        aggregate_type = "Counter"

        def _get_initial_state(self) -> Any:
            return None

        def _apply(self, event: Any) -> None:
            self._state = event.n

        def count(self, n: int) -> None:
            self.apply_event(counted_in(self, n))

    def counted_in(counter: Any, n: int) -> Any:
        return Counted(aggregate_id=counter.aggregate_id, aggregate_version=counter.version + 1, n=n)

    async def play(scene: Scene) -> None:
        others = list[Any]()
        scene.bus.subscribe_to_all_events(others.append)
        repository = eventsource.AggregateRepository(
            scene.store,
            aggregate_factory=Counter,
            event_publisher=GuardedPublisher(scene.guard, scene.bus if has_bus else None),
            enable_tracing=False,
        )
        counter = repository.create_new(id_of(POISON))
        for n in (1, 2, 3):
            counter.count(n)
        await repository.save(counter)
        assert scene.of(POISON) == [1]
        assert [event.n for event in others] == ([1, 2, 3] if has_bus else [])
        await scene.heal()
        assert scene.of(POISON) == [1, 2, 3]

    played(sqlite_url, play)


def test_a_publisher_wakes_those_who_follow_the_store(sqlite_url: str) -> None:
    """Nothing is applied by it: the events are in the store already."""

    async def play(scene: Scene) -> None:
        scene.guard = guard = AsyncProjectionGuard(
            sqlite_url, source=EventStoreSource(scene.store), worker="external", retry=PATIENT
        )
        guard.projection("Followed", handles=[Counted])(scene.note)
        await append(scene.store, *ALL)
        async with guard.worker():
            await GuardedPublisher(guard).publish(ALL[-1:])
            await guard.wait_for("Followed", len(ALL))
            scene.expect_all_but_the_poisoned()
        await scene.heal()
        scene.expect_all()

    played(sqlite_url, play)


def test_a_subscription_manager_drives_the_guard(sqlite_url: str) -> None:
    """Poison in one of many streams, caught up and live; another start from the beginning repeats nothing."""

    async def play(scene: Scene) -> None:
        await append(scene.store, *ALL[:30])
        manager = scene.manager()
        await subscribe(manager, scene.subscriber(), name="Noted")
        assert await manager.start() == {"Noted": None}
        for event in ALL[30:]:
            await append(scene.store, event)
            await scene.bus.publish([event])
        scene.expect_all_but_the_poisoned()
        await manager.stop()
        await scene.heal()
        scene.expect_all()
        scene.checkpoints = eventsource.InMemoryCheckpointRepository(enable_tracing=False)
        again = scene.manager()
        await subscribe(again, scene.subscriber(), name="Noted")
        assert await again.start() == {"Noted": None}
        scene.expect_all()
        await again.stop()

    played(sqlite_url, play)


def test_two_wakes_of_a_manager_at_once_apply_nothing_twice(postgres_url: str) -> None:
    """Each reads on from the same position, beside the other: the guard takes an event once, and a stream in order."""

    async def play(scene: Scene) -> None:
        scene.is_fixed = True
        manager = scene.manager()
        await subscribe(manager, scene.subscriber(), name="Noted")
        await manager.start()
        events = [counted("A", n) for n in range(20)]
        await append(scene.store, *events)
        await asyncio.gather(*(scene.bus.publish([event]) for event in events[:3]))
        await heal(scene.guard)  # what came while another one was in hand waits for its turn
        assert scene.of("A") == list(range(20))
        await manager.stop()

    played(postgres_url, play)


@pytest.fixture
def proxy(postgres_url: str) -> Any:
    """Stands before the guard's database, which can be away."""
    with Proxy(postgres_url) as proxy:
        yield proxy


async def caught_up(scene: Scene, config: Any = None) -> dict[str, Any]:
    """Start a manager, which catches up, and stop it; return what has stopped its subscription."""
    manager = scene.manager()
    if config is None:
        await subscribe(manager, scene.subscriber(), name="Noted")
    else:
        await manager.subscribe(scene.subscriber(), config, "Noted")
    errors: dict[str, Any] = await manager.start()
    await manager.stop()
    return errors


@pytest.mark.parametrize("by", ["subscribe", "the manager's default"])
def test_where_the_guards_database_is_away_the_subscription_stops(proxy: Proxy, by: str) -> None:
    """And goes on at that event. By the library's default it would go on behind it: that is why it is refused."""

    async def play(scene: Scene) -> None:
        config = None if by == "subscribe" else SubscriptionConfig()
        await append(scene.store, *(counted("A", n) for n in (1, 2, 3)))
        await scene.guard.health()
        proxy.go_away()
        errors = await caught_up(scene, config)
        proxy.come_back()
        assert (errors["Noted"] is None) == (by != "subscribe")
        assert await caught_up(scene, config) == {"Noted": None}
        assert scene.of("A") == ([1, 2, 3] if by == "subscribe" else [])

    played(proxy.url, play)


def test_a_configuration_that_leaves_events_out_is_refused(sqlite_url: str) -> None:
    """So is a subscriber to nothing, which a manager would take for one to everything."""

    async def play(scene: Scene) -> None:
        with pytest.raises(ConfigurationError, match="continue_on_error=False"):
            await subscribe(scene.manager(), scene.subscriber(), name="Noted", config=SubscriptionConfig())
        with pytest.raises(ConfigurationError, match="a list of event classes, not empty"):
            GuardedSubscriber(scene.guard, handles=[])

    played(sqlite_url, play)


def test_a_subscriber_for_one_projection_of_several(sqlite_url: str) -> None:
    """With names= the others get nothing; a subscription each keeps them apart."""

    async def play(scene: Scene) -> None:
        others = list[int]()

        @scene.guard.projection("Other", handles=[Counted])
        async def other(event: Any) -> None:
            others.append(event.n)

        await GuardedSubscriber(scene.guard, [Counted], names=["Other"]).handle(counted("A", 1))
        assert (scene.of("A"), others) == ([], [1])

    played(sqlite_url, play)


def test_a_bus_of_the_librarys_is_told_when_the_database_is_away(proxy: Proxy) -> None:
    """`InMemoryEventBus` logs it and returns, so the event is lost to a pushed projection; a publisher raises."""

    async def play(scene: Scene) -> None:
        await scene.guard.health()
        scene.bus.subscribe_all(scene.subscriber())
        proxy.go_away()
        await scene.bus.publish([counted("A", 1)])
        with pytest.raises(StoreUnavailable):
            await GuardedPublisher(scene.guard).publish([counted("A", 1)])
        proxy.come_back()

    played(proxy.url, play)


def test_a_live_subscription_goes_on_at_the_event_that_did_not_get_through(proxy: Proxy) -> None:
    """The bus has swallowed that error; the next wake reads on from where the guard has come to."""

    async def play(scene: Scene) -> None:
        manager = scene.manager()
        await subscribe(manager, scene.subscriber(), name="Noted")
        assert await manager.start() == {"Noted": None}
        for n in (1, 2, 3):
            proxy.go_away() if n == 2 else proxy.come_back()
            event = counted("A", n)
            await append(scene.store, event)
            await scene.bus.publish([event])
        assert scene.of("A") == [1, 2, 3]
        await manager.stop()

    played(proxy.url, play)
