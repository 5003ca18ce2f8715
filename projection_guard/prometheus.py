"""Metrics for Prometheus: counters and histograms of this process, gauges of the database.

    guard = ProjectionGuard(url, instruments=[PrometheusMetrics()])
    database_metrics(guard)                   # in one process: the worker's
    page = metrics_text()                     # for a route /metrics

docs/metrics.md lists every name and label. No label ever holds an event's id, a stream or what an error says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Final

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import GaugeMetricFamily
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        f"projection_guard.prometheus needs {error.name}: pip install 'projection-guard[prometheus]'"
    ) from error

from ._gauges import GAUGES, readings
from ._instruments import Delivery, Settled
from ._labels import FewOf
from ._model import Origin, OutcomeStatus
from ._notices import Notice, NoticeKind
from ._probes import Page
from ._standing import EVERY_SECONDS, TIMEOUT_SECONDS, Guard, Standings
from ._wording import type_name
from .errors import ConfigurationError

__all__ = ["DatabaseMetrics", "MetricsPage", "PrometheusMetrics", "database_metrics", "metrics_page", "metrics_text"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ATTEMPTS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0)
_PREFIX: Final = "projection_guard_"


class PrometheusMetrics:
    """An instrument that counts what this process does; several guards may share it.

    `buckets` are those of the handlers' time, in seconds. With `PROMETHEUS_MULTIPROC_DIR` set, the processes of one
    server are added up. Raises `ConfigurationError` where the registry has these metrics already.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, buckets: Sequence[float] = _BUCKETS) -> None:
        where = REGISTRY if registry is None else registry
        try:
            self._events = Counter(
                f"{_PREFIX}events",
                "Events by what became of them in a projection, and by who brought them.",
                ["projection", "origin", "outcome"],
                registry=where,
            )
            self._seconds = Histogram(
                f"{_PREFIX}handler_duration_seconds",
                "How long calls of handlers took, also those that were undone and made again.",
                ["projection", "result"],
                buckets=buckets,
                registry=where,
            )
            self._attempts = Histogram(
                f"{_PREFIX}event_attempts",
                "How many calls of the handler an event had taken when it was applied, or its retries were used up.",
                ["projection"],
                buckets=_ATTEMPTS,
                registry=where,
            )
            self._failures = Counter(
                f"{_PREFIX}failures",
                "Attempts that failed, the first and later ones, by the error's type.",
                ["projection", "error_type"],
                registry=where,
            )
            self._notices = Counter(
                f"{_PREFIX}notices",
                "Changes of state.",
                ["projection", "kind"],
                registry=where,
            )
        except ValueError as error:
            raise ConfigurationError(
                "this registry has the metrics of a PrometheusMetrics already: give that one to every guard"
            ) from error
        self._types = FewOf()
        self._known: set[str] = set()
        self._counted: dict[tuple[str, Origin, OutcomeStatus], Counter] = {}
        self._timed: dict[tuple[str, str], Histogram] = {}

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
            self._timer(projection, result).observe(perf_counter() - began)

    def settled(self, delivery: Delivery, settled: Settled, /) -> None:
        """Count an outcome."""
        name, outcome = delivery.projection, settled.outcome
        self._counter(name, delivery.origin, outcome.status).inc()
        if outcome.status is OutcomeStatus.APPLIED and delivery.origin is not Origin.REPLAY:
            self._attempts.labels(name).observe(max(outcome.attempts, 1))
        elif settled.error is not None:
            self._failures.labels(name, self._types.of(name, type_name(settled.error))).inc()

    def noticed(self, notice: Notice, /) -> None:
        """Count a change of state."""
        self._begin(notice.projection)
        self._notices.labels(notice.projection, notice.kind.value).inc()
        if notice.kind is NoticeKind.EXHAUSTED:
            self._attempts.labels(notice.projection).observe(max(notice.attempts, 1))

    def _begin(self, projection: str) -> None:
        """Let every kind of notice begin at 0: an increase from nothing is none to Prometheus."""
        if projection not in self._known:
            self._known.add(projection)
            for kind in NoticeKind:
                self._notices.labels(projection, kind.value)

    def _counter(self, projection: str, origin: Origin, status: OutcomeStatus) -> Counter:
        key = (projection, origin, status)
        found = self._counted.get(key)
        if found is None:
            self._begin(projection)
            found = self._counted[key] = self._events.labels(projection, origin.value, status.value)
        return found

    def _timer(self, projection: str, result: str) -> Histogram:
        key = (projection, result)
        found = self._timed.get(key)
        if found is None:
            found = self._timed[key] = self._seconds.labels(projection, result)
        return found


class DatabaseMetrics(Collector):
    """Gauges read from a guard's database when they are scraped, once in `every_seconds` at most; it raises nothing."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Read, if it is time to, and return the gauges; those of the projections only where the database is up."""
        families = {gauge: _family(gauge.name, gauge.says, gauge.labels) for gauge in GAUGES}
        for reading in readings(self._standings.now()):
            families[reading.gauge].add_metric(reading.labels, reading.value)
        return [family for family in families.values() if family.samples]

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name the gauges without reading anything."""
        return [_family(gauge.name, gauge.says, gauge.labels) for gauge in GAUGES]

    async def refresh(self) -> None:
        """Read, if it is time to, without holding up the loop. For an async guard, await it before `metrics_text`."""
        await self._standings.refresh()


def _family(name: str, says: str, labels: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}{name}", says, labels=labels)


def database_metrics(
    guard: Guard,
    *,
    registry: CollectorRegistry | None = None,
    every_seconds: float = EVERY_SECONDS,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> DatabaseMetrics:
    """Export what the database says of all projections of a guard; do so in one process, such as the worker's.

    Scrapes within `every_seconds` get the same values. Where the database has not answered after `timeout_seconds`,
    `projection_guard_database_up` is 0. Make it on the guard's loop if that is async. Raises `ConfigurationError`.
    """
    made = DatabaseMetrics(Standings(guard, every_seconds=every_seconds, timeout_seconds=timeout_seconds))
    try:
        (REGISTRY if registry is None else registry).register(made)
    except ValueError as error:
        raise ConfigurationError("this registry has the gauges of a guard already; give each its own") from error
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPage:
    """What a route `/metrics` answers."""

    body: bytes
    content_type: str


def metrics_text(
    *,
    registry: CollectorRegistry | None = None,
    database: DatabaseMetrics | None = None,
    accept: str = "",
) -> MetricsPage:
    """Write everything in a registry down for Prometheus, in the format that the `Accept` header of a scrape asks for.

    With `PROMETHEUS_MULTIPROC_DIR` set, it is what all processes have counted, and `database` is added to that.
    """
    where = REGISTRY if registry is None else registry
    if registry is None and os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        where = CollectorRegistry()
        add_up: Callable[[CollectorRegistry], object] = MultiProcessCollector
        add_up(where)
        if database is not None:
            where.register(database)
    encode, content_type = choose_encoder(accept)
    return MetricsPage(body=encode(where), content_type=content_type)


def metrics_page(guard: Guard, *, registry: CollectorRegistry | None = None, path: str = "/metrics") -> Page:
    """Return the page that a worker service shows at its health port: what its process counts, and the gauges.

    `WorkerServiceSettings(health_port=8081, pages=(metrics_page(guard),))`
    """
    database = DatabaseMetrics(Standings(guard, every_seconds=EVERY_SECONDS, timeout_seconds=TIMEOUT_SECONDS))
    with suppress(ValueError):  # the application exports them there already
        (REGISTRY if registry is None else registry).register(database)

    def content() -> tuple[str, bytes]:
        page = metrics_text(registry=registry, database=database)
        return page.content_type, page.body

    return Page(path=path, content=content)
