"""How long it takes from `publish` until the event is applied, where the follower runs in the same process."""

from __future__ import annotations

from random import Random
from statistics import quantiles
from time import perf_counter, sleep

from sqlalchemy import Engine, create_engine, text

from ._bed import Run, bed, events, insert
from ._following import Follower, following
from ._log import Log, applied_once, log_in
from ._report import Row

__all__ = ["on_postgresql"]

_EVENTS = 400
_WARM_UP = 20
_MOST_BETWEEN_SECONDS = 0.02
_GIVEN_UP_AFTER_SECONDS = 30.0
_APPLIED = text("SELECT EXISTS (SELECT FROM read_model WHERE event_id = :event_id)")


def on_postgresql(run: Run) -> list[Row]:
    """Measure one event at a time: appended to the log and committed, then published, then seen in the read model."""
    measured = "from publish until it can be seen, one event at a time"
    with bed(run) as url:
        engine = create_engine(url)
        log = log_in(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE INDEX ON read_model (event_id)")
        with following(engine, "soon", insert, is_running=True) as follower:
            _seconds(engine, log, follower, _WARM_UP)
            seconds = _seconds(engine, log, follower, run.size(_EVENTS))
        engine.dispose()
    parts = quantiles(seconds, n=20)
    return [
        Row(
            benchmark="latency",
            measure=measured,
            microseconds=parts[9] * 1e6,
            remark=f"median {parts[9] * 1e3:.1f} ms, 95 % {parts[18] * 1e3:.1f} ms, most {max(seconds) * 1e3:.1f} ms",
        )
    ]


def _seconds(engine: Engine, log: Log, follower: Follower, number: int) -> list[float]:
    """Publish so many events after pauses of different length, so that no loop's pace is met; return what each took."""
    pauses = Random(1)
    taken: list[float] = []
    with applied_once(engine, number):
        for event in events(number):
            sleep(pauses.uniform(0.0, _MOST_BETWEEN_SECONDS))
            log.append(event)
            started = perf_counter()
            follower.publish(event)
            _wait_until_applied(engine, event.event_id)
            taken.append(perf_counter() - started)
    return taken


def _wait_until_applied(engine: Engine, event_id: str) -> None:
    deadline = perf_counter() + _GIVEN_UP_AFTER_SECONDS
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(_APPLIED, {"event_id": event_id}).scalar_one():
            if perf_counter() > deadline:
                raise TimeoutError(f"a published event was not applied within {_GIVEN_UP_AFTER_SECONDS:.0f} s")
