"""What the pages of a projection say: retries, charts, and what was compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tenacity import stop_after_attempt, stop_never, wait_exponential, wait_fixed, wait_random

from projection_guard import RetryPolicy
from projection_guard._dashboard.charts import chart
from projection_guard._dashboard.compared import differing, left_out
from projection_guard._dashboard.course import course
from projection_guard._dashboard.registered import retries_in_words
from projection_guard._history import History, Point


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (RetryPolicy(), "5 retries, after 1 s, 2 s, 4 s, 8 s, 16 s; then it waits for a person"),
        (
            RetryPolicy(wait=wait_fixed(20), stop=stop_after_attempt(2)),
            "1 retry, each after 20 s; then it waits for a person",
        ),
        (
            RetryPolicy(wait=wait_exponential(multiplier=60), stop=stop_after_attempt(9)),
            "8 retries, after 1 min, 2 min, 4 min, 8 min, 16 min, 32 min and so on; then it waits for a person",
        ),
        (RetryPolicy(wait=wait_random(0, 9)), "5 retries; then it waits for a person"),
        (RetryPolicy(wait=wait_fixed(0), stop=stop_never), "without end, each at once"),
        (RetryPolicy(stop=stop_after_attempt(1)), "none: what fails waits for a person"),
    ],
)
def test_retries_are_told_in_words_where_words_are_few(policy: RetryPolicy, words: str) -> None:
    """Waits that draw lots, or are the application's own, are not guessed."""
    assert retries_in_words(policy) == words


def test_a_scale_of_seconds_has_steps_that_people_count_in() -> None:
    """Minutes and hours, not 200 seconds."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    points = tuple(Point(at=begin + timedelta(minutes=n), lag_seconds=130.0 * n) for n in range(6))
    drawn = course(History(projection_name="P", bucket_seconds=60, points=points)).lag
    assert [row.text for row in drawn.rows] == ["0 s", "5 min", "10 min", "15 min"]
    assert drawn.last == "10 min 50 s"


def test_a_course_without_samples_draws_nothing() -> None:
    """Nothing is known, which is not the same as 0."""
    drawn = course(History(projection_name="P", bucket_seconds=900, points=()))
    assert drawn.throughput.is_empty
    assert drawn.handler.is_empty
    assert chart([None, None], [datetime.now(UTC)] * 2, told=str).is_empty


def test_a_verification_is_told_table_by_table() -> None:
    """What cannot be seen is None, and keys are told as text."""
    found = differing(
        {
            "drifted": True,
            "tables": [
                {
                    "table": "docs",
                    "rows_live": None,
                    "rows_copy": 3,
                    "missing": 1,
                    "unexpected": None,
                    "different": 1,
                    "key": ["id", "part"],
                    "first_missing": [["7", None]],
                    "first_unexpected": [],
                    "first_different": [{"key": ["8", "1"], "columns": ["title", "size"]}],
                    "note": "n",
                }
            ],
        }
    )
    (table,) = found
    assert not table.is_alike
    assert [(keys.what, keys.rows) for keys in table.keys] == [
        ("missing", ("7, null",)),
        ("different", ("8, 1 in title, size",)),
    ]


def test_what_was_left_out_of_a_comparison_is_counted() -> None:
    """Only where there is any."""
    told = left_out({"left_out": {"waiting": {"events": 2}, "skipped": {"events": 0}, "by_hand": {"events": 1}}})
    assert told == ("2 events failed or parked", "1 event mended by hand")
    assert left_out(None) == ()
    assert left_out([{"table": "t"}]) == ()
