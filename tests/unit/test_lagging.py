"""Behind which cursors the log is read, where there are very many."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from projection_guard._core.lagging import MOST_READINGS, next_to_read


def read(cursors: list[int], age_of: Callable[[int], float | None]) -> dict[int, float | None]:
    """Read as long as one may, and return the ages of what was read."""
    ages: dict[int, float | None] = {}
    while len(ages) < MOST_READINGS:
        cursor = next_to_read(cursors, ages)
        if cursor is None:
            break
        assert cursor not in ages
        ages[cursor] = age_of(cursor)
    return ages


@pytest.mark.parametrize("count", range(MOST_READINGS + 1))
def test_few_cursors_are_all_read(count: int) -> None:
    """Sixteen can be read, so of sixteen nothing is guessed."""
    cursors = [7 * each for each in range(count)]
    assert sorted(read(cursors, float)) == cursors


@pytest.mark.parametrize("stuck", [1, 2, 20, 100, 198, 199])
@pytest.mark.parametrize("steepness", [0.0, 3600.0])
def test_it_is_found_where_the_stuck_ones_end(stuck: int, steepness: float) -> None:
    """Of 200 some have stood for days, each for another time: no other takes the age of one of them for its own."""
    cursors = list(range(200))

    def age_of(cursor: int) -> float:
        return 86_400.0 + steepness * (stuck - cursor) if cursor < stuck else 2.0 - cursor / 200

    ages = read(cursors, age_of)
    assert len(ages) == MOST_READINGS
    assert stuck in ages
    assert stuck - 1 in ages


def test_a_backlog_is_told_closely_everywhere() -> None:
    """Two hundred cursors, evenly over an hour: each takes an age that is not too low, and not by half too high."""
    real = [3600.0 * (1 - cursor / 200) for cursor in range(200)]
    ages = read(list(range(200)), lambda cursor: real[cursor])
    told = 0.0
    for cursor, age in enumerate(real):
        told = ages.get(cursor) or told
        assert age <= told <= 1.5 * age


def test_what_tells_no_time_is_read_around() -> None:
    """An event without a time says nothing of those behind it: what is near is read too, and it ends."""
    ages = read(list(range(200)), lambda cursor: None if cursor < 3 else 60.0)
    assert {0, 1, 2, 3} <= set(ages)
    assert len(read(list(range(200)), lambda _: None)) == MOST_READINGS
