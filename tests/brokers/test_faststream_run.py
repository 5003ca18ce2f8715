"""The broker run, small: consumers are killed, stopped and added under load, and an oracle of its own counts.

`python -m tests.brokers --broker rabbitmq --messages 100000` is the long one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("faststream.nats", reason="faststream[nats] is not installed", exc_type=ImportError)
pytest.importorskip("faststream.rabbit", reason="faststream[rabbit] is not installed", exc_type=ImportError)

from tests.brokers.brokers import why_no_broker
from tests.brokers.oracle import _judged
from tests.brokers.run import Settings, prepare, run
from tests.turns import IS_EVERY


@pytest.mark.skipif(
    not IS_EVERY,
    reason="runs with PROJECTION_GUARD_FAULTS=every, or by command",
)
@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("broker", ["nats", "rabbitmq"])
def test_nothing_is_lost_or_out_of_order_while_consumers_die(
    empty_postgres_url: str, tmp_path: Path, broker: str
) -> None:
    """Nothing lost, nothing twice, nothing out of order, and the poisoned streams complete after the cure."""
    missing = why_no_broker(broker)
    if missing is not None:
        pytest.skip(missing)
    prepare(empty_postgres_url)
    verdict = run(
        Settings(
            broker=broker,
            messages=1_000,
            consumers=2,
            streams=200,
            rate_seconds=0,
            gap_seconds=0.5,
            url=empty_postgres_url,
        ),
        keep=tmp_path,
    )
    print(verdict.line)  # noqa: T201
    assert verdict.findings == []
    assert verdict.figures["faults"], "nobody was hurt"
    assert verdict.figures["before_the_cure"]["failed"] >= 1


def test_the_oracle_sees_what_is_wrong() -> None:
    """Of a stream of three events."""
    assert [finding.kind for finding in _judged("A", [1, 2, 3], 3)] == []
    assert [finding.kind for finding in _judged("A", [1, 3], 3)] == ["lost"]
    assert [finding.kind for finding in _judged("A", [1, 2, 2, 3], 3)] == ["twice"]
    assert [finding.kind for finding in _judged("A", [1, 2, 3, 4], 3)] == ["twice"]
    assert [finding.kind for finding in _judged("A", [2, 1, 3], 3)] == ["order"]
