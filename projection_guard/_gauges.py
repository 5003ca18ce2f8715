"""What is told of a database in gauges, once: `prometheus` and `opentelemetry` only name it in their own ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ._model import HealthStatus
from ._records import WorkerState
from ._standing import Look, Standing

__all__ = ["GAUGES", "Gauge", "Reading", "readings"]

_STATES: Final = ("active", "paused", "resetting", "replaying", "rebuilding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A gauge: `name` in Prometheus, `otel_name` and `unit` in OpenTelemetry; both have the same labels."""

    name: str
    otel_name: str
    unit: str
    says: str
    labels: tuple[str, ...] = ("projection",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value of a gauge. `labels` are the values, in the gauge's order."""

    gauge: Gauge
    labels: tuple[str, ...]
    value: float


_UP = Gauge(
    name="database_up",
    otel_name="database.up",
    unit="1",
    says="1 where the guard's database answered when it was read last, else 0: then nothing it holds is shown.",
    labels=(),
)
_TOOK = Gauge(
    name="database_read_seconds",
    otel_name="database.read.duration",
    unit="s",
    says="How long the last reading of these gauges took.",
    labels=(),
)
_STATUS = Gauge(
    name="health_status",
    otel_name="health.status",
    unit="1",
    says="1 at the status the projection has, 0 at the others: healthy, degraded, critical, offline.",
    labels=("projection", "status"),
)
_STATE = Gauge(
    name="state",
    otel_name="state",
    unit="1",
    says="1 at the state the projection is in, 0 at the others: active, paused, resetting, replaying, rebuilding.",
    labels=("projection", "state"),
)
_HELD = Gauge(name="held", otel_name="held", unit="1", says="1 while the breaker holds the projection, else 0.")
_ACTIVE = Gauge(
    name="active_failures", otel_name="active_failures", unit="{failure}", says="Failures that are unresolved."
)
_EXHAUSTED = Gauge(
    name="exhausted_failures",
    otel_name="exhausted_failures",
    unit="{failure}",
    says="Failures that wait for a person: unresolved, and no retry is planned.",
)
_OLDEST = Gauge(
    name="oldest_failure_age_seconds",
    otel_name="oldest_failure.age",
    unit="s",
    says="How long ago the oldest unresolved failure failed first; 0 where there is none.",
)
_PARKED = Gauge(
    name="parked_events",
    otel_name="parked_events",
    unit="{event}",
    says="Events that wait behind a failure of their stream, or for the end of a pause.",
)
_TAINTED = Gauge(
    name="tainted_streams",
    otel_name="tainted_streams",
    unit="{stream}",
    says="Streams whose read model may be wrong: an event was skipped, or may be out of order.",
)
_LAG = Gauge(
    name="lag_seconds",
    otel_name="lag.time",
    unit="s",
    says="The age of the oldest event that waits: failed, parked, or still in the log; 0 where none waits; "
    "not there while the log cannot be read.",
)
_LAG_EVENTS = Gauge(
    name="lag_events",
    otel_name="lag.events",
    unit="{event}",
    says="How many events wait; of those still in the log at most so many, as sequences have holes; "
    "not there while the log cannot be read.",
)
_CHECKPOINT = Gauge(
    name="checkpoint_sequence",
    otel_name="checkpoint.sequence",
    unit="1",
    says="The sequence the projection has come to; not there before its first event that has one.",
)
_PROCESSED = Gauge(
    name="processed_events",
    otel_name="processed_events",
    unit="{event}",
    says="Events that were applied, as the database counts them: by all processes, since the last reset.",
)
_OVERDUE = Gauge(
    name="work_overdue_seconds",
    otel_name="work.overdue",
    unit="s",
    says="How long the oldest retry or drain that is due waits for a worker; 0 where none does. It grows without one.",
)
_PARTITIONS = Gauge(
    name="partitions",
    otel_name="partitions",
    unit="{partition}",
    says="Partitions of a followed projection; 0 where it is pushed.",
)
_LEASES = Gauge(
    name="leases",
    otel_name="leases",
    unit="{lease}",
    says="Leases on retries under way, partitions and replays; the holder of an expired one has died or was stopped.",
    labels=("projection", "kind", "state"),
)
_WORKERS = Gauge(
    name="workers",
    otel_name="workers",
    unit="{worker}",
    says="Workers on record, of a service or embedded in an application; one that is silent for a minute has died.",
    labels=("kind", "state"),
)
_PROGRESS = Gauge(
    name="replay_progress_ratio",
    otel_name="replay.progress",
    unit="1",
    says="How far the replay or rebuild under way has come, 0 to 1; not there without one.",
    labels=("projection", "kind"),
)
_LEFT = Gauge(
    name="replay_remaining_seconds",
    otel_name="replay.remaining",
    unit="s",
    says="What the replay or rebuild under way still takes, estimated; not there without an estimate.",
    labels=("projection", "kind"),
)

GAUGES: Final = (
    _UP,
    _TOOK,
    _STATUS,
    _STATE,
    _HELD,
    _ACTIVE,
    _EXHAUSTED,
    _OLDEST,
    _PARKED,
    _TAINTED,
    _LAG,
    _LAG_EVENTS,
    _CHECKPOINT,
    _PROCESSED,
    _OVERDUE,
    _PARTITIONS,
    _LEASES,
    _WORKERS,
    _PROGRESS,
    _LEFT,
)


def readings(look: Look) -> Iterator[Reading]:
    """Say what every gauge shows."""
    yield Reading(gauge=_UP, labels=(), value=float(look.is_up))
    yield Reading(gauge=_TOOK, labels=(), value=look.took_seconds)
    if look.is_up:
        yield from _workers(look)
    for standing in look.standings:
        yield from _sets(standing)
        yield from _numbers(standing)
        yield from _work(standing)


def _workers(look: Look) -> Iterator[Reading]:
    counted = Counter((worker.kind, _sign_of(worker)) for worker in look.workers)
    for kind in ("service", "embedded"):
        for state in ("alive", "stopping", "silent"):
            yield Reading(gauge=_WORKERS, labels=(kind, state), value=float(counted[kind, state]))


def _sign_of(worker: WorkerState) -> str:
    if worker.is_silent:
        return "silent"
    return "alive" if worker.stopping_at is None else "stopping"


def _sets(standing: Standing) -> Iterator[Reading]:
    health, name = standing.health, standing.health.projection_name
    for status in HealthStatus:
        yield Reading(gauge=_STATUS, labels=(name, status.value), value=float(health.status is status))
    for state in _STATES:
        yield Reading(gauge=_STATE, labels=(name, state), value=float(health.state == state))
    yield Reading(gauge=_HELD, labels=(name,), value=float(health.held_since is not None))


def _numbers(standing: Standing) -> Iterator[Reading]:
    health, facts = standing.health, standing.facts
    values: dict[Gauge, float] = {
        _ACTIVE: health.active_failures,
        _EXHAUSTED: health.exhausted_failures,
        _OLDEST: facts.oldest_failure_seconds,
        _PARKED: health.parked_events,
        _TAINTED: health.tainted_streams,
        _PROCESSED: health.total_events_processed,
        _OVERDUE: facts.overdue_seconds,
        _PARTITIONS: facts.partitions,
    }
    if standing.knows_log:
        values |= {_LAG: health.lag_seconds, _LAG_EVENTS: health.lag_events}
    if facts.last_sequence is not None:
        values[_CHECKPOINT] = facts.last_sequence
    for gauge, value in values.items():
        yield Reading(gauge=gauge, labels=(health.projection_name,), value=float(value))


def _work(standing: Standing) -> Iterator[Reading]:
    facts, name = standing.facts, standing.health.projection_name
    for kind, leases in facts.leases.items():
        yield Reading(gauge=_LEASES, labels=(name, kind, "held"), value=float(leases.held))
        yield Reading(gauge=_LEASES, labels=(name, kind, "expired"), value=float(leases.expired))
    replay = facts.replay
    if replay is not None:
        yield Reading(gauge=_PROGRESS, labels=(name, replay.kind), value=replay.progress)
        if replay.seconds_left is not None:
            yield Reading(gauge=_LEFT, labels=(name, replay.kind), value=replay.seconds_left)
