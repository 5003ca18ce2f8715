"""`python -m tests.chaos --database postgresql --seconds 600`: prints one line of JSON, ends with 1 if it is red."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tests.chaos.run import Settings, run


def main() -> int:
    """Run once, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="The library under faults.")
    parser.add_argument("--database", choices=["postgresql", "pgbouncer", "sqlite"], default="postgresql")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--publishers", type=int, default=2)
    parser.add_argument("--calm", type=float, default=5.0, help="seconds of each of the two calm measurements")
    parser.add_argument("--keep", type=Path, help="a folder for the logs of all processes")
    parser.add_argument("--faults", default="", help="only these, with commas; all by default")
    parser.add_argument("--verbose", action="store_true", help="say on stderr what is being done")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO if asked.verbose else logging.ERROR, format="%(asctime)s %(message)s")
    verdict = run(
        Settings(
            database=asked.database,
            seconds=asked.seconds,
            seed=asked.seed,
            workers=asked.workers,
            publishers=asked.publishers,
            calm_seconds=asked.calm,
            faults=tuple(filter(None, asked.faults.split(","))),
        ),
        keep=asked.keep,
    )
    for finding in verdict.findings[:50]:
        print(f"{finding.kind}: {finding.text}", file=sys.stderr)  # noqa: T201
    print(verdict.line)  # noqa: T201
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
