"""The conformance suite in part: for readers of logs whose way of reading is tested with all of it elsewhere."""

from __future__ import annotations

from typing import Final, TypeVar

from projection_guard.testing.source_conformance import SourceConformance
from tests.turns import IS_EVERY

__all__ = ["few"]

T = TypeVar("T", bound=SourceConformance)
RULES: Final = {
    "test_it_is_a_source_by_its_methods",
    "test_an_empty_log_is_no_error",
    "test_until_is_included",
    "test_nothing_appears_at_or_below_a_position",
    "test_head_is_the_highest_sequence",
    "test_reading_again_gives_equal_events",
    "test_get_finds_an_event_by_its_id",
    "test_a_hole_is_waited_for_until_it_is_filled",
    "test_two_open_transactions_that_end_in_turned_order",
    "test_a_share_has_all_of_its_events",
    "test_a_part_of_a_stream_is_its_newest_below_a_sequence",
}


def few(kind: type[T]) -> type[T]:
    """Leave out most of the rules; with PROJECTION_GUARD_FAULTS=every none."""
    for name in dir(kind):
        if name.startswith("test_") and name not in RULES and not IS_EVERY:
            setattr(kind, name, None)
    return kind
