"""What the oracle says of a database in which one thing is wrong: each of its judgements, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from projection_guard import ProjectionGuard
from tests.chaos import guards, world
from tests.chaos.oracle import Finding, Oracle
from tests.chaos.world import Fact

SKIPPED = (
    "UPDATE projection_failures SET resolved_at = updated_at, resolution_method = 'manual_skip', resolved_by = {}, "
    "next_retry_at = NULL"
)
CLOSED = "UPDATE projection_health_metrics SET active_failures = 0"
TAINTED = "UPDATE projection_streams SET tainted = true, tainted_reason = 'a connection was lost'"


class Table:
    """A database as a short run leaves it: S#1 and S#2 are applied, and S#3 has failed where it is `sick`."""

    def __init__(self, url: str, *, is_sick: bool = False) -> None:
        with ProjectionGuard(url, worker="external") as guard:
            guard.migrate()
        self.engine: Engine = create_engine(url)
        world.create(self.engine)
        self.change("UPDATE chaos_switch SET is_on = 0")
        plain = url.removeprefix("sqlite:///").replace("+psycopg", "")
        self._oracle = Oracle(plain, joined=("pushed", "sick"), apart=(), followed=())
        self.order = {"url": url, "log_url": url, "kind": "blocking"}
        with guards.pushed(self.order) as guard:
            for n in (1, 2, 3):
                self.change(f"INSERT INTO chaos_log (event_id, stream_id, n) VALUES ('S#{n}', 'S', {n})")
                if n == 3:
                    if not is_sick:
                        break
                    self.change("UPDATE chaos_switch SET is_on = 1 WHERE name = 'sick'")
                guard.apply("sick", Fact(event_id=f"S#{n}", stream_id="S", sequence=n, n=n))
                guard.apply("pushed", Fact(event_id=f"S#{n}", stream_id="S", sequence=n, n=n))
            guard.worker().run_once()  # counts them
        self.acked = {"S": 3 if is_sick else 2}

    def change(self, *statements: str) -> None:
        """Plant what is wrong."""
        with self.engine.begin() as connection:
            for statement in statements:
                assert connection.execute(text(statement)).rowcount != 0, statement

    def look(self) -> list[Finding]:
        """Let the oracle look."""
        return self._oracle.look(self.acked)[1]

    def kinds(self) -> set[str]:
        """Let it look, and return what it calls that."""
        return {finding.kind for finding in self.look()}


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def url(request: pytest.FixtureRequest) -> str:
    """Where it looks."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def well(url: str) -> Iterator[Table]:
    """Two events are applied."""
    made = Table(url)
    assert made.look() == []
    yield made
    made.engine.dispose()


@pytest.fixture
def failed(url: str) -> Iterator[Table]:
    """The third one has failed in "sick"."""
    made = Table(url, is_sick=True)
    assert made.look() == []
    yield made
    made.engine.dispose()


def test_an_acknowledged_event_that_is_nowhere_is_lost(well: Table) -> None:
    """A publisher was told of one more."""
    well.acked = {"S": 3}
    assert well.kinds() == {"lost"}


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE chaos_model SET applied = 1", "lost"),
        ("UPDATE chaos_model SET applied = 3", "twice"),
        ("UPDATE chaos_model SET chain = 'another'", "order"),
        ("UPDATE projection_health_metrics SET active_failures = 1", "count"),
        ("UPDATE projection_checkpoints SET last_event_sequence = 0", "checkpoint"),
        ("UPDATE projection_streams SET lease_owner = 'x', lease_expires_at = '2099-01-01 00:00:00.000000'", "lease"),
        ("INSERT INTO chaos_resets VALUES ('pushed', '2020-01-01 00:00:00.000000')", "audit"),
    ],
)
def test_each_promise_has_a_judgement(well: Table, statement: str, kind: str) -> None:
    """It is red, and called by its name."""
    well.look()
    well.change(statement)
    assert kind in well.kinds()


def test_an_open_event_that_was_passed_over_is_a_finding(failed: Table) -> None:
    """P2: what comes after it waits."""
    failed.change("UPDATE chaos_model SET last_n = 4 WHERE projection = 'sick'")
    assert "states" in failed.kinds()


def test_open_failures_are_counted_where_nothing_has_counted_them(failed: Table) -> None:
    """P6: no row of metrics is a count of nothing."""
    failed.change("DELETE FROM projection_health_metrics WHERE projection_name = 'sick'")
    assert failed.kinds() == {"count"}


@pytest.mark.parametrize("who", ["NULL", "'worker'", "'admin-1'"])
def test_what_is_skipped_by_nobody_on_record_is_a_finding(failed: Table, who: str) -> None:
    """A skip takes an event out of what is expected; only a person's own deed is believed to have done that."""
    failed.change(SKIPPED.format(who), CLOSED)
    assert failed.kinds() == {"audit"}


def test_what_a_person_has_skipped_is_left_out(failed: Table) -> None:
    """The same, done by the guard."""
    with guards.pushed(failed.order) as guard:
        (failure,) = guard.failures("sick").items
        guard.resolve(failure.id, "skip", actor="admin-1")
    assert failed.look() == []


def test_a_tainted_stream_may_be_out_of_order_but_has_nothing_twice(well: Table) -> None:
    """What excuses the order excuses nothing else."""
    well.change(TAINTED, "UPDATE chaos_model SET chain = 'another'")
    assert well.look() == []
    well.change("INSERT INTO chaos_journal (projection, stream, n) VALUES ('pushed', 'S', 1)")
    assert well.kinds() == {"twice"}
