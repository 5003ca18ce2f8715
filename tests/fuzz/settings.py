"""How many examples are tried: a few, always the same; with `PROJECTION_GUARD_EXAMPLES` so many, at random."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["few"]

EXAMPLES = int(os.environ.get("PROJECTION_GUARD_EXAMPLES", "0"))


def few(number: int) -> settings:
    """Return Hypothesis' settings for a test that tries so many in CI."""
    return settings(
        max_examples=EXAMPLES or number,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
