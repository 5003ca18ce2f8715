"""The pages of the API: which public name stands on which page, in the order in which a user looks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .names import PACKAGE, Name, home, inherited, public_names

__all__ = ["PAGES", "ApiPage", "pages"]

NOTE: Final = (
    "*Written by `make reference`, and compared by a test: edit the docstrings instead. "
    "What stands below a name is its docstring, read when the site is built.*"
)
SAME: Final = "`Actor`, `Role`, `Redact` and `Redacted` are those of [FastAPI](fastapi.md)."


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPage:
    """A page of `docs/reference/`: these names of the package, then what the modules offer and no page before has."""

    file: str
    title: str
    about: str
    names: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def _adapter(title: str, about: str, *modules: str) -> ApiPage:
    return ApiPage(file=modules[0], title=title, about=about, modules=modules)


PAGES: Final = (
    ApiPage(
        file="guards",
        title="Guards",
        about="Where everything starts: `ProjectionGuard` for blocking code, `AsyncProjectionGuard` for asyncio. Both "
        "have the same methods. [Handlers](../handlers.md) says what a projection may do.",
        names=("ProjectionGuard", "AsyncProjectionGuard", "Guarded", "AsyncGuarded", "acting_for"),
    ),
    ApiPage(
        file="publishers_and_workers",
        title="Publishers and workers",
        about="What `guard.publisher()` and `guard.worker()` return: one brings events in, the other makes retries, "
        "drains what is parked, and follows the log. [The worker](../worker.md) as a service has a page of its own.",
        names=("Publisher", "AsyncPublisher", "Worker", "AsyncWorker", "Round", "Followed"),
    ),
    ApiPage(
        file="policies",
        title="Policies",
        about="When a failed event is tried again, when a row of failures is taken for an outage, how health is "
        "judged, and who is told. [Operations](../operations.md) shows them at work, [alerts](../alerts.md) whom to "
        "tell.",
        names=("RetryPolicy", "Breaker", "HealthPolicy", "AlertPolicy"),
    ),
    ApiPage(
        file="events",
        title="Events: mapping, codec, encryption",
        about="How an event is read, and how it gets into the database and back. [Events](../events.md) explains it, "
        "[security](../security.md) the keys.",
        names=(
            "EventMapping",
            "EventRecord",
            "JsonCodec",
            "EventCodec",
            "EncryptedCodec",
            "Cipher",
            "Sealed",
            "Place",
        ),
    ),
    ApiPage(
        file="sources",
        title="Sources",
        about="Where events can be read again. [Sources](../sources.md) says which logs are safe to read, and how to "
        "write a source of your own.",
        names=(
            "EventSource",
            "AsyncEventSource",
            "SqlEventSource",
            "AsyncSqlEventSource",
            "Batch",
            "Recorded",
            "Skipped",
            "Share",
            "SeenTypes",
            "check_range",
            "check_stream_range",
        ),
    ),
    ApiPage(
        file="records",
        title="Records that are returned",
        about="Frozen values that the guards return. All times are aware UTC.",
        names=(
            "Outcome",
            "OutcomeStatus",
            "Health",
            "HealthStatus",
            "SystemStatus",
            "Checkpoint",
            "Failure",
            "Attempt",
            "FailureFilter",
            "FailureGroup",
            "ResolutionMethod",
            "Page",
            "Parked",
            "StreamState",
            "StreamHistory",
            "StreamEvent",
            "SkippedRange",
            "Replay",
            "BulkAction",
            "Amendment",
            "AuditEntry",
            "WorkerState",
            "History",
            "Point",
        ),
    ),
    ApiPage(
        file="observers",
        title="Notices, instruments, alerts",
        about="What observers and instruments are told, and what receivers of alerts are given. "
        "[Logging](../logging.md), [metrics](../metrics.md), [tracing](../tracing.md) and [alerts](../alerts.md) show "
        "how to use them.",
        names=(
            "Notice",
            "NoticeKind",
            "Instrument",
            "Delivery",
            "Origin",
            "Settled",
            "Alert",
            "AlertKind",
            "OpenAlert",
            "TestedReceiver",
        ),
    ),
    ApiPage(
        file="error_classes",
        title="Error classes",
        about="The classes. [Errors](../errors.md) has the cause and the cure of each.",
        modules=("errors",),
    ),
    _adapter(
        "Testing",
        "For tests of an application's own projections, and rules for a codec or a source of your own: "
        "[testing](../testing.md). The pytest fixtures stand there, too.",
        "testing",
        "testing.codec_conformance",
        "testing.source_conformance",
    ),
    _adapter("FastAPI", "Routes and dashboard: [HTTP](../http.md), [dashboard](../dashboard.md).", "fastapi"),
    _adapter("Flask", f"Routes and dashboard: [HTTP](../http.md), [dashboard](../dashboard.md). {SAME}", "flask"),
    _adapter("Starlette", f"Routes and dashboard: [Starlette and Litestar](../starlette.md). {SAME}", "starlette"),
    _adapter("Litestar", f"Routes and dashboard: [Starlette and Litestar](../starlette.md). {SAME}", "litestar"),
    _adapter(
        "Django",
        f"The ORM in the guard's transaction, routes and dashboard: [Django](../django.md). {SAME}",
        "django",
        "django.apps",
        "django.urls",
    ),
    _adapter("eventsourcing", "The library `eventsourcing`: [eventsourcing](../eventsourcing.md).", "eventsourcing"),
    _adapter("eventsource-py", "The library `eventsource-py`: [eventsource-py](../eventsource.md).", "eventsource"),
    _adapter("Message DB", "A Message DB store as a source: [Message DB](../message_db.md).", "message_db"),
    _adapter("KurrentDB", "KurrentDB as a source: [KurrentDB](../kurrentdb.md).", "kurrentdb"),
    _adapter("CloudEvents", "Events of the CloudEvents SDK: [CloudEvents](../cloudevents.md).", "cloudevents"),
    _adapter("Iterables", "Any iterable as a source: [iterables](../iterators.md).", "iterators"),
    _adapter("FastStream", "Events of a broker, by FastStream: [FastStream](../faststream.md).", "faststream"),
    _adapter("Celery", "Events of a broker, by Celery: [Celery](../celery.md).", "celery"),
    _adapter("Prometheus", "Counters and gauges: [metrics](../metrics.md).", "prometheus"),
    _adapter(
        "OpenTelemetry", "Metrics and traces: [metrics](../metrics.md), [tracing](../tracing.md).", "opentelemetry"
    ),
    _adapter("Apprise", "Alerts by chat, mail and pagers: [alerts](../alerts.md).", "apprise"),
    _adapter("Webhook", "Alerts by a signed webhook: [alerts](../alerts.md).", "webhook"),
    _adapter("Worker service", "A worker as a process of its own: [the worker](../worker.md).", "worker_service"),
    _adapter("Migrations", "For hosts that run Alembic themselves: [migrations](../migrations.md).", "migrations"),
    _adapter("Command line", "The entry point. All commands: [the command line](../cli.md).", "cli"),
)


def names_on(page: ApiPage, taken: set[Name]) -> list[Name]:
    """Return the names of a page, in order; `taken` are those of the pages before it, by where they are defined."""
    listed = [Name(PACKAGE, name) for name in page.names]
    for module in page.modules:
        full = f"{PACKAGE}.{module}"
        listed += [Name(full, name) for name in sorted(public_names(full), key=_blocking_first)]
    return [name for name in listed if home(name) not in taken]


def _directive(name: Name) -> str:
    members = inherited(name)
    if not members:
        return f"::: {name}"
    return "\n".join([f"::: {name}", "    options:", "      members:", *(f"        - {each}" for each in members)])


def _blocking_first(name: str) -> tuple[str, bool]:
    """Sort as `__all__` is, but `AsyncX` after `X`: it says only what is different."""
    plain = name.removeprefix("Async").removesuffix("_async")
    return plain, plain != name


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    written: dict[str, str] = {}
    taken: set[Name] = set()
    for page in PAGES:
        names = names_on(page, taken)
        taken |= {home(name) for name in names}
        blocks = [f"# {page.title}", NOTE, page.about, *map(_directive, names)]
        written[f"{page.file}.md"] = "\n\n".join(blocks) + "\n"
    return written
