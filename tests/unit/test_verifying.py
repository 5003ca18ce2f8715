"""How long a copy is built on while the live projection is ahead of it, before that stands still."""

from __future__ import annotations

import pytest

from projection_guard._core.verifying import _is_worth_a_round


@pytest.mark.parametrize(
    ("rounds", "ahead", "built", "is_worth_it"),
    [
        (1, 5_000, 80, True),  # begun when hardly anything had been followed
        (3, 5_000, 80, True),
        (4, 5_000, 80, False),  # it follows faster than this builds
        (4, 5_000, 1_000_000, True),  # it comes nearer
        (21, 5_000, 1_000_000, False),  # not for ever
    ],
)
def test_it_is_built_on_as_long_as_that_brings_it_nearer(
    rounds: int, ahead: int, built: int, is_worth_it: bool
) -> None:
    """And a few times at first, whatever it brings."""
    assert _is_worth_a_round(rounds, ahead, built=built) is is_worth_it
