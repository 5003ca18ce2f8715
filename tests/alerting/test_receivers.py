"""Receivers are given every message, in order, whatever they do; they disturb nobody."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_fixed, wait_none

from projection_guard import Alert, AlertPolicy, ConfigurationError, ProjectionGuard, StoreUnavailable
from tests.alerting.told import Heard, outage, pass_and_work, policy_of, watched
from tests.bed import Bed, happened, noted
from tests.faults.processes import in_child


def test_one_that_fails_is_given_it_again_and_others_once(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """After the wait, and in order: the end is not told before the beginning. The log tells no words of the error."""
    well, ill = Heard("well"), Heard("ill", fails=2)
    policy = policy_of(well, ill, exhausted=True, clears_after_seconds=0, wait=wait_fixed(60))
    guard = watched(bed, policy)
    outage(bed, guard)
    with caplog.at_level(logging.INFO, logger="projection_guard"):
        guard.work()
        assert (well.told, ill.told) == ([("exhausted", "firing")], [])
        assert [each.undelivered for each in guard.alerts()] == [("ill",)]
        outage(bed, guard, is_on=False)
        pass_and_work(guard, 30)
        assert (well.told[1:], ill.told) == ([("exhausted", "recovered")], [])
        pass_and_work(guard, 31)
        assert (ill.told, ill.fails) == ([], 0)
        pass_and_work(guard, 61)
        guard.work()
    assert ill.told == well.told == [("exhausted", "firing"), ("exhausted", "recovered")]
    assert [alert.id for alert in ill.alerts] == [alert.id for alert in well.alerts]
    assert bed.value("SELECT count(*) FROM projection_alert_deliveries") == 0
    assert "alert receiver ill failed (ValueError); again in 60 s" in caplog.text
    assert "sesame" not in caplog.text


def test_one_that_never_recovers_is_given_up_with_an_error_in_the_log(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    """After a day by default; so is what waits for a receiver that is not there any more."""
    well = Heard("well")
    policy = policy_of(Heard("ill", fails=99), well, exhausted=True, wait=wait_fixed(10))
    guard = watched(bed, policy)
    outage(bed, guard)
    guard.work()
    bed.change(
        "INSERT INTO projection_alert_deliveries (receiver, subject, kind, message, next_attempt_at, created_at)"
        " VALUES ('renamed', 'P', 'lag', '{}', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
    )
    pass_and_work(guard, 24 * 3600 - 20)
    assert well.told == [("exhausted", "firing"), ("exhausted", "reminder")]
    assert bed.value("SELECT count(*) FROM projection_alert_deliveries WHERE receiver = 'ill'") == 1  # no reminder yet
    pass_and_work(guard, 11)
    assert bed.value("SELECT count(*) FROM projection_alert_deliveries WHERE receiver = 'ill'") == 0
    assert "alert receiver ill failed 3 times (ValueError); given up: P: 1 failure to be decided" in caplog.text
    pass_and_work(guard, 2 * 3600)
    assert "alerts for renamed were given up" in caplog.text


class Hanging:
    """A receiver that hangs until it is let go."""

    name = "hanging"

    def __init__(self) -> None:
        self.free = threading.Event()
        self.calls = 0

    def __call__(self, alert: Alert) -> None:
        self.calls += 1
        self.free.wait(60)


def test_one_that_hangs_stops_neither_the_others_nor_projections(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """It has its time and a lane of its own; while a call hangs there is no other one."""
    hanging, well = Hanging(), Heard("well")
    policy = policy_of(hanging, well, exhausted=True, timeout_seconds=0.2, wait=wait_fixed(0.1))
    guard = watched(bed, policy, noted("P"))
    outage(bed, guard)
    worker = guard.real.worker(poll_seconds=0.05)
    bed.run(_started(worker)) if bed.is_async else worker.start()
    bed.wait_until(lambda: ("exhausted", "firing") in well.told)
    bed.wait_until(lambda: "the call before has not come to its end" in caplog.text)
    assert hanging.calls == 1
    guard.publish(happened("A", 1))
    assert bed.effects("P") == [("A", 1)]
    hanging.free.set()
    bed.wait_until(lambda: bed.value("SELECT count(*) FROM projection_alert_deliveries") == 0)
    assert hanging.calls == 1  # it has taken it, if late
    bed.run(worker.stop())


async def _started(worker: Any) -> None:
    worker.start()


def test_one_that_fails_is_called_once_a_round_and_others_of_its_messages_come_before(bed: Bed) -> None:
    """However soon it is tried again: a round has an end, and a message that is refused holds up no other one."""
    calls: list[str] = []

    def choosy(alert: Alert) -> None:
        calls.append(alert.kind)
        if alert.kind == "active_failures" or len(calls) > 20:
            raise ValueError("refused")

    guard = watched(bed, policy_of(choosy, exhausted=True, active_failures=0, wait=wait_none()))
    outage(bed, guard)
    bed.change("UPDATE projection_health_metrics SET active_failures = 1")
    for _ in range(3):
        guard.work()
    assert calls == ["active_failures", "exhausted", "active_failures", "active_failures"]
    assert [each.kind for each in guard.alerts() if each.undelivered] == ["active_failures"]


def test_what_was_taken_is_not_given_again_where_that_could_not_be_written_down(sqlite_bed: Bed) -> None:
    """The database was away just then: the process that gave it knows."""
    bed, heard = sqlite_bed, Heard()
    guard = watched(bed, policy_of(heard, exhausted=True))
    outage(bed, guard)
    bed.change(
        "CREATE TRIGGER away BEFORE DELETE ON projection_alert_deliveries BEGIN SELECT RAISE(ABORT, 'away'); END"
    )
    with pytest.raises(StoreUnavailable):
        guard.work()
    bed.change("DROP TRIGGER away")
    pass_and_work(guard, 31)
    assert bed.value("SELECT count(*) FROM projection_alert_deliveries") == 0
    assert heard.told == [("exhausted", "firing")]


def test_one_that_returns_a_coroutine_has_taken_nothing(blocking_bed: Bed) -> None:
    """Such as a plain function around an async one: nobody would await it."""
    heard = Heard()

    async def send(alert: Alert) -> None:
        heard(alert)

    def around(alert: Alert) -> object:
        return send(alert)

    guard = watched(blocking_bed, policy_of(around))
    (tested,) = guard.test_alert()
    assert "returned a coroutine instead of doing its work" in str(tested.error)


def test_async_receivers_are_awaited_and_cancelled_at_their_time(async_bed: Bed) -> None:
    """On the async guard; a blocking one refuses them, with a sentence that says what to use."""
    bed, heard = async_bed, Heard()

    async def awaited(alert: Alert) -> None:
        heard(alert)

    guard = watched(bed, policy_of(awaited, exhausted=True))
    outage(bed, guard)
    guard.work()
    assert heard.told == [("exhausted", "firing")]
    with pytest.raises(ConfigurationError, match="'awaited' is async, which a blocking guard cannot await"):
        ProjectionGuard("sqlite://", alerts=AlertPolicy(to=[awaited]))


def test_a_test_alert_goes_to_every_receiver_at_once(bed: Bed) -> None:
    """Each answers for itself, and nothing of it is put on record."""
    well, ill = Heard("well"), Heard("ill", fails=1)
    guard = watched(bed, policy_of(well, ill))
    assert [(each.name, each.error) for each in guard.test_alert()] == [("well", None), ("ill", "ValueError")]
    assert well.told == [("test", "firing")]
    assert well.alerts[0].severity == "info"
    assert bed.value("SELECT count(*) FROM projection_alert_deliveries") == 0
    with pytest.raises(ConfigurationError, match=r"alerts=AlertPolicy\(to=\[...\]\)"):
        bed.guard().test_alert()


def test_receivers_of_one_name_are_numbered(sqlite_bed: Bed) -> None:
    """So each of them is given everything."""
    first, second = Heard("same"), Heard("same")
    guard = watched(sqlite_bed, policy_of(first, second, exhausted=True))
    outage(sqlite_bed, guard)
    guard.work()
    assert first.told == second.told == [("exhausted", "firing")]
    assert [each.name for each in guard.test_alert()] == ["same", "same#2"]


def test_a_message_of_another_version_holds_up_nobody(sqlite_bed: Bed) -> None:
    """While versions are exchanged a kind may be written that this one does not know: others give it."""
    bed, heard = sqlite_bed, Heard()
    guard = watched(bed, policy_of(heard, exhausted=True))
    outage(bed, guard)
    bed.change(
        "INSERT INTO projection_alert_deliveries (receiver, subject, kind, message, next_attempt_at, created_at)"
        " VALUES ('heard', 'P', 'new', '{\"kind\": \"new\"}', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
    )
    guard.work()
    assert heard.told == [("exhausted", "firing")]
    assert bed.value("SELECT lease_owner IS NULL FROM projection_alert_deliveries")


def test_a_guard_without_alerts_writes_nothing(sqlite_bed: Bed) -> None:
    """Nor does it look."""
    guard = sqlite_bed.guard()
    sqlite_bed.joined(guard, "P", noted("P"))
    outage(sqlite_bed, guard)
    guard.work()
    assert guard.alerts() == ()
    assert sqlite_bed.value("SELECT count(*) FROM projection_alert_looks") == 0


def test_killed_after_the_call_it_is_given_again_with_the_same_id(blocking_bed: Bed, tmp_path: Path) -> None:
    """At least once: what was not written down is done again, once the lease has ended and not before."""
    bed, heard, given = blocking_bed, Heard("r"), tmp_path / "given"
    guard = watched(bed, policy_of(heard, exhausted=True))
    outage(bed, guard)

    def notes_and_dies(alert: Alert) -> None:
        given.write_text(str(alert.id))
        os._exit(77)

    notes_and_dies.__name__ = "r"

    def work_elsewhere() -> None:
        watched(bed, policy_of(notes_and_dies, exhausted=True)).work()

    assert in_child(bed, work_elsewhere) == 77
    guard.work()
    pass_and_work(guard, 20)
    assert heard.alerts == []
    assert [each.undelivered for each in guard.alerts()] == [("r",)]
    pass_and_work(guard, 11)
    assert [str(alert.id) for alert in heard.alerts] == [given.read_text()]
    assert [each.undelivered for each in guard.alerts()] == [()]
