"""`python -m tests.brokers --broker nats --messages 100000`: prints one line of JSON, ends with 1 if it is red."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tests.brokers.brokers import BROKERS, why_no_broker
from tests.brokers.run import Settings, run


def main() -> int:
    """Run once, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.brokers", description="Projections behind a broker.")
    parser.add_argument("--broker", choices=sorted(BROKERS), default="nats")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--consumers", type=int, default=3)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20.0, help="seconds of each of the two measurements; 0: none")
    parser.add_argument("--gap", type=float, default=8.0, help="seconds between two faults, or up to twice as many")
    parser.add_argument(
        "--most-at-once", type=int, default=1, help="messages of a partition on their way; above 1: red"
    )
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for the logs of all consumers")
    parser.add_argument("--verbose", action="store_true", help="say on stderr how far it is")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s")
    logging.getLogger("brokers").setLevel(logging.INFO if asked.verbose else logging.ERROR)
    missing = why_no_broker(asked.broker)
    if missing is not None:
        parser.error(missing)
    verdict = run(
        Settings(
            broker=asked.broker,
            messages=asked.messages,
            consumers=asked.consumers,
            streams=asked.streams,
            seed=asked.seed,
            rate_seconds=asked.rate,
            with_faults=not asked.no_faults,
            gap_seconds=asked.gap,
            most_at_once=asked.most_at_once,
        ),
        keep=asked.keep,
    )
    for finding in verdict.findings[:50]:
        print(f"{finding.kind}: {finding.text}", file=sys.stderr)  # noqa: T201
    print(verdict.line)  # noqa: T201
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
