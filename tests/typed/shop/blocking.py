"""A blocking guard with handlers of every kind, a publisher before it, and policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_type

from sqlalchemy import Connection, Engine, text
from tenacity import stop_after_attempt, wait_exponential, wait_random

from projection_guard import (
    Breaker,
    EventMapping,
    Guarded,
    HealthPolicy,
    JsonCodec,
    Outcome,
    OutcomeStatus,
    PermanentFailure,
    ProjectionGuard,
    Publisher,
    RetryAfter,
    RetryPolicy,
    Round,
    Worker,
)

from .events import Cancelled, Event, Ordered

retry = RetryPolicy(
    wait=wait_exponential(multiplier=1) + wait_random(0, 1),
    stop=stop_after_attempt(6),
    permanent=(TypeError, KeyError),
    transient=(ConnectionError,),
    immediate=2,
    breaker=Breaker(failures=50, streams=5),
)


def guard_on(database: str | Engine) -> ProjectionGuard:
    """Make a guard, with everything that can be said."""
    return ProjectionGuard(
        database,
        retry=retry,
        health=HealthPolicy(degraded_from=2),
        order="stream",
        mapping=EventMapping(sequence="sequence", occurred_at=lambda event: None),
        codec=JsonCodec(),
        worker="external",
    )


def clear(connection: Connection) -> None:
    """Empty the read model."""
    connection.execute(text("DELETE FROM orders"))


def clear_stream(connection: Connection, stream_id: str) -> None:
    """Empty one stream of it."""
    connection.execute(text("DELETE FROM orders WHERE id = :id"), {"id": stream_id})


def handlers(guard: ProjectionGuard) -> Guarded[Callable[[Ordered, Connection], None]]:
    """Register one of each kind."""

    @guard.projection("Orders", handles=[Ordered], retry=retry, on_reset=clear, on_reset_stream=clear_stream)
    def orders(event: Ordered, connection: Connection) -> None:
        """Joined."""
        connection.execute(text("INSERT INTO orders VALUES (:id)"), {"id": event.stream_id})

    @guard.projection("Mails", handles=[Ordered, Cancelled], order="none", timeout=5.0)
    def mails(event: Event) -> None:
        """Apart."""
        if isinstance(event, Cancelled):
            raise PermanentFailure("nobody is to be told")
        if not event.article:
            raise RetryAfter(30)

    @guard.projection("Counted", handles=["Ordered"], batch=100)
    def counted(events: Sequence[Ordered], connection: Connection) -> None:
        """Joined, taking lists."""
        connection.execute(text("SELECT 1"), [{"id": event.event_id} for event in events])

    class Stock:
        """An object, as other libraries have them."""

        def handles(self) -> list[type]:
            return [Ordered]

        def handle(self, event: Ordered) -> None:
            """Take it from the shelf."""

    assert_type(guard.register(Stock()), Guarded[Callable[..., object]])
    assert_type(mails.handler(Ordered(event_id="1", stream_id="a", sequence=1, article="tea")), None)
    assert_type(counted.name, str)
    return orders


class Bus:
    """The application's own publisher."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    def publish(self, event: Event) -> None:
        """Send it to whoever listens."""
        self.sent.append(event)


def publish(guard: ProjectionGuard, events: Sequence[Event]) -> list[Outcome]:
    """Bring events to every projection, and say what became of them."""
    publisher = guard.publisher(Bus(), on_unavailable="log")
    assert_type(publisher, Publisher)
    outcomes = [outcome for event in events for outcome in publisher.publish(event)]
    assert_type(outcomes, list[Outcome])
    assert_type(publisher.publish_all(events), tuple[Outcome, ...])
    failed = [outcome.failure_id for outcome in outcomes if outcome.status == "failed"]
    parked = [outcome for outcome in outcomes if outcome.status is OutcomeStatus.PARKED]
    if failed or parked:
        print(failed, parked)
    return outcomes


def work(guard: ProjectionGuard) -> Round:
    """Work in a thread, then once by hand."""
    with guard.worker(poll_seconds=0.1) as worker:
        assert_type(worker, Worker)
    return guard.worker().run_once()


def run(database: str | Engine, events: Sequence[Event]) -> list[Outcome]:
    """Do all of it."""
    with guard_on(database) as guard:
        guard.migrate()
        orders = handlers(guard)
        outcomes = publish(guard, events)
        assert_type(orders(events[0]), Outcome)
        assert_type(guard.apply("Orders", events[0]), Outcome)
        work(guard)
    return outcomes
