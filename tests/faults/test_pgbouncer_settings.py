"""What docs/pgbouncer.md says of PgBouncer's settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from projection_guard import StoreUnavailable
from tests.bed import Bed, happened, noted
from tests.faults.pooler import pooled
from tests.flow.acting import Planned, statuses, work_until_done
from tests.turns import IS_EVERY

ALWAYS = {"server_reset_query": "DISCARD ALL", "server_reset_query_always": "1"}


DRIVERS = ["asyncpg", "psycopg"] if IS_EVERY else ["asyncpg"]
"""psycopg has the tests in `test_pgbouncer.py` besides; here it runs for whoever has the time."""


@pytest.fixture(params=DRIVERS)
def bed(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Bed]:
    """The async guard, with each driver."""
    pytest.importorskip(request.param, reason=f"the driver {request.param} is not installed")
    made = Bed("async", "postgresql", postgres_url, driver="asyncpg" if request.param == "asyncpg" else None)
    yield made
    made.close()


def heals(bed: Bed) -> bool:
    """Let a stream fail, wait and heal; return whether it did so in order."""
    guard, planned = bed.guard(), Planned("P", "A#1", note=noted("P"))
    planned.register(bed, guard, "joined")
    found = [statuses(guard.publish(happened("A", n))) for n in (1, 2)]
    planned.heal()
    work_until_done(bed, guard)
    return found == [["failed"], ["parked"]] and bed.effects("P") == [("A", 1), ("A", 2)]


def test_a_reset_after_every_transaction_harms_nothing(bed: Bed) -> None:
    """`server_reset_query_always`: the guard leaves nothing in a session that it would miss."""
    with pooled(bed.url, connections=2, **ALWAYS) as bed.url:
        assert heals(bed)


def test_session_mode_is_a_connection_of_ones_own(bed: Bed) -> None:
    """As without a pooler, as long as there are enough connections."""
    with pooled(bed.url, connections=10, pool_mode="session") as bed.url:
        assert heals(bed)


def test_statement_mode_is_refused_before_any_handler_is_called(bed: Bed) -> None:
    """There are no transactions in it; PgBouncer says so, and nothing was applied."""
    with pooled(bed.url, connections=2, pool_mode="statement") as bed.url:
        guard = bed.guard()
        bed.joined(guard, "P", noted("P"))
        with pytest.raises(StoreUnavailable):
            guard.publish(happened("A", 1))
    assert bed.effects("P") == []
