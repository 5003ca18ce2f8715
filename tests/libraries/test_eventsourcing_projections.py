"""Projections of `eventsourcing` under guard, with views of each kind; the library's code and theirs unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

pytest.importorskip(
    "eventsourcing", reason="eventsourcing is not installed: pip install 'projection-guard[eventsourcing]'"
)

from eventsourcing.persistence import Tracking

from projection_guard.errors import ConfigurationError, InvalidArgument
from tests.libraries import eventsourcing_place
from tests.libraries.eventsourcing_place import NAME, Place, by_cart, fill
from tests.libraries.eventsourcing_shop import Shop, environment, view_for
from tests.turns import IS_EVERY

place = eventsourcing_place.place


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


@pytest.mark.skipif(
    not IS_EVERY,
    reason="two processes, and the rule is tested above within one: PROJECTION_GUARD_FAULTS=every kills one",
)
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
