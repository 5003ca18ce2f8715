"""The store cannot be reached: what the caller is told, how often handlers are called; all comes right after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from projection_guard import DeliveryInterrupted, StoreUnavailable
from tests.bed import Bed, GuardOnBed, Happened, async_url, happened, noted
from tests.faults.proxy import Proxy
from tests.faults.scenes import quiet
from tests.flow.acting import Planned, active_equals_open_rows, states_of, statuses


class Store:
    """The database of a bed, which can be taken away and brought back while guards use it."""

    def __init__(self, engine: Any, leave: Callable[[], None], come_back: Callable[[], None]) -> None:
        self.engine = engine
        self.leave = leave
        self.come_back = come_back


@pytest.fixture
def store(bed: Bed) -> Iterator[Store]:
    """A server: behind a proxy. SQLite: its file is moved away, and each transaction opens it anew."""
    if bed.database != "sqlite":
        with Proxy(bed.url) as proxy:
            yield Store(proxy.url, proxy.go_away, proxy.come_back)
        return
    here = Path(str(make_url(bed.url).database))
    inside, away = here.parent / "there" / here.name, here.parent / "away"
    inside.parent.mkdir()
    bed.engine.dispose()
    here.rename(inside)
    here.symlink_to(inside)
    url = f"sqlite:///{inside}"
    engine = (
        create_async_engine(async_url(url), poolclass=NullPool)
        if bed.is_async
        else create_engine(url, poolclass=NullPool)
    )
    yield Store(engine, lambda: keep(inside.parent.rename(away)), lambda: keep(away.rename(inside.parent)))


def keep(_: object) -> None:
    """Return nothing."""


def guard_on(bed: Bed, store: Store) -> GuardOnBed:
    """Make a guard that finds the database where it can be taken away."""
    bed.url = store.engine
    return bed.guard()


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_no_handler_is_called_where_the_store_is_away_beforehand(bed: Bed, store: Store, kind: str) -> None:
    """`publish` raises `StoreUnavailable`; delivered again, the event is applied once."""
    guard, planned = guard_on(bed, store), Planned("P", note=noted("P"))
    planned.register(bed, guard, kind)
    guard.publish(happened("A", 1))
    store.leave()
    with pytest.raises(StoreUnavailable, match="A#2"):
        guard.publish(happened("A", 2))
    assert planned.calls == ["A#1"]
    store.come_back()
    assert "A#2" not in states_of(bed, "P")
    assert statuses(guard.publish(happened("A", 2))) == ["applied"]
    assert planned.calls == ["A#1", "A#2"]


def test_a_store_away_at_first_contact_is_told_the_same_way(bed: Bed, store: Store) -> None:
    """The very first publish of a process finds nobody."""
    guard, planned = guard_on(bed, store), Planned("P", note=noted("P"))
    planned.register(bed, guard, "joined")
    store.leave()
    with pytest.raises(StoreUnavailable):
        guard.publish(happened("A", 1))
    store.come_back()
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]


@pytest.mark.parametrize("fails", [False, True])
def test_an_apart_handler_that_ran_while_the_store_left_is_called_once_and_not_reported(
    bed: Bed, store: Store, fails: bool
) -> None:
    """Its call is over and cannot be recorded: the caller is told that, and delivers again."""
    guard, calls = guard_on(bed, store), list[str]()

    def body(event: Happened) -> None:
        calls.append(event.event_id)
        if event.event_id == "A#1" and len(calls) == 2:
            store.leave()
            if fails:
                raise ValueError("it fails as well")

    bed.apart(guard, "P", body)
    guard.publish(happened("warm", 1))
    with pytest.raises(StoreUnavailable, match="A#1"):
        guard.publish(happened("A", 1))
    assert calls == ["warm#1", "A#1"]
    store.come_back()
    assert "A#1" not in states_of(bed, "P")
    guard.publish(happened("A", 1))
    quiet(bed, guard)
    assert states_of(bed, "P")["A#1"] == "applied"
    assert calls == ["warm#1", "A#1", "A#1"]


def test_a_joined_handler_during_which_the_store_left_has_no_effect_until_it_is_delivered_again(
    server_bed: Bed, proxy: Proxy
) -> None:
    """The transaction is cut, and the failure cannot be written either."""
    bed, note, calls = server_bed, noted("P"), list[str]()
    guard = bed.guard()

    def body(event: Happened, connection: Any) -> None:
        calls.append(event.event_id)
        note(event, connection)
        if len(calls) == 2:
            proxy.go_away()

    bed.joined(guard, "P", body)
    guard.publish(happened("warm", 1))
    with pytest.raises(StoreUnavailable, match="A#1"):
        guard.publish(happened("A", 1))
    assert bed.effects("P", "A") == []
    proxy.come_back()
    assert statuses(guard.publish(happened("A", 1))) == ["applied"]
    assert (bed.effects("P", "A"), bed.count("A")) == ([("A", 1)], 1)
    assert active_equals_open_rows(bed)


def test_what_was_recorded_is_told_with_the_error(bed: Bed, store: Store) -> None:
    """One projection is recorded before the store leaves in the other's handler: `outcomes` has the one only."""
    guard, calls = guard_on(bed, store), list[str]()

    def body(event: Happened) -> None:
        calls.append(event.event_id)
        if event.event_id == "A#1" and calls.count("A#1") == 1:
            bed.wait_until(lambda: "A#1" in states_of(bed, "J")) if not bed.is_async else None
            store.leave()

    bed.joined(guard, "J", noted("J"))
    bed.apart(guard, "X", body)
    guard.publish(happened("warm", 1))
    with pytest.raises(DeliveryInterrupted) as caught:
        guard.publish(happened("A", 1))
    store.come_back()
    recorded = {outcome.projection for outcome in caught.value.outcomes}  # type: ignore[attr-defined]
    assert recorded | set(caught.value.errors) == {"J", "X"}
    assert "X" in caught.value.errors
    for name in recorded:
        assert states_of(bed, name)["A#1"] == "applied"
    if not bed.is_async:
        assert recorded == {"J"}
    guard.publish(happened("A", 1))
    quiet(bed, guard)
    assert bed.effects("J", "A") == [("A", 1)]
    assert states_of(bed, "X")["A#1"] == "applied"


def test_the_caller_may_choose_a_log_record_instead(bed: Bed, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """`on_unavailable="log"`: nothing is raised, nothing is reported as applied, one record says what to do."""
    guard = guard_on(bed, store)
    bed.joined(guard, "P", noted("P"))
    publisher = bed.run(guard.real).publisher(on_unavailable="log")
    bed.run(publisher.publish(happened("A", 1)))
    store.leave()
    with caplog.at_level(logging.ERROR, logger="projection_guard"):
        outcomes = bed.run(publisher.publish(happened("A", 2)))
    assert outcomes == ()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "delivered again" in record.getMessage()
    store.come_back()
    assert statuses(bed.run(publisher.publish(happened("A", 2)))) == ["applied"]
    assert bed.effects("P") == [("A", 1), ("A", 2)]


def test_a_worker_goes_on_after_the_store_was_away(bed: Bed, store: Store) -> None:
    """It says so in the log, and heals what waits once the store is back."""
    guard, planned = guard_on(bed, store), Planned("P", "A#1", note=noted("P"))
    planned.register(bed, guard, "joined")
    guard.publish(happened("A", 1))
    store.leave()
    with pytest.raises(StoreUnavailable):
        guard.work()
    store.come_back()
    planned.heal()
    quiet(bed, guard)
    assert bed.effects("P") == [("A", 1)]
