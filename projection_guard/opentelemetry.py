"""Traces and metrics for OpenTelemetry: a span per call of a handler, counters, histograms, gauges of the database.

    guard = ProjectionGuard(url, instruments=[OpenTelemetryTraces(), OpenTelemetryMetrics()])
    observe_database(guard)                   # in one process: the worker's

docs/tracing.md and docs/metrics.md list all names and attributes. What an error says is told only where that is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import Any, Final, Literal, cast

try:
    from opentelemetry import context as contexts
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
    from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImportError(
        f"projection_guard.opentelemetry needs {error.name}: pip install 'projection-guard[opentelemetry]'"
    ) from error

from ._core.describing import describe
from ._gauges import GAUGES, Gauge, Reading, readings
from ._instruments import Delivery, Settled
from ._labels import FewOf
from ._model import Origin, OutcomeStatus
from ._notices import Notice, NoticeKind
from ._seldom import Seldom
from ._standing import EVERY_SECONDS, TIMEOUT_SECONDS, Guard, Look, Standings
from ._wording import type_name, words_of
from .errors import ConfigurationError

__all__ = ["ContextOf", "OpenTelemetryMetrics", "OpenTelemetryTraces", "context_in", "observe_database"]

log = logging.getLogger("projection_guard")
ContextOf = Callable[[object], Mapping[str, str] | str | None]
"""Says where an event comes from: its `traceparent`, or a mapping that holds it (and a `tracestate`); None: unknown."""
_NAME: Final = "projection_guard"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CALLS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0)
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_MOST_LINKS: Final = 128
Attributes = dict[str, str | bool | int | float]


def context_in(event: object) -> Mapping[str, str] | str | None:
    """Find where an event comes from: in its `traceparent`, or in that of its `metadata` or `headers`."""
    found = _field(event, "traceparent")
    if isinstance(found, str):
        state = _field(event, "tracestate")
        return {"traceparent": found, **({"tracestate": state} if isinstance(state, str) else {})}
    for name in ("metadata", "headers"):
        inner = _field(event, name)
        if isinstance(inner, Mapping) and "traceparent" in inner:
            known = cast("Mapping[object, object]", inner)
            return {str(key): value for key, value in known.items() if isinstance(value, str)}
    return None


def _field(event: object, name: str) -> object:
    if isinstance(event, Mapping):
        return cast("Mapping[object, object]", event).get(name)
    return getattr(event, name, None)


class OpenTelemetryTraces:
    """An instrument that makes a span of every call of a handler, which runs inside it.

    The span is linked to the producer's, where the event carries its context (`context_of`), and a retry's to the first
    try's, in whatever process that was. `producer="parent"` makes it the producer's child instead: one trace from the
    command to the read models. `tells_messages` adds what errors say, which may hold values of events.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        *,
        context_of: ContextOf = context_in,
        producer: Literal["link", "parent"] = "link",
        tells_messages: bool = False,
    ) -> None:
        if producer not in ("link", "parent"):
            raise ConfigurationError(f"producer= takes 'link' or 'parent', not {producer!r}")
        self._tracer: Tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._context_of = context_of
        self._is_parent = producer == "parent"
        self._tells_messages = tells_messages
        self._seldom = Seldom()

    def calling(self, deliveries: Sequence[Delivery], /) -> AbstractContextManager[str | None]:
        """Surround a call by a span."""
        return self._span(deliveries)

    @contextmanager
    def _span(self, deliveries: Sequence[Delivery]) -> Generator[str | None]:
        producers = [self._producer(each) for each in deliveries[:_MOST_LINKS]]
        first = _span_context(deliveries[0].first_trace)
        parent = producers[0] if self._is_parent and len(deliveries) == 1 else None
        with self._tracer.start_as_current_span(
            f"process {deliveries[0].projection}",
            context=None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent)),
            kind=SpanKind.CONSUMER,
            attributes=_attributes_of_call(deliveries),
            links=[
                *(Link(each, {"projection_guard.link": "producer"}) for each in producers if each and parent is None),
                *([Link(first, {"projection_guard.link": "first_attempt"})] if first else []),
            ],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _traceparent(span.get_span_context())
            except Exception as raised:
                self._record(span, raised)
                raise
            except BaseException:  # cancelled: by its timeout, which is told as the failure's own span, or from outside
                span.set_attribute("projection_guard.interrupted", True)
                raise

    def settled(self, delivery: Delivery, settled: Settled, /) -> None:
        """Make a span of a failure that came after the call, or instead of its end; other outcomes are the call's."""
        if settled.error is None or settled.has_raised:
            return
        call, first = _span_context(settled.trace), _span_context(delivery.first_trace)
        with self._tracer.start_as_current_span(
            f"settle {delivery.projection}",
            context=None if call is None else trace.set_span_in_context(trace.NonRecordingSpan(call)),
            kind=SpanKind.CLIENT,
            attributes={**_attributes(delivery), **_operation("settle")},
            links=[Link(first, {"projection_guard.link": "first_attempt"})] if first and call is None else [],
        ) as span:
            self._record(span, settled.error)

    def noticed(self, notice: Notice, /) -> None:
        """Changes of state are no spans."""

    def _producer(self, delivery: Delivery) -> SpanContext | None:
        try:
            return _span_context(self._context_of(delivery.event))
        except Exception as raised:
            if self._seldom.is_time_for("context_of"):
                log.warning("context_of raised %s: a span is not linked to its producer", type(raised).__name__)
            return None

    def _record(self, span: Span, error: BaseException) -> None:
        if not span.is_recording():
            return
        described = describe(error)
        words = words_of(error) if self._tells_messages else None
        span.set_status(Status(StatusCode.ERROR, words))
        span.set_attributes({"error.type": described.type, "projection_guard.error.fingerprint": described.fingerprint})
        told: Attributes = {"exception.type": described.type}
        if described.traceback is not None:
            told["exception.stacktrace"] = described.traceback
        if words is not None:
            told["exception.message"] = words
        span.add_event("exception", told)


def _operation(name: str) -> Attributes:
    return {"messaging.operation.name": name, "messaging.operation.type": name}


def _attributes_of_call(deliveries: Sequence[Delivery]) -> Attributes:
    if len(deliveries) == 1:
        return {**_attributes(deliveries[0]), **_operation("process")}
    first = deliveries[0]
    return {
        **_of_projection(first.projection, first.origin),
        **_operation("process"),
        "messaging.batch.message_count": len(deliveries),
        "projection_guard.undone_together": first.is_undone_together,
    }


def _of_projection(projection: str, origin: Origin) -> Attributes:
    return {
        "messaging.system": _NAME,
        "messaging.destination.name": projection,
        "projection_guard.projection": projection,
        "projection_guard.origin": origin.value,
    }


def _attributes(delivery: Delivery) -> Attributes:
    record = delivery.record
    maybe: dict[str, str | int | None] = {
        "messaging.message.conversation_id": record.stream_id,
        "projection_guard.event.sequence": record.sequence,
        "projection_guard.failure.id": None if delivery.failure_id is None else str(delivery.failure_id),
    }
    return {
        **_of_projection(delivery.projection, delivery.origin),
        "messaging.message.id": record.event_id,
        "projection_guard.event.type": record.event_type,
        "projection_guard.attempt": delivery.attempt,
        "projection_guard.undone_together": delivery.is_undone_together,
        **{name: value for name, value in maybe.items() if value is not None},
    }


def _traceparent(context: SpanContext) -> str | None:
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _span_context(given: Mapping[str, str] | str | None) -> SpanContext | None:
    """Read a `traceparent`; what is none is as good as nothing."""
    if given is None:
        return None
    carrier = {"traceparent": given} if isinstance(given, str) else dict(given)
    found = trace.get_current_span(_PROPAGATOR.extract(carrier, context=contexts.Context())).get_span_context()
    return found if found.is_valid else None


class OpenTelemetryMetrics:
    """An instrument that counts what this process does."""

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        meter = _meter(meter_provider)
        self._events = meter.create_counter(
            "projection_guard.events",
            unit="{event}",
            description="Events by what became of them in a projection, and by who brought them.",
        )
        self._seconds = meter.create_histogram(
            "projection_guard.handler.duration",
            unit="s",
            description="How long calls of handlers took, also those that were undone and made again.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._attempts = meter.create_histogram(
            "projection_guard.event.attempts",
            unit="{call}",
            description="How many calls of the handler an event had taken when it was applied, or given up.",
            explicit_bucket_boundaries_advisory=_CALLS,
        )
        self._failures = meter.create_counter(
            "projection_guard.failures",
            unit="{attempt}",
            description="Attempts that failed, the first and later ones, by the error's type.",
        )
        self._notices = meter.create_counter(
            "projection_guard.notices", unit="{notice}", description="Changes of state."
        )
        self._types = FewOf()

    def calling(self, deliveries: Sequence[Delivery], /) -> AbstractContextManager[None]:
        """Time a call of a handler."""
        return self._timing(deliveries[0].projection)

    @contextmanager
    def _timing(self, projection: str) -> Generator[None]:
        began, result = perf_counter(), "error"
        try:
            yield
            result = "ok"
        finally:
            attributes = {"projection_guard.projection": projection, "projection_guard.result": result}
            self._seconds.record(perf_counter() - began, attributes)

    def settled(self, delivery: Delivery, settled: Settled, /) -> None:
        """Count an outcome."""
        name, outcome = delivery.projection, settled.outcome
        whose = {"projection_guard.projection": name}
        self._events.add(
            1,
            {
                **whose,
                "projection_guard.origin": delivery.origin.value,
                "projection_guard.outcome": outcome.status.value,
            },
        )
        if outcome.status is OutcomeStatus.APPLIED and delivery.origin is not Origin.REPLAY:
            self._attempts.record(max(outcome.attempts, 1), whose)
        elif settled.error is not None:
            self._failures.add(1, {**whose, "error.type": self._types.of(name, type_name(settled.error))})

    def noticed(self, notice: Notice, /) -> None:
        """Count a change of state."""
        whose = {"projection_guard.projection": notice.projection}
        self._notices.add(1, {**whose, "projection_guard.notice": notice.kind.value})
        if notice.kind is NoticeKind.EXHAUSTED:
            self._attempts.record(max(notice.attempts, 1), whose)


def _meter(provider: MeterProvider | None) -> Meter:
    return metrics.get_meter(_NAME, meter_provider=provider)


class _Shown:
    """What the gauges show; the callbacks of one collection share a look at the database.

    Where a gauge is asked for that was shown of a look already, the next collection has begun.
    """

    def __init__(self, standings: Standings) -> None:
        self._standings = standings
        self._waiting: dict[Gauge, list[Reading]] = {}

    def observe(self, gauge: Gauge) -> Callable[[CallbackOptions], list[Observation]]:
        """Return the callback of a gauge."""
        names = [f"projection_guard.{label}" for label in gauge.labels]

        def callback(_: CallbackOptions) -> list[Observation]:
            shown = self._waiting.pop(gauge, None)
            if shown is None:
                self._waiting = _by_gauge(self._standings.now())
                shown = self._waiting.pop(gauge, [])
            return [Observation(reading.value, dict(zip(names, reading.labels, strict=True))) for reading in shown]

        return callback


def _by_gauge(look: Look) -> dict[Gauge, list[Reading]]:
    """Sort what is shown of a look, once for all gauges."""
    found: dict[Gauge, list[Reading]] = {gauge: [] for gauge in GAUGES}
    for reading in readings(look):
        found[reading.gauge].append(reading)
    return found


def observe_database(
    guard: Guard,
    *,
    meter_provider: MeterProvider | None = None,
    every_seconds: float = EVERY_SECONDS,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Export what the database says of all projections of a guard, as gauges; do so in one process, the worker's.

    It is read once in `every_seconds` at most. Where it has not answered after `timeout_seconds`,
    `projection_guard.database.up` is 0. Call it on the guard's loop if that is async.
    """
    shown = _Shown(Standings(guard, every_seconds=every_seconds, timeout_seconds=timeout_seconds))
    meter: Any = _meter(meter_provider)
    for gauge in GAUGES:
        meter.create_observable_gauge(
            f"projection_guard.{gauge.otel_name}",
            callbacks=[shown.observe(gauge)],
            unit=gauge.unit,
            description=gauge.says,
        )
