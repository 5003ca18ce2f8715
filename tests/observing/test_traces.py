"""Spans: the handler runs in one, linked to the producer's, a retry's to the first try's, errors recorded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import Connection, text
from tenacity import wait_fixed

from projection_guard import RetryPolicy
from projection_guard.errors import ConfigurationError
from projection_guard.opentelemetry import OpenTelemetryTraces, context_in
from tests.bed import Bed, Happened, happened
from tests.flow.acting import Planned, make_due, one_failure
from tests.following.logs import FollowedLog
from tests.observing.pages import code_in, rows_of, table

PRODUCER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "canary-4711"
LATER = RetryPolicy(wait=wait_fixed(3600))


@dataclass(frozen=True)
class Carried(Happened):
    """An event that says where it comes from."""

    metadata: dict[str, str] = field(default_factory=dict)


def carried(stream: str, n: int) -> Carried:
    """Make one."""
    base = happened(stream, n, n)
    return Carried(
        event_id=base.event_id, stream_id=stream, sequence=n, n=n, metadata={"traceparent": PRODUCER, "other": "x"}
    )


class Traced:
    """A provider whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def instrument(self, **options: Any) -> OpenTelemetryTraces:
        """Return an instrument of it."""
        return OpenTelemetryTraces(self.provider, **options)

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return the spans that have ended, in the order in which they began."""
        found = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in found if name is None or span.name == name]


@pytest.fixture
def traced() -> Iterator[Traced]:
    """Spans in memory."""
    made = Traced()
    yield made
    made.provider.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def linked(span: ReadableSpan) -> dict[str, str]:
    """Return what a span is linked to."""
    return {
        str((link.attributes or {})["projection_guard.link"]): trace.format_span_id(link.context.span_id)
        for link in span.links
    }


def id_of(span: ReadableSpan) -> str:
    """Return a span's id."""
    assert span.context is not None
    return trace.format_span_id(span.context.span_id)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_call_is_a_span_linked_to_the_producer_and_to_the_first_try(bed: Bed, traced: Traced, kind: str) -> None:
    """The retries are made by another guard: the first try's span is on record."""
    planned = Planned("P", "A#1")
    guard = bed.guard(instruments=[traced.instrument()], retry=LATER)
    planned.register(bed, guard, kind, handles=[Carried])
    guard.publish(carried("A", 1))
    failure = one_failure(guard)
    other = bed.guard(instruments=[traced.instrument()], retry=LATER)
    planned.register(bed, other, kind, handles=[Carried])
    make_due(bed)
    other.work()
    planned.heal()
    make_due(bed)
    other.work()
    first, second, third = traced.spans("process P")
    assert {span.kind for span in (first, second, third)} == {SpanKind.CONSUMER}
    assert [attributes(span)["projection_guard.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert linked(first) == {"producer": "b7ad6b7169203331"}
    assert linked(second) == linked(third) == {"producer": "b7ad6b7169203331", "first_attempt": id_of(first)}
    assert [span.status.status_code for span in (first, second, third)] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert attributes(first)["projection_guard.error.fingerprint"] == failure.fingerprint
    assert attributes(first)["error.type"] == failure.error_type
    assert attributes(second)["projection_guard.failure.id"] == str(failure.id)


def test_spans_have_the_attributes_of_the_page(bed: Bed, traced: Traced) -> None:
    """Every name that a span has is in the table of docs/tracing.md, and every name of the table was seen on a span."""
    seen, events, over = set[str](), set[str](), threading.Event()
    log, planned = FollowedLog(bed), Planned("P", "A#1", error=lambda: ValueError(SECRET))
    guard = log.guard(instruments=[traced.instrument(tells_messages=True)], retry=LATER)
    planned.register(bed, guard, "joined")
    bed.joined(guard, "Lists", lambda events, connection: None, batch=5)
    slow = _until_cancelled if bed.is_async else lambda event: over.wait(30)
    guard.real.projection("Slow", handles=[Happened], timeout=0.1)(slow)
    log.append("A", "B")
    guard.work()
    make_due(bed)
    guard.work()
    over.set()
    bed.wait_until(lambda: traced.spans("process Slow"))
    for span in traced.spans():
        seen |= set(attributes(span))
        events |= {name for event in span.events for name in event.attributes or {}}
    names = set(rows_of("tracing.md", "Attributes"))
    assert seen - names == set()
    missing = names - seen
    assert missing <= ({"projection_guard.interrupted"} if not bed.is_async else set())
    assert events == set(rows_of("tracing.md", "Attributes", number=1))
    kinds = {code_in(row[0])[0].split()[0]: row[1] for row in table("tracing.md", "Spans")}
    assert {span.name.split()[0]: span.kind.name for span in traced.spans()} == kinds
    told = [event for span in traced.spans("process P") for event in span.events]
    messages = [(event.attributes or {}).get("exception.message") for event in told]
    assert SECRET in messages


async def _until_cancelled(event: Happened) -> None:
    await asyncio.sleep(30)


def test_what_comes_after_the_call_is_a_span_of_its_own(postgres_bed: Bed, traced: Traced) -> None:
    """A deferred constraint refuses at COMMIT what the handler's call has done: a child of the call's span says so."""
    bed = postgres_bed
    bed.change("CREATE TABLE strict (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")

    def twice(event: Happened, connection: Connection) -> None:
        connection.execute(text("INSERT INTO strict VALUES (1), (1)"))

    guard = bed.guard(instruments=[traced.instrument()], retry=LATER)
    bed.joined(guard, "P", twice)
    guard.publish(happened("A", 1))
    (call,), (settled,) = traced.spans("process P"), traced.spans("settle P")
    assert call.status.status_code is StatusCode.UNSET
    assert settled.status.status_code is StatusCode.ERROR
    assert settled.parent is not None
    assert trace.format_span_id(settled.parent.span_id) == id_of(call)
    assert attributes(settled)["projection_guard.error.fingerprint"] == one_failure(guard).fingerprint


def test_the_handler_runs_inside_its_span(bed: Bed, traced: Traced) -> None:
    """Spans that it makes are nested in it, whoever calls it, on whatever thread."""
    tracer = traced.provider.get_tracer("the application")

    def body(event: Happened) -> None:
        with tracer.start_as_current_span("SELECT 1"):
            pass

    log = FollowedLog(bed)
    followed, pushed = log.guard(instruments=[traced.instrument()]), bed.guard(instruments=[traced.instrument()])
    bed.apart(followed, "Followed", body)
    bed.apart(pushed, "Pushed", body)
    log.append("A")
    followed.work()
    pushed.publish(happened("A", 1))
    calls = {id_of(span) for span in traced.spans() if span.name.startswith("process ")}
    queries = [span for span in traced.spans() if span.name.startswith("SELECT")]
    assert len(queries) == len(calls) == 2
    assert {trace.format_span_id(span.parent.span_id) for span in queries if span.parent} == calls


def test_a_span_is_the_producers_child_where_that_is_asked_for(sqlite_bed: Bed, traced: Traced) -> None:
    """And what errors say is told only where that is asked for."""
    planned = Planned("P", "A#1", error=lambda: ValueError(SECRET))
    guard = sqlite_bed.guard(instruments=[traced.instrument(producer="parent")], retry=LATER)
    planned.register(sqlite_bed, guard, "joined", handles=[Carried])
    guard.publish(carried("A", 1))
    (span,) = traced.spans()
    assert span.parent is not None
    assert trace.format_span_id(span.parent.span_id) == "b7ad6b7169203331"
    assert span.links == ()
    assert SECRET not in span.to_json()
    with pytest.raises(ConfigurationError, match="producer= takes 'link' or 'parent'"):
        OpenTelemetryTraces(producer="child")  # type: ignore[arg-type]


def test_a_list_is_linked_to_each_producer(sqlite_bed: Bed, traced: Traced) -> None:
    """One span, a link for each event."""
    log = FollowedLog(sqlite_bed)
    guard = log.guard(instruments=[traced.instrument(context_of=lambda event: PRODUCER)])
    sqlite_bed.joined(guard, "P", lambda events, connection: None, batch=10)
    log.append("A", "B", "A")
    guard.work()
    (span,) = traced.spans()
    assert attributes(span)["messaging.batch.message_count"] == 3
    assert len(span.links) == 3


def test_a_context_that_is_none_or_cannot_be_read_links_nothing(
    sqlite_bed: Bed, traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is the handler disturbed."""
    answers: list[Any] = [None, "nonsense", {}, {"traceparent": "00-0-0-00"}, 7, 7]
    guard = sqlite_bed.guard(instruments=[traced.instrument(context_of=lambda event: answers[event.n])])
    sqlite_bed.joined(guard, "P", lambda event, connection: None)
    for n in range(len(answers)):
        assert guard.publish(happened("A", n))[0].status == "applied"
    assert [span.links for span in traced.spans()] == [()] * len(answers)
    assert caplog.text.count("context_of raised TypeError") == 1


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"traceparent": PRODUCER, "tracestate": "a=1"}, {"traceparent": PRODUCER, "tracestate": "a=1"}),
        ({"traceparent": PRODUCER}, {"traceparent": PRODUCER}),
        ({"headers": {"traceparent": PRODUCER, "n": 1}}, {"traceparent": PRODUCER}),
        (carried("A", 1), {"traceparent": PRODUCER, "other": "x"}),
        ({"metadata": None}, None),
        (happened("A", 1), None),
        ([happened("A", 1)], None),
    ],
)
def test_where_a_context_is_looked_for(event: object, found: object) -> None:
    """In the event, its metadata and its headers."""
    assert context_in(event) == found


def test_without_an_sdk_nothing_is_kept(sqlite_bed: Bed) -> None:
    """The API's own spans are no-ops: they have no context to be linked to."""
    planned = Planned("P", "A#1")
    guard = sqlite_bed.guard(instruments=[OpenTelemetryTraces(trace.NoOpTracerProvider())], retry=LATER)
    planned.register(sqlite_bed, guard, "joined")
    guard.publish(happened("A", 1))
    assert sqlite_bed.value("SELECT count(*) FROM projection_attempts WHERE trace IS NULL") == 1
