"""A projection of `eventsource-py`, unchanged, by its own manager and by the guard: on the same log in its own store.

All of them read the table `events` of one database and write one row an event there, through the connection that the
projection is given; each has its own checkpoint. The guard's tables have a schema of their own, for the library has a
`projection_checkpoints`, too.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from ._bed import Run, make_read_model
from ._harness import Samples, measure
from ._report import Row

__all__ = ["on_postgresql"]

_ROUNDS = 10
_PER_ROUND = 2_000
_OURS: Final = "ours"
_NATIVE: Final = ("a checkpoint an event", "a checkpoint a batch")


def on_postgresql(run: Run) -> list[Row]:
    """Measure them in turns; where the library is not installed, say so."""
    try:
        installed = version("eventsource-py")
    except PackageNotFoundError:
        return [Row(benchmark="eventsource_py", measure="native", remark="not measured: it needs Python 3.13")]
    opened = import_module("._by_manager_and_guard", __package__).opened
    with run.server.database() as url:
        make_read_model(url)
        with opened(url, _OURS, *_NATIVE) as variants:
            samples: Samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=run.size(_PER_ROUND))
    return [
        Row(
            benchmark="eventsource_py",
            measure=f"its manager, {native}",
            ratio=samples.ratio(native, _OURS),
            microseconds=samples.microseconds(_OURS),
            baseline_microseconds=samples.microseconds(native),
            remark=f"{installed}; the same DatabaseProjection, on the same log",
        )
        for native in _NATIVE
    ]
