"""The one command: measures, prints one table, and exits with 0 whatever the figures are."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import (
    apart,
    claiming,
    draining,
    eventsource_py,
    eventsourcing,
    failures,
    following,
    joined,
    latency,
    length,
    peers,
    slices,
    sqlite,
    threads,
    workers,
)
from ._bed import Run, running
from ._report import Row, as_json, print_rows

BENCHMARKS: dict[str, Callable[[Run], list[Row]]] = {
    "joined": joined.on_postgresql,
    "apart": apart.on_postgresql,
    "sqlite": sqlite.on_sqlite,
    "threads": threads.on_postgresql,
    "failures": failures.on_postgresql,
    "draining": draining.on_postgresql,
    "claiming": claiming.on_postgresql,
    "following": following.on_postgresql,
    "length": length.on_postgresql,
    "workers": workers.on_postgresql,
    "slices": slices.on_postgresql,
    "latency": latency.on_postgresql,
    "peers": peers.on_postgresql,
    "eventsource_py": eventsource_py.on_postgresql,
    "eventsourcing": eventsourcing.on_postgresql,
}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and smaller tables: rough figures, in a minute or two"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=BENCHMARKS,
        metavar="NAME",
        help=f"one of {', '.join(BENCHMARKS)}; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--postgres",
        metavar="URL",
        help="the server to measure; default: $PROJECTION_GUARD_TEST_POSTGRES, or one that is found as for the tests",
    )
    options = parser.parse_args()
    logging.getLogger("projection_guard").setLevel(logging.CRITICAL)  # one of the benchmarks lets events fail
    rows: list[Row] = []
    with running(options.postgres) as server, tempfile.TemporaryDirectory() as folder:
        print(server.says, file=sys.stderr)
        run = Run(server=server, folder=Path(folder), scale=0.15 if options.quick else 1.0)
        for name in options.only or BENCHMARKS:
            print(f"measuring: {name}", file=sys.stderr)
            rows += BENCHMARKS[name](run)
    if options.json:
        print(as_json(rows))
    else:
        print_rows(rows)


if __name__ == "__main__":
    main()
