"""Counters are exact: each outcome is told once, after it was committed, whoever has brought the event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, text
from sqlalchemy import event as events
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import wait_fixed

from projection_guard import AsyncProjectionGuard, Notice, Outcome, PermanentFailure, ProjectionGuard, RetryPolicy
from projection_guard._desk import engine_of
from projection_guard.errors import ConfigurationError
from projection_guard.prometheus import PrometheusMetrics
from tests.bed import AT_ONCE, Bed, GuardOnBed, Happened, happened
from tests.flow.acting import Planned, make_due, one_failure
from tests.following.logs import FollowedLog
from tests.observing.scraped import scraped

SECRET = "canary-4711"
LATER = RetryPolicy(wait=wait_fixed(3600))
"""Retries are made once a test makes them due."""


def test_pushed_events_are_counted_exactly(bed: Bed) -> None:
    """3 applied, 1 failed, 2 parked, 1 duplicate of each kind, 1 retry in vain, 1 that heals, 2 drained."""
    registry = CollectorRegistry()
    planned = Planned("P", "A#1")
    guard = bed.guard(instruments=[PrometheusMetrics(registry)], retry=LATER)
    bed.joined(guard, "P", planned.joined)
    for stream in "BCD":
        guard.publish(happened(stream, 1))
    for n in (1, 2, 3):
        guard.publish(happened("A", n))
    for event in (happened("B", 1), happened("A", 1), happened("A", 2)):
        guard.publish(event)
    _retry_in_vain_then_heal(bed, guard, planned)
    found = scraped(registry)
    assert found.above_0("events_total", "origin", "outcome") == {
        ("drain", "applied"): 2,
        ("publish", "applied"): 3,
        ("publish", "duplicate"): 3,
        ("publish", "failed"): 1,
        ("publish", "parked"): 2,
        ("retry", "applied"): 1,
        ("retry", "failed"): 1,
    }
    kinds = {"drained": 2, "failed": 1, "healed": 1, "parked": 2, "retried": 1, "status_changed": 2}
    assert found.above_0("notices_total", "kind") == {(kind,): number for kind, number in kinds.items()}
    assert found.above_0("failures_total", "error_type") == {("ValueError",): 2}
    assert found.above_0("handler_duration_seconds_count", "result") == {("error",): 2, ("ok",): 6}
    assert found.of("event_attempts_count", projection="P") == 6
    assert found.of("event_attempts_sum", projection="P") == 5 + 3


def test_a_retry_that_meets_a_deadlock_is_one_outcome_of_two_calls(postgres_bed: Bed) -> None:
    """The whole of it is done again, under the same instruments."""
    bed, registry, calls = postgres_bed, CollectorRegistry(), list[int]()

    def body(event: Happened, connection: Connection) -> None:
        calls.append(event.n)
        if len(calls) == 1:
            raise ValueError("planned")
        if len(calls) == 2:
            connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'planned' USING ERRCODE = '40P01'; END $$"))

    guard = bed.guard(instruments=[PrometheusMetrics(registry)], retry=LATER)
    bed.joined(guard, "P", body)
    guard.publish(happened("A", 1))
    make_due(bed)
    guard.work()
    found = scraped(registry)
    assert found.above_0("events_total", "origin", "outcome") == {("publish", "failed"): 1, ("retry", "applied"): 1}
    assert found.above_0("handler_duration_seconds_count", "result") == {("error",): 2, ("ok",): 1}


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_log_is_counted_exactly(bed: Bed, kind: str) -> None:
    """A stretch that is undone and taken one by one counts once; a replay of it is told apart."""
    log, registry = FollowedLog(bed), CollectorRegistry()
    planned = Planned("P", "A#2")
    guard = log.guard(instruments=[PrometheusMetrics(registry)], retry=LATER)
    planned.register(bed, guard, kind)
    log.append("A", "B", "A", "B", "A", "C")
    guard.work()
    _retry_in_vain_then_heal(bed, guard, planned)
    found = scraped(registry)
    assert found.above_0("events_total", "origin", "outcome") == {
        ("drain", "applied"): 1,
        ("follow", "applied"): 4,
        ("follow", "failed"): 1,
        ("follow", "parked"): 1,
        ("retry", "applied"): 1,
        ("retry", "failed"): 1,
    }
    assert found.of("event_attempts_count", projection="P") == 6
    guard.replay("P", from_sequence=1, actor="alice")
    again = scraped(registry)
    assert again.of("events_total", projection="P", origin="replay", outcome="applied") == 6
    assert again.of("event_attempts_count", projection="P") == 6
    assert again.of("notices_total", projection="P", kind="replayed") == 1


def _retry_in_vain_then_heal(bed: Bed, guard: GuardOnBed, planned: Planned) -> None:
    make_due(bed)
    guard.work()
    planned.heal()
    make_due(bed)
    guard.work()
    guard.work()


def test_apart_handlers_and_apply_are_counted(bed: Bed) -> None:
    """Applied, failed for good, and not taken at all."""
    registry = CollectorRegistry()
    planned = Planned("P", "A#1", error=lambda: PermanentFailure("planned"))
    guard = bed.guard(instruments=[PrometheusMetrics(registry)])
    bed.apart(guard, "P", planned.apart)
    for event in (happened("A", 1), happened("B", 1), "of another kind"):
        if isinstance(event, Happened):
            guard.apply("P", event)
    found = scraped(registry)
    assert found.above_0("events_total", "origin", "outcome") == {("apply", "applied"): 1, ("apply", "failed"): 1}
    assert found.of("notices_total", projection="P", kind="exhausted") == 1
    assert found.above_0("failures_total", "error_type") == {("projection_guard.errors.PermanentFailure",): 1}
    assert found.of("event_attempts_count", projection="P") == 2


def test_lists_are_counted_by_event_and_timed_by_call(bed: Bed) -> None:
    """A handler of lists is called once for several events."""
    log, registry, calls = FollowedLog(bed), CollectorRegistry(), list[int]()

    def body(events: list[Happened], connection: Connection) -> None:
        calls.append(len(events))

    guard = log.guard(instruments=[PrometheusMetrics(registry)])
    bed.joined(guard, "P", body, batch=10)
    log.append("A", "B", "A")
    guard.work()
    found = scraped(registry)
    assert calls == [3]
    assert found.of("events_total", projection="P", origin="follow", outcome="applied") == 3
    assert found.of("handler_duration_seconds_count", projection="P", result="ok") == 1


def test_blocking_retries_are_counted_as_retries(bed: Bed) -> None:
    """`publish` makes them itself and waits for them."""
    registry = CollectorRegistry()
    planned = Planned("P", "A#1")
    policy = RetryPolicy(wait=AT_ONCE.wait, stop=AT_ONCE.stop, immediate=2, blocking=True)
    guard = bed.guard(instruments=[PrometheusMetrics(registry)], retry=policy)
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    assert scraped(registry).above_0("events_total", "origin", "outcome") == {
        ("publish", "failed"): 1,
        ("retry", "failed"): 2,
    }
    assert one_failure(guard).retry_count == 2


def test_an_instrument_that_raises_disturbs_nobody(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the handler nor the other instruments; its errors are lines in the log."""

    class Broken:
        def __init__(self, where: str) -> None:
            self._where = where

        def calling(self, deliveries: object) -> Any:
            if self._where == "calling":
                raise LookupError("planned")
            return self

        def __enter__(self) -> None:
            if self._where == "entering":
                raise LookupError("planned")

        def __exit__(self, *error: object) -> bool:
            if self._where == "leaving":
                raise LookupError("planned")
            return True

        def settled(self, delivery: object, settled: object) -> None:
            raise LookupError("planned")

        def noticed(self, notice: Notice) -> None:
            raise LookupError("planned")

    registry = CollectorRegistry()
    broken = [Broken(where) for where in ("calling", "entering", "leaving", "nowhere")]
    planned = Planned("P", "A#1")
    guard = bed.guard(instruments=[*broken, PrometheusMetrics(registry)])
    bed.joined(guard, "P", planned.joined)
    outcomes: list[Outcome] = [*guard.publish(happened("A", 1)), *guard.publish(happened("B", 1))]
    assert [outcome.status.value for outcome in outcomes] == ["failed", "applied"]
    assert scraped(registry).of("events_total", projection="P", origin="publish", outcome="applied") == 1
    assert "an instrument raised LookupError" in caplog.text
    assert "an observer raised LookupError" in caplog.text


@pytest.mark.parametrize(("error", "outcome"), [(None, "applied"), (ValueError("planned"), "failed")])
def test_what_is_recorded_in_spite_of_a_cancellation_is_counted(
    sqlite_url: str, error: Exception | None, outcome: str
) -> None:
    """Whoever published has gone away while the apart handler's end was written down."""
    registry = CollectorRegistry()

    async def scenario() -> None:
        guard = AsyncProjectionGuard(sqlite_url, worker="external", instruments=[PrometheusMetrics(registry)])
        publishing: list[asyncio.Task[Any]] = []

        async def handler(event: Happened) -> None:
            publishing[0].cancel()
            if error is not None:
                raise error

        guard.projection("P", handles=[Happened])(handler)
        publishing.append(asyncio.ensure_future(guard.publisher().publish(happened("A", 1))))
        with pytest.raises(asyncio.CancelledError):
            await publishing[0]
        assert (await guard.checkpoint("P")).last_event_id == "A#1"
        await guard.close()

    asyncio.run(scenario())
    assert scraped(registry).above_0("events_total", "origin", "outcome") == {("publish", outcome): 1}


def test_what_is_committed_is_counted_though_its_connection_is_given_back_in_vain(sqlite_url: str) -> None:
    """Whoever published has gone away after the COMMIT of a joined handler."""
    registry = CollectorRegistry()

    async def scenario() -> None:
        guard = AsyncProjectionGuard(sqlite_url, worker="external", instruments=[PrometheusMetrics(registry)])
        publishing, called = list[asyncio.Task[Any]](), list[str]()

        @guard.projection("P", handles=[Happened])
        async def handler(event: Happened, connection: AsyncConnection) -> None:
            called.append(event.event_id)

        def go_away(*_: object) -> None:
            if called:
                publishing[0].cancel()

        events.listen(engine_of(guard), "checkin", go_away)
        publishing.append(asyncio.ensure_future(guard.publisher().publish(happened("A", 1))))
        with pytest.raises(asyncio.CancelledError):
            await publishing[0]
        assert (await guard.checkpoint("P")).last_event_id == "A#1"
        await guard.close()

    asyncio.run(scenario())
    assert scraped(registry).above_0("events_total", "origin", "outcome") == {("publish", "applied"): 1}


def test_a_retry_that_is_recorded_in_spite_of_a_cancellation_is_told(sqlite_url: str) -> None:
    """Its failure has healed, and nobody would say so."""
    notices, registry, working = list[Notice](), CollectorRegistry(), list[asyncio.Task[Any]]()

    async def scenario() -> None:
        guard = AsyncProjectionGuard(
            sqlite_url,
            worker="external",
            retry=AT_ONCE,
            observers=[notices.append],
            instruments=[PrometheusMetrics(registry)],
        )

        @guard.projection("P", handles=[Happened])
        async def handler(event: Happened) -> None:
            if not working:
                raise ValueError("planned")
            working[0].cancel()

        await guard.publisher().publish(happened("A", 1))
        working.append(asyncio.ensure_future(guard.worker().run_once()))
        with pytest.raises(asyncio.CancelledError):
            await working[0]
        assert not (await guard.failures()).items
        await guard.close()

    asyncio.run(scenario())
    assert "healed" in [notice.kind for notice in notices]
    assert scraped(registry).of("events_total", projection="P", origin="retry", outcome="applied") == 1


def test_types_of_errors_are_few(sqlite_bed: Bed) -> None:
    """An application that makes classes of errors as it runs fills no metrics store."""
    registry = CollectorRegistry()
    guard = sqlite_bed.guard(instruments=[PrometheusMetrics(registry)])

    def body(event: Happened, connection: Connection) -> None:
        raise type(f"Error{event.n}", (Exception,), {})

    sqlite_bed.joined(guard, "P", body, order="none")
    for n in range(60):
        guard.publish(happened("A", n))
    found = scraped(registry).above_0("failures_total", "error_type")
    assert len(found) == 51
    assert found["other",] == 10


def test_one_registry_takes_one_set_of_metrics(sqlite_bed: Bed) -> None:
    """It is told what to do; several guards share one instrument."""
    registry = CollectorRegistry()
    shared = PrometheusMetrics(registry)
    with pytest.raises(ConfigurationError, match="give that one to every guard"):
        PrometheusMetrics(registry)
    for name in ("P", "Q"):
        guard = sqlite_bed.guard(instruments=[shared])
        sqlite_bed.joined(guard, name, lambda event, connection: None)
        guard.publish(happened("A", 1))
    found = scraped(registry).above_0("events_total", "projection", "outcome")
    assert found == {("P", "applied"): 1, ("Q", "applied"): 1}


def test_without_instruments_the_handler_is_called_itself(sqlite_bed: Bed) -> None:
    """Nothing is put around it."""
    from projection_guard._desk import service_of

    guard = sqlite_bed.guard()
    handler = sqlite_bed.joined(guard, "P", lambda event, connection: None).handler
    real: ProjectionGuard = guard.real
    assert service_of(real).named("P").call(abandonable=False).handler is handler


def test_an_instrument_that_goes_on_raising_is_no_flood(sqlite_bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """It is told with its name and its frames, once in a while: it is called twice for each event."""

    class Broken:
        def calling(self, deliveries: object) -> Any:
            raise LookupError(SECRET)

        def settled(self, delivery: object, settled: object) -> None:
            raise LookupError(SECRET)

        def noticed(self, notice: Notice) -> None:
            raise LookupError(SECRET)

    guard = sqlite_bed.guard(instruments=[Broken()])
    sqlite_bed.joined(guard, "P", lambda event, connection: None)
    for n in range(20):
        guard.publish(happened("A", n))
    told = [record for record in caplog.records if "raised LookupError" in record.message]
    assert len(told) == 2
    assert "Broken" in told[0].message
    assert "in calling" in caplog.text
    assert SECRET not in caplog.text


def test_what_stands_around_a_handler_changes_nothing_of_its_error(sqlite_bed: Bed) -> None:
    """Failures of a guard with instruments are grouped with those of one without; also where one raises it again."""

    class Again:
        def calling(self, deliveries: object) -> Any:
            return self

        def __enter__(self) -> None: ...

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
            if error is not None:
                raise error

        def settled(self, delivery: object, settled: object) -> None: ...

        def noticed(self, notice: Notice) -> None: ...

    planned = Planned("P", "A#1", "B#1")
    plain = sqlite_bed.guard(retry=LATER)
    watched = sqlite_bed.guard(instruments=[Again(), PrometheusMetrics(CollectorRegistry())], retry=LATER)
    for guard, stream in ((plain, "A"), (watched, "B")):
        sqlite_bed.joined(guard, "P", planned.joined)
        guard.publish(happened(stream, 1))
    first, second = plain.failures().items
    assert first.fingerprint == second.fingerprint
