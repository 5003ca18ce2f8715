"""Each statement of the guard's own bookkeeping fails in turn: effects are exact, nothing untrue is reported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from projection_guard import ProjectionGuardError, StoreUnavailable
from tests.bed import Bed, GuardOnBed
from tests.faults.scenes import DEEDS, Scene, guard_with, places
from tests.faults.spoiling import ProxySpoiler, Spoiler, SqliteSpoiler


@pytest.fixture
def spoiler(bed: Bed) -> Iterator[Spoiler]:
    """What breaks statements of guards made with `spoiler.engine`."""
    made: Spoiler = SqliteSpoiler(bed) if bed.database == "sqlite" else ProxySpoiler(bed)
    bed.url = made.engine
    yield made
    made.close()


def sweep(bed: Bed, spoiler: Spoiler, kind: str, deed: str, *, at_least: int, after: bool = False) -> None:
    """Act one scene after the other, each with the next statement broken, until one has no such statement."""
    guard, planned = guard_with(bed, kind)
    for place in places(bed, kind, deed, turn=after):
        scene = Scene(bed, guard, planned, kind, deed=deed, stream=f"S{place}")
        scene.prepare()
        spoiler.spoil(at=place, after=after)
        scene.act()
        has_happened = spoiler.disarm()
        scene.check()
        scene.finish()
        if not has_happened:
            assert scene.error is None
            assert place > at_least, f"the sweep ended after {place - 1} places"
            dispose(bed, guard)
            return
    pytest.fail("the scene was not survived")


def dispose(bed: Bed, guard: GuardOnBed) -> None:
    """Close an engine that was handed in."""
    bed.run(guard.real.close())
    if bed.database == "sqlite":
        bed.run(guard.real._engine.dispose())


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_error_at_any_statement_of_the_bookkeeping_changes_nothing_in_the_end(
    bed: Bed, spoiler: Spoiler, kind: str, deed: str
) -> None:
    """Statement 1, 2, 3, ... is refused by the database; what reaches the caller is `StoreUnavailable`, or nothing."""
    sweep(bed, spoiler, kind, deed, at_least=0 if (kind, deed) == ("apart", "redeliver") else 1)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_commit_of_sqlite_that_fails_after_it_was_done_changes_nothing_in_the_end(
    sqlite_bed: Bed, kind: str, deed: str
) -> None:
    """The outcome is unknown there too: COMMIT answers with a disk error, and is done."""
    spoiler = SqliteSpoiler(sqlite_bed)
    sqlite_bed.url = spoiler.engine
    sweep(sqlite_bed, spoiler, kind, deed, at_least=0, after=True)


def test_what_reaches_the_caller_says_what_to_do() -> None:
    """`StoreUnavailable` is one of ours and a `ConnectionError`."""
    assert issubclass(StoreUnavailable, ProjectionGuardError)
    assert issubclass(StoreUnavailable, ConnectionError)
