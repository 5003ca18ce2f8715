"""Projections of `eventsourcing` under guard, with views of each kind; the library's code and theirs unchanged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from tests.bed import AT_ONCE
from tests.libraries.eventsourcing_shop import Cart, Counts, InMemoryView, Shop, View, environment, view_for

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'projection-guard[postgresql]'")

from eventsourcing.application import AggregateNotFoundError, ProcessingEvent
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import OperationalError, Tracking, TrackingRecorder
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.postgres import PostgresDatastore
from eventsourcing.projection import EventSourcedProjection, Projection, ProjectionRunner
from eventsourcing.utils import get_topic

from projection_guard import AsyncProjectionGuard, ProjectionGuard
from projection_guard._desk import engine_of
from projection_guard.errors import ConfigurationError, InvalidArgument, RegistrationError
from projection_guard.eventsourcing import ApplicationSource, guard_projection, publish_saves
from projection_guard.eventsourcing._tracking import Tracked

NAME = "counts"
WAYS = [("popo", "blocking"), ("sqlite", "async"), ("postgresql", "blocking")]


@dataclass
class Place:
    """An application, a projection with its view, and where the guard keeps what it knows."""

    kind: str
    is_async: bool
    url: str
    shop: Shop
    view: View
    guards: list[Any] = field(default_factory=list)
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __post_init__(self) -> None:
        self.projection = Counts(self.view)

    def guard(self, **options: Any) -> Any:
        """Make a guard with the projection."""
        kind = AsyncProjectionGuard if self.is_async else ProjectionGuard
        made: Any = kind(self.url, source=ApplicationSource(self.shop), worker="external", retry=AT_ONCE)
        self.guards.append(made)
        self.run(made.migrate())
        guard_projection(made, self.projection, **options)
        return made

    def run(self, result: Any) -> Any:
        """Await what has to be awaited."""
        return self.runner.run(_awaited(result)) if asyncio.iscoroutine(result) else result

    def clearing(self, clear: Callable[..., object]) -> Callable[..., object]:
        """Return a function for `on_reset`, as this guard wants it."""
        if not self.is_async:
            return clear

        async def clear_async(*arguments: object) -> None:
            clear(*arguments)

        return clear_async

    def close(self) -> None:
        """Stop everything."""
        for guard in self.guards:
            self.run(guard.close())
        self.runner.close()


async def _awaited(result: Any) -> Any:
    return await result


@pytest.fixture(params=WAYS, ids="-".join)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of view, each kind of guard. On PostgreSQL all three are in one database."""
    kind, guard_kind = request.param
    url, log, view = "sqlite://", "", ""
    if kind == "sqlite":
        url, log, view = f"sqlite:///{tmp_path}/guard.db", f"{tmp_path}/log.db", f"{tmp_path}/view.db"
    elif kind == "postgresql":
        url = log = view = request.getfixturevalue("postgres_url")
    with Shop(env=environment(kind, log)) as shop, view_for(kind, view) as made:
        place = Place(kind, guard_kind == "async", url, shop, made)
        yield place
        place.close()


def fill(shop: Shop, carts: int, each: int) -> dict[str, list[int]]:
    """Make carts with so many amounts each, in turns; return what a view has to come to."""
    made = [Cart("someone") for _ in range(carts)]
    shop.save(*made)
    for turn in range(each):
        for number, cart in enumerate(made):
            cart.add(turn * carts + number)
        shop.save(*made)
    return {str(cart.id): [turn * carts + number for turn in range(each)] for number, cart in enumerate(made)}


def by_cart(view: View) -> dict[str, list[int]]:
    """Return what a view has, in order."""
    found: dict[str, list[int]] = {}
    for cart, amount in view.added():
        found.setdefault(cart, []).append(amount)
    return found


def test_one_poison_event_stops_its_own_stream_only_and_heals_in_order(place: Place) -> None:
    """Of 100 streams 99 go on; once the projection is well, the last one is complete, in order, each event once."""
    wanted = fill(place.shop, carts=100, each=3)
    poisoned = next(cart for cart, amounts in wanted.items() if 117 in amounts)  # its second one
    place.projection.breaks_at = {117}
    guard = place.guard(partitions=4)
    place.run(guard.catch_up(NAME))
    seen = by_cart(place.view)
    assert seen.pop(poisoned) == [17]
    assert seen == {cart: amounts for cart, amounts in wanted.items() if cart != poisoned}
    assert [found.event_id for found in place.run(guard.failures(NAME)).items] == [f"{poisoned}:3"]
    place.projection.breaks_at.clear()
    place.run(guard.worker().run_once())
    assert by_cart(place.view) == wanted
    health = place.run(guard.health(NAME))
    assert (health.active_failures, health.status) == (0, "healthy")


def test_what_the_view_has_is_not_applied_again(place: Place) -> None:
    """A guard that knows nothing of it, as after a crash before its record or restored from a backup, calls again."""
    wanted = fill(place.shop, carts=3, each=2)
    place.run(place.guard().catch_up(NAME))
    assert by_cart(place.view) == wanted
    if place.kind == "postgresql":
        forgetful = place.guard
        for table in ("projection_partitions", "projection_checkpoints", "projection_states"):
            _change(place, f"DELETE FROM {table}")
    else:
        place.url = "sqlite://" if place.kind == "popo" else place.url.replace("guard.db", "other.db")
        forgetful = place.guard
    guard = forgetful()
    assert place.run(guard.catch_up(NAME)).applied == 9
    assert by_cart(place.view) == wanted
    place.shop.add(UUID(next(iter(wanted))), 1000)
    place.run(guard.catch_up(NAME))
    assert place.view.added()[-1] == (next(iter(wanted)), 1000)


def _change(place: Place, statement: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(place.url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_a_constraint_of_the_views_own_is_a_failure(tmp_path: Path) -> None:
    """An `IntegrityError` says that an event is done only where the view has tracked it."""
    shop = Shop(env=environment("sqlite", f"{tmp_path}/log.db"))
    with view_for("sqlite", f"{tmp_path}/view.db") as view, shop:
        place = Place("sqlite", False, f"sqlite:///{tmp_path}/guard.db", shop, view)
        guard = place.guard()
        one, other = shop.open_cart("one"), shop.open_cart("other")
        shop.add(one, 5)
        shop.add(other, 5)  # UNIQUE in the view
        guard.catch_up(NAME)
        (failure,) = guard.failures(NAME).items
        assert (failure.stream_id, failure.error_type.rpartition(".")[2]) == (str(other), "IntegrityError")
        assert view.added() == [(str(one), 5)]
        place.close()


def test_rebuild_and_replay_of_a_stream_clear_what_was_tracked(place: Place) -> None:
    """With it they apply again, and each event once; a range, which the view would refuse silently, is refused."""
    wanted = fill(place.shop, carts=3, each=2)
    first = next(iter(wanted))

    def clear_one(_: object, stream_id: str) -> None:
        kept = [row for row in place.view.added() if row[0] != stream_id]
        place.view.clear()
        for number, (cart, amount) in enumerate(kept, start=1):
            place.view.add(UUID(cart), amount, Tracking("kept", number))

    guard = place.guard(
        on_reset=place.clearing(lambda _: place.view.clear()), on_reset_stream=place.clearing(clear_one)
    )
    place.run(guard.catch_up(NAME))
    assert place.run(guard.rebuild(NAME, actor="alice")).status == "completed"
    assert by_cart(place.view) == wanted
    with pytest.raises(InvalidArgument, match="refuses what it has already"):
        place.run(guard.replay(NAME, from_sequence=1, actor="alice"))
    assert place.run(guard.replay(NAME, stream_id=first, actor="alice")).status == "completed"
    assert by_cart(place.view) == wanted
    assert place.view.added()[-2:] == [(first, amount) for amount in wanted[first]]


def test_a_rebuild_that_cannot_clear_the_view_is_refused(place: Place) -> None:
    """Without `on_reset` it would call everything again, and the view would refuse it all."""
    wanted = fill(place.shop, carts=2, each=1)
    guard = place.guard()
    place.run(guard.catch_up(NAME))
    for act in (guard.rebuild, guard.reset):
        with pytest.raises(ConfigurationError, match="has no on_reset="):
            place.run(act(NAME, actor="alice"))
    with pytest.raises(ConfigurationError, match="has no on_reset="):
        place.run(guard.replay(NAME, stream_id=next(iter(wanted)), actor="alice"))
    place.shop.add(UUID(next(iter(wanted))), 1000)
    place.run(guard.catch_up(NAME))
    assert by_cart(place.view) == {
        cart: [*amounts, *([1000] if i == 0 else [])] for i, (cart, amounts) in enumerate(wanted.items())
    }


def test_one_file_for_all_can_be_rebuilt(tmp_path: Path) -> None:
    """On SQLite the guard's transaction holds the file: what was tracked is forgotten in that one."""
    path = f"{tmp_path}/all.db"
    with Shop(env=environment("sqlite", path)) as shop, view_for("sqlite", path) as view:
        place = Place("sqlite", False, f"sqlite:///{path}", shop, view)
        wanted = fill(shop, carts=2, each=2)
        guard = place.guard(on_reset=lambda connection: connection.exec_driver_sql("DELETE FROM added"))
        guard.catch_up(NAME)
        guard.rebuild(NAME, actor="alice")
        assert by_cart(view) == wanted
        place.close()


# -- a runner's view is taken over


def test_a_view_that_a_runner_has_filled_goes_on_where_it_stood() -> None:
    """The guard reads from the beginning, and applies nothing that the runner has applied."""
    runner: Any = ProjectionRunner(
        application_class=Shop, projection_class=Counts, view_class=cast(Any, InMemoryView), env={}
    )
    with runner:
        wanted = fill(runner.app, carts=3, each=1)
        runner.wait(runner.app.recorder.max_notification_id(), timeout=10)
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
            publish_saves(shop, guard.publisher(wait=20.0))
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


# -- a process dies between the view's commit and the guard's

DIES = """
import os, sys
from datetime import timedelta
from tests.bed import AT_ONCE
from tests.libraries.eventsourcing_shop import *
from projection_guard import ProjectionGuard
from projection_guard.eventsourcing import ApplicationSource, guard_projection

folder, dies_at = sys.argv[1], int(sys.argv[2])
shop = Shop(env=environment("sqlite", f"{folder}/log.db"))
with view_for("sqlite", f"{folder}/view.db") as view:
    projection = Counts(view)
    projection.after_commit = lambda amount: os._exit(9) if amount == dies_at else None
    options = dict(source=ApplicationSource(shop), worker="external", retry=AT_ONCE, lease=timedelta(seconds=1))
    with ProjectionGuard(f"sqlite:///{folder}/guard.db", **options) as guard:
        guard.migrate()
        guard_projection(guard, projection)
        guard.catch_up("counts")
        print(guard.health("counts").active_failures)
"""


def test_a_process_that_dies_after_the_views_commit(tmp_path: Path) -> None:
    """Its stretch is called again, and what the view has tracked is not in it twice."""
    with Shop(env=environment("sqlite", f"{tmp_path}/log.db")) as shop:
        wanted = fill(shop, carts=2, each=3)
    assert _run_that_dies(tmp_path, at=3).returncode == 9
    ended = _run_that_dies(tmp_path, at=-1)
    assert (ended.returncode, ended.stdout.strip()) == (0, "0"), ended.stderr
    with view_for("sqlite", f"{tmp_path}/view.db") as view:
        assert by_cart(view) == wanted


def _run_that_dies(folder: Path, *, at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DIES, str(folder), str(at)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
