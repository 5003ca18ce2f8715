"""What is refused of `eventsourcing`'s projections, what a runner has left, and which else there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

pytest.importorskip(
    "eventsourcing", reason="eventsourcing is not installed: pip install 'projection-guard[eventsourcing]'"
)

from eventsourcing.application import AggregateNotFoundError, ProcessingEvent
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import OperationalError, Tracking, TrackingRecorder
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.postgres import PostgresDatastore
from eventsourcing.projection import EventSourcedProjection, Projection, ProjectionRunner
from eventsourcing.utils import get_topic

from projection_guard import AsyncProjectionGuard, ProjectionGuard
from projection_guard._desk import engine_of
from projection_guard.errors import ConfigurationError, RegistrationError
from projection_guard.eventsourcing import ApplicationSource, guard_projection, publish_saves
from projection_guard.eventsourcing._tracking import Tracked
from tests.bed import AT_ONCE
from tests.libraries.eventsourcing_place import NAME, Place, by_cart, fill
from tests.libraries.eventsourcing_shop import Cart, Counts, InMemoryView, Shop, environment, view_for

# -- a runner's view is taken over


def test_a_view_that_a_runner_has_filled_goes_on_where_it_stood() -> None:
    """The guard reads from the beginning, and applies nothing that the runner has applied."""
    runner: Any = ProjectionRunner(
        application_class=Shop, projection_class=Counts, view_class=cast(Any, InMemoryView), env={}
    )
    with runner:
        wanted = fill(runner.app, carts=3, each=1)
        runner.wait(runner.app.recorder.max_notification_id(), timeout=60)
    place = Place("popo", False, "sqlite://", runner.app, runner.view)
    first = UUID(next(iter(wanted)))
    guard = place.guard(
        on_reset=lambda connection: place.view.clear(), on_reset_stream=lambda connection, stream_id: place.view.clear()
    )
    place.shop.add(first, 1000)
    guard.catch_up(NAME)
    wanted[str(first)].append(1000)
    assert by_cart(place.view) == wanted
    guard.replay(NAME, stream_id=str(first), actor="alice")
    assert by_cart(place.view) == {str(first): wanted[str(first)]}
    place.view.clear()
    guard.rebuild(NAME, actor="alice")
    assert by_cart(place.view) == wanted
    place.close()


def test_another_process_sees_that_the_view_was_cleared() -> None:
    """What it remembers of where a runner stood is not taken for true: the events come again."""
    with view_for("popo", "") as view, ProjectionGuard("sqlite://", worker="external") as guard:
        view.insert_tracking(Tracking("Shop", 7))
        one, other = (Tracked(view, "Shop", NAME, engine_of(guard)) for _ in range(2))
        assert one.was_done_by_runner(one.of("A", 7))
        with engine_of(guard).connect() as connection:
            other.forget(connection)
        assert not one.was_done_by_runner(one.of("A", 7))
        assert not one.has(one.of("A", 7))


def test_a_runner_that_writes_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its position moves under the guard: that is a failure which says what to stop, and is not applied twice."""
    monkeypatch.setattr("projection_guard.eventsourcing._tracking._LOOK_AGAIN_SECONDS", 0.0)
    with view_for("popo", "") as view, Shop() as shop:
        place = Place("popo", False, "sqlite://", shop, view)
        guard = place.guard()
        cart = shop.open_cart("someone")
        guard.catch_up(NAME)
        last = shop.add(cart, 5)
        view.add(cart, 5, Tracking(shop.name, last))  # as the runner does
        guard.catch_up(NAME)
        (failure,) = guard.failures(NAME).items
        assert "ProjectionRunner of 'Shop' is writing into the view" in failure.error_message
        guard.worker().run_once()
        assert view.added() == [(str(cart), 5)]
        assert not guard.failures(NAME).items
        place.close()


# -- what is refused when it is registered


class Nameless(Projection[Any]):
    """Takes what its topics name."""

    topics = (get_topic(Cart.Added),)

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Count what is put into a cart, and fall over anything else."""
        self.view.add(domain_event.originator_id, domain_event.amount, tracking)


class Forgotten(Nameless):
    """Names what is not there."""

    topics = ("tests.libraries:Nothing",)


class OtherTracking(TrackingRecorder):
    """A tracking recorder of somebody's own."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Keep it somewhere."""

    def max_tracking_id(self, application_name: str) -> int | None:
        """Return what is kept."""
        return 7


@pytest.mark.parametrize(
    ("projection", "url", "options", "says"),
    [
        (Counts(cast(Any, POPOTrackingRecorder())), "sqlite:///guard.db", {}, "has its view in memory"),
        (Counts(cast(Any, OtherTracking())), "sqlite://", {}, "whether it keeps streams apart is not known"),
        (Counts(cast(Any, POPOTrackingRecorder())), "sqlite://", {"order": "none"}, "order='stream' or 'global'"),
        (Forgotten(POPOTrackingRecorder()), "sqlite://", {}, "names a topic that does not resolve"),
    ],
    ids=["in memory", "another recorder", "no order", "a topic that is not there"],
)
def test_what_is_not_safe_is_refused(projection: Any, url: str, options: Any, says: str) -> None:
    """With a sentence that says why, before any event is read."""
    with (
        Shop() as shop,
        ProjectionGuard(url, source=ApplicationSource(shop), worker="external") as guard,
        pytest.raises(RegistrationError, match=says),
    ):
        guard_projection(guard, projection, **options)


def test_a_guard_without_the_application_is_refused() -> None:
    """Its events are not those of the projection."""
    with (
        ProjectionGuard("sqlite://", worker="external") as guard,
        pytest.raises(RegistrationError, match=r"source=ApplicationSource\(application\)"),
    ):
        guard_projection(guard, Counts(cast(Any, POPOTrackingRecorder())))


# -- what else the library's projections are


def test_topics_are_kept_to() -> None:
    """A projection that names topics gets no event of another class."""
    with view_for("popo", "") as view, Shop() as shop:
        place = Place("popo", False, "sqlite://", shop, view)
        guard = ProjectionGuard("sqlite://", source=ApplicationSource(shop), worker="external", retry=AT_ONCE)
        place.guards.append(guard)
        guard.migrate()
        assert guard_projection(guard, Nameless(view)).name == "Nameless"
        wanted = fill(shop, carts=2, each=1)
        assert guard.catch_up("Nameless").applied == 2
        assert by_cart(view) == wanted
        place.close()


class Total(Aggregate):
    """What a projection that is an application itself keeps."""

    @event("Begun")
    def __init__(self, owner: UUID) -> None:
        self.owner = owner
        self.amounts: list[int] = []

    @staticmethod
    def create_id(owner: UUID) -> UUID:
        """Name it after its cart."""
        return UUID(int=owner.int ^ 1)

    @event("Raised")
    def add(self, amount: int) -> None:
        """Note an amount."""
        self.amounts.append(amount)


class Totals(EventSourcedProjection[UUID]):
    """An event-sourced projection, whose policy can be broken."""

    breaks = True

    def policy(self, domain_event: Any, processing_event: ProcessingEvent[UUID]) -> None:
        """Keep a total of each cart."""
        if not isinstance(domain_event, Cart.Added):
            return
        if self.breaks and domain_event.amount == 0:
            raise ZeroDivisionError
        try:
            total: Total = self.repository.get(Total.create_id(domain_event.originator_id))
        except AggregateNotFoundError:
            total = Total(owner=domain_event.originator_id)
        total.add(domain_event.amount)
        processing_event.collect_events(total)


def test_an_event_sourced_projection_heals_in_order(tmp_path: Path) -> None:
    """What it records and what it has tracked are one transaction of its own recorder."""
    with Shop() as shop, Totals(env=environment("sqlite", f"{tmp_path}/totals.db")) as totals:
        url, source = f"sqlite:///{tmp_path}/guard.db", ApplicationSource(shop)
        with ProjectionGuard(url, source=source, worker="external", retry=AT_ONCE) as guard:
            guard.migrate()
            guard_projection(guard, totals)
            wanted = fill(shop, carts=3, each=3)
            broken = next(iter(wanted))
            guard.catch_up("Totals")
            assert guard.health("Totals").active_failures == 1
            totals.breaks = False
            guard.worker().run_once()
            for cart, amounts in wanted.items():
                total: Total = totals.repository.get(Total.create_id(UUID(cart)))
                assert total.amounts == amounts, cart == broken


def test_a_view_whose_database_is_away_is_an_outage() -> None:
    """Its pool gives up waiting for a connection: such an event only backs off, and is never exhausted."""
    away = PostgresDatastore("nothing", "127.0.0.1", 1, "nobody", "", connect_timeout=0.05)
    try:
        with pytest.raises(OperationalError) as raised, away.get_connection():
            pass
        assert AT_ONCE.is_transient(raised.value)
    finally:
        away.close()


# -- saving wakes


def test_what_is_saved_is_applied_at_once() -> None:
    """The worker looks once an hour; with `wait=` saving returns when it is applied."""
    with view_for("popo", "") as view, Shop() as shop:
        place = Place("popo", False, "sqlite://", shop, view)
        guard = place.guard()
        with guard.worker(poll_seconds=3600.0):
            publish_saves(shop, guard.publisher(wait=60.0))
            cart = shop.open_cart("someone")
            shop.add(cart, 5, 6)
            assert view.added() == [(str(cart), 5), (str(cart), 6)]
        place.close()


def test_saving_does_not_fail_where_waking_does(caplog: pytest.LogCaptureFixture) -> None:
    """The guard's database has no tables: what was saved is saved, and that is logged."""
    with Shop() as shop, ProjectionGuard("sqlite://", source=ApplicationSource(shop), worker="external") as guard:
        guard.projection("P")(lambda happened: None)
        publish_saves(shop, guard.publisher())
        shop.open_cart("someone")
        assert shop.recorder.max_notification_id() == 1
        assert "followers were not told of 1 saved events: SchemaError" in caplog.text


def test_saves_are_published_where_a_failed_delivery_is_found_again() -> None:
    """Saving tells nobody of an error: without a source, or where nobody awaits it, the event would be lost."""
    with Shop() as shop, ProjectionGuard("sqlite://", worker="external") as pushed:
        with pytest.raises(ConfigurationError, match="ApplicationSource"):
            publish_saves(shop, pushed.publisher())
        awaited: Any = AsyncProjectionGuard("sqlite+aiosqlite://", worker="external").publisher()
        with pytest.raises(ConfigurationError, match="blocking"):
            publish_saves(shop, awaited)
