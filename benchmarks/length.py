"""What an event costs deep in a long log, in time and memory: as much as at its beginning."""

from __future__ import annotations

from contextlib import suppress
from statistics import median

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError

from ._bed import Run, bed
from ._child import Done, Task, begun
from ._log import applied_once, log_in
from ._report import Row

__all__ = ["on_postgresql"]

_EVENTS = 1_000_000
_WINDOWS = 100
_COMPARED = 10
_FLAT = 1.1


def on_postgresql(run: Run) -> list[Row]:
    """Let a process work off a log of 1,000,000 events, by a loop of its own and guarded."""
    window = run.size(_EVENTS) // _WINDOWS
    seen: dict[bool, Done] = {}
    with bed(run) as url:
        engine = create_engine(url)
        log = log_in(engine)
        log.up_to(window * _WINDOWS)
        for is_guarded in (False, True):
            _settle(engine)
            task = Task(url=url, is_guarded=is_guarded, window=window)
            with applied_once(engine, log.last), begun(task) as (child,):
                child.begin()
                seen[is_guarded] = child.done()
        engine.dispose()
    return [_time(seen, window), _memory(seen, window)]


def _settle(engine: Engine) -> None:
    """Empty the read model, and let the server write out what the filling has left: the first events would pay it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("TRUNCATE read_model")
        with suppress(DBAPIError):  # not everybody may
            connection.exec_driver_sql("CHECKPOINT")


def _time(seen: dict[bool, Done], window: int) -> Row:
    growth = {is_guarded: _last(done.seconds) / _first(done.seconds) for is_guarded, done in seen.items()}
    bare = f"unguarded loop: {growth[False]:.2f}, {_last(seen[False].seconds) / window * 1e6:.0f} us"
    return Row(
        benchmark="length",
        measure=f"time an event, last over first {window * _COMPARED:,} of {window * _WINDOWS:,}",
        ratio=growth[True],
        target=_FLAT,
        microseconds=_last(seen[True].seconds) / window * 1e6,
        baseline_microseconds=_first(seen[True].seconds) / window * 1e6,
        remark=bare,
    )


def _memory(seen: dict[bool, Done], window: int) -> Row:
    grown = {is_guarded: (done.megabytes[0], max(done.megabytes)) for is_guarded, done in seen.items()}
    says = {is_guarded: f"{first:.1f} MB, at most {most:.1f} MB" for is_guarded, (first, most) in grown.items()}
    bare = f"unguarded loop: {says[False]}"
    return Row(
        benchmark="length",
        measure=f"memory, most over that after {window:,} events",
        ratio=grown[True][1] / grown[True][0],
        target=_FLAT,
        remark=f"{says[True]}; {bare}",
    )


def _first(windows: list[float]) -> float:
    """Return the median of the first windows, but for the very first: in it, caches are filled."""
    return median(windows[1 : 1 + _COMPARED])


def _last(windows: list[float]) -> float:
    return median(windows[-_COMPARED:])
