"""What operators look at first is found by indexes, however many failures there are: the plans say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event

from projection_guard import FailureFilter, ProjectionGuard
from projection_guard._store.cursors import read_cursor
from tests.plans.many import NAMES, fill, guarding

NOW = datetime.now(UTC)
CRITERIA: tuple[dict[str, Any], ...] = (
    {},
    {"error_type": "RareError"},
    {"error_type": "Error1"},
    {"fingerprint": "print7"},
    {"fingerprint": "none"},
    {"event_type": "Type1"},
    {"event_type": "none"},
    {"stream_id": "s77"},
    {"state": "scheduled"},
    {"state": "exhausted"},
    {"state": "resolved"},
    {"failed_from": NOW - timedelta(days=8, hours=23)},
    {"failed_until": NOW - timedelta(days=8, hours=23)},
)
_LARGE = ("projection_failures", "projection_audit_log", "projection_applied_events")
READ_AT_MOST = 4_000
"""Rows for one page of 100 out of three projections, with what is merged from each."""


@dataclass(frozen=True)
class Look:
    """Something an operator looks at. `is_page`: it reads about as many rows as it shows, and no more."""

    name: str
    call: Callable[[], object]
    is_page: bool = True


def pages_of(guard: ProjectionGuard) -> Iterator[Look]:
    """Name the first page of every list, and what is counted, by every criterion."""
    for criteria in CRITERIA:
        where = FailureFilter(**criteria)
        for name in (None, *NAMES):
            yield Look(f"failures {name} {criteria}", partial(guard.failures, name, where=where))
        if criteria.get("state") != "resolved":
            yield Look(f"count {criteria}", partial(guard.count_failures, where), is_page=False)
    for name in (None, *NAMES):
        yield Look(f"all failures {name}", partial(guard.failures, name, include_resolved=True))
        yield Look(f"groups {name}", partial(guard.failure_groups, name), is_page=False)
    for stream_id in (None, "s77"):
        yield Look(f"parked {stream_id}", partial(guard.parked, "Big", stream_id=stream_id))
    yield Look("stream", partial(guard.stream, "Big", "s77"))
    yield Look("a part of a stream", lambda: guard.stream("Big", "s77", after=_second_page(guard)))
    yield Look("a stream that is not there", partial(guard.stream, "Big", "none"))
    for name in ("Small", "Rare"):
        yield Look(f"audit {name}", partial(guard.audit, name))
    yield Look("audit", guard.audit)
    yield Look("audit by an actor", partial(guard.audit, actor="rare"))
    yield Look("audit of an action", partial(guard.audit, action="rare"))
    yield Look("audit of a failure", lambda: guard.audit(failure_id="00000000-0000-4000-8000-000000000000"))
    yield Look("parked behind", lambda: guard.failures(where=FailureFilter(state="parked")), is_page=False)
    yield Look("health", guard.health, is_page=False)


def _second_page(guard: ProjectionGuard) -> str | None:
    after: str | None = None
    while (after := guard.stream("Big", "s77", limit=40, after=after).page.after) is not None:
        if read_cursor(after, 4)[0] == "done":
            return after
    return None


@contextmanager
def noting(engine: Engine) -> Generator[list[tuple[str, Any]]]:
    """Note the statements that read what there is very much of."""
    seen = list[tuple[str, Any]]()

    def note(connection: object, cursor: object, statement: str, parameters: Any, *rest: object) -> None:
        if "SELECT" in statement and "projection_" in statement and not statement.startswith("EXPLAIN"):
            seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Walk through a plan of PostgreSQL's."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def objections_postgresql(connection: Connection, statement: str, parameters: Any, *, is_page: bool) -> list[str]:
    """Say what is wrong with a plan: a table that is read from end to end, or rows that are read for nothing."""
    explain = "EXPLAIN (ANALYZE, FORMAT JSON) " + statement
    answer = connection.exec_driver_sql(explain, parameters).scalar_one()
    (found,) = json.loads(answer) if isinstance(answer, str) else answer
    wrong, read = list[str](), 0.0
    for node in nodes(found["Plan"]):
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in _LARGE:
            wrong.append(f"reads all of {node['Relation Name']}")
        if "Scan" in node["Node Type"] and node["Node Type"] != "Subquery Scan":
            per_loop = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
            read += per_loop * node.get("Actual Loops", 1)
    if is_page and read > READ_AT_MOST:
        wrong.append(f"reads {read:.0f} rows")
    return wrong


def objections_sqlite(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """Say where a plan reads a table from end to end.

    The audit log is read backwards by its key, all open failures by an index that has them in their order: both to the
    end of a page.
    """
    rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters).all()
    details = [str(row.detail) for row in rows]
    ends_early = "LIMIT" in statement and not any("TEMP B-TREE" in detail for detail in details)
    in_order = "SCAN projection_failures USING INDEX ix_projection_failures_open_newest" if ends_early else None
    whole = "SCAN projection_applied_events"  # what is to be rolled up has an index that is read from end to end
    scans = [each for each in details if each.startswith("SCAN projection_failures") or each == whole]
    return [each for each in scans if each != in_order]


@pytest.fixture(params=["sqlite", "postgresql"])
def crowded(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A database in which there is very much of everything: filled by the one test of each database."""
    url = str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))
    fill(url)
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.mark.slow
def test_first_pages_are_found_by_indexes(crowded: Engine) -> None:
    """No list reads a table from end to end, and none reads many more rows than it shows."""
    wrong = list[str]()
    with guarding(crowded) as guard, crowded.connect() as connection:
        guard.health()
        for look in pages_of(guard):
            with noting(crowded) as seen:
                look.call()
            assert seen
            for statement, parameters in seen:
                if crowded.dialect.name == "sqlite":
                    found = objections_sqlite(connection, statement, parameters)
                else:
                    found = objections_postgresql(connection, statement, parameters, is_page=look.is_page)
                wrong += [f"{look.name}: {each}" for each in found]
    assert wrong == []


def test_successes_to_be_counted_are_found_by_their_index_in_a_table_nobody_has_analysed_yet(postgres_url: str) -> None:
    """A new database has no statistics: what is counted once a second must not be paid for by all that was applied."""
    engine = create_engine(postgres_url)
    with guarding(engine) as guard, engine.connect() as connection:
        guard.health()
        connection.exec_driver_sql(
            "INSERT INTO projection_applied_events"
            " (projection_name, event_id, stream_id, event_type, applied_at, rolled_up)"
            " SELECT 'Big', 'e-' || n, 's', 'T', now(), n > 100 FROM generate_series(1, 5000) n"
        )
        connection.commit()
        with noting(engine) as seen:
            assert guard.worker().run_once().rolled_up == 100
        counting = [each for each in seen if each[0].startswith("UPDATE projection_applied_events")]
        connection.exec_driver_sql("UPDATE projection_applied_events SET rolled_up = false WHERE event_id < 'e-2'")
        (found,) = {tuple(objections_postgresql(connection, *each, is_page=True)) for each in counting}
    engine.dispose()
    assert found == ()
