"""Claiming due failures, and what a worker and an operator look at, beside a million failures that healed long ago."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from projection_guard import ProjectionGuard
from projection_guard._store import failures, gates, states

from ._bed import Counted, Run, bed, insert
from ._harness import Block, measure
from ._report import Row
from ._stored import add_due, add_open, add_resolved, tidy

__all__ = ["on_postgresql"]

_RESOLVED = 1_000_000
_OPEN = 100_000
_DUE = 100
_PROJECTION = "claimed"
_ROUNDS = 15
_PER_ROUND = 20
_INDEX = "ix_projection_failures_due"
Look = Callable[[Connection], object]
_LOOKS: Mapping[str, Look] = {
    "names_with_work": lambda connection: states.names_with_work(connection, "process:nobody"),
    "drainable": lambda connection: gates.drainable(connection, _PROJECTION, 100),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    engine: Engine
    guard: ProjectionGuard


def on_postgresql(run: Run) -> list[Row]:
    """Measure beside resolved failures, then beside open ones too; the baseline is a table with the due ones only."""
    resolved, open_ones = run.size(_RESOLVED), run.size(_OPEN)
    with ExitStack() as stack:
        empty = stack.enter_context(_place(run))
        full = stack.enter_context(_place(run))
        add_resolved(full.engine, _PROJECTION, resolved)
        for place in (empty, full):
            add_due(place.engine, _PROJECTION, _DUE)
            tidy(place.engine)
        rows = _claims(run, empty, full, f"beside {resolved:,} resolved")
        add_open(full.engine, _PROJECTION, open_ones)
        tidy(full.engine)
        beside = f"beside {resolved:,} resolved, {open_ones:,} open"
        rows += _claims(run, empty, full, beside)
        for name, look in _LOOKS.items():
            rows.append(_compared(run, empty, full, f"{name}, {beside}", partial(_looking, look)))
        rows.append(_compared(run, empty, full, f"guard.health(), {beside}", _judging, per_round=2))
    return rows


@contextmanager
def _place(run: Run) -> Generator[_Place]:
    with bed(run) as url:
        engine = create_engine(url)
        with ProjectionGuard(engine, worker="external") as guard:
            guard.projection(_PROJECTION, handles=[Counted])(insert)
            guard.health(_PROJECTION)
            yield _Place(engine=engine, guard=guard)
        engine.dispose()


def _compared(
    run: Run,
    empty: _Place,
    full: _Place,
    measured: str,
    block: Callable[[_Place], Block],
    *,
    per_round: int = _PER_ROUND,
) -> Row:
    samples = measure({"empty": block(empty), "full": block(full)}, rounds=run.rounds(_ROUNDS), per_round=per_round)
    return Row(
        benchmark="claiming",
        measure=measured,
        ratio=samples.ratio("full", "empty"),
        microseconds=samples.microseconds("full"),
        baseline_microseconds=samples.microseconds("empty"),
    )


def _claims(run: Run, empty: _Place, full: _Place, beside: str) -> list[Row]:
    row = _compared(run, empty, full, f"one claim, {beside}", partial(_looking, _claim))
    plans = list(_plans(full.engine))
    scanned = {scan for plan in plans for scan in _scans(plan)}
    is_indexed = _INDEX in scanned and "Seq Scan" not in scanned
    return [
        row,
        Row(
            benchmark="claiming",
            measure=f"its plan, {beside}",
            holds=is_indexed,
            remark=("uses " if is_indexed else "does not only use ") + f"{_INDEX}: {', '.join(sorted(scanned))}",
        ),
    ]


def _claim(connection: Connection) -> object:
    return failures.claim_due(connection, _PROJECTION, process="process:nobody", token="token", lease_seconds=15.0)


def _looking(look: Look, place: _Place) -> Block:
    """Look in a transaction that is taken back, so that every look finds the same."""

    def block(number: int) -> float:
        with place.engine.connect() as connection:
            seconds = 0.0
            for _ in range(number):
                connection.begin()
                started = perf_counter()
                look(connection)
                seconds += perf_counter() - started
                connection.rollback()
        return seconds

    return block


def _judging(place: _Place) -> Block:
    def block(number: int) -> float:
        started = perf_counter()
        for _ in range(number):
            place.guard.health(_PROJECTION)
        return perf_counter() - started

    return block


def _plans(engine: Engine) -> Iterator[Mapping[str, Any]]:
    """Explain the claim as it is sent: planned for its parameters, and planned once for all."""
    sent: list[tuple[str, Mapping[str, object]]] = []

    def remember(*given: Any) -> None:
        sent.append((given[2], given[3]))

    with engine.connect() as connection:
        event.listen(engine, "before_cursor_execute", remember)
        _claim(connection)
        event.remove(engine, "before_cursor_execute", remember)
        connection.rollback()
        statement, parameters = sent[-1]
        yield connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", dict(parameters)).scalar_one()[0]["Plan"]
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
        numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", statement).replace("%%", "%")
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql(f"PREPARE claim AS {numbered}".replace("%", "%%"))
        given = ", ".join("NULL" for _ in names)
        yield connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE claim({given})").scalar_one()[0]["Plan"]
        connection.exec_driver_sql("DEALLOCATE claim")


def _scans(plan: Mapping[str, Any]) -> Iterator[str]:
    """Name the indexes with which a plan reads the failures, or its sequential scan of them."""
    if plan.get("Relation Name") == "projection_failures" or plan["Node Type"].startswith("Bitmap Index"):
        name = plan.get("Index Name") or plan["Node Type"]
        if name not in ("ModifyTable", "Bitmap Heap Scan"):
            yield name
    for part in plan.get("Plans", ()):
        yield from _scans(part)
