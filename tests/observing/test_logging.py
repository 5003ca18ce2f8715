"""Log lines: one for each change of state, quiet by default, with flat fields that other tools take as they are."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sentry_sdk
import structlog
from pythonjsonlogger.json import JsonFormatter
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import Notice, NoticeKind, RetryPolicy
from projection_guard._notices import log_notice
from tests.bed import Bed, GuardOnBed, happened
from tests.flow.acting import Planned
from tests.observing.pages import ROOT, code_in, rows_of, table
from tests.project.test_readme import programs

ONCE = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(1))
SECRET = "canary-4711"
ours = logging.getLogger("projection_guard")


@contextmanager
def listening(handler: logging.Handler) -> Iterator[None]:
    """Let a handler have our lines."""
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)


def on_the_page(heading: str) -> dict[str, Any]:
    """Run the python of a section of docs/logging.md and return its names."""
    (program,) = [
        each
        for each in programs("docs/logging.md", (ROOT / "docs" / "logging.md").read_text(encoding="utf-8"))
        if each.heading == heading
    ]
    names: dict[str, Any] = {}
    exec(compile(program.source(), "docs/logging.md", "exec"), names)
    return names


def failing_guard(bed: Bed) -> GuardOnBed:
    """Return a guard whose events fail, with something in their errors that nobody may see."""
    guard = bed.guard(retry=ONCE)
    planned = Planned("P", *(f"{stream}#1" for stream in "ABCD"), error=lambda: ValueError(SECRET))
    bed.joined(guard, "P", planned.joined)
    return guard


def test_a_failure_is_a_line_with_its_facts_and_frames(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """The fields are those of the page; the error's own words are not there."""
    caplog.set_level(logging.DEBUG, "projection_guard")
    guard = failing_guard(bed)
    guard.publish(happened("A", 1))
    guard.work()
    guard.publish(happened("A", 2))
    records = [record for record in caplog.records if hasattr(record, "notice")]
    kinds = [vars(record)["notice"] for record in records]
    assert kinds[:3] == ["failed", "exhausted", "status_changed"]
    assert kinds.count("exhausted") == kinds.count("parked") == 1
    (failed,) = [record for record in records if vars(record)["notice"] == "failed"]
    failure = guard.failures().items[0]
    facts = vars(failed)
    assert (facts["projection"], facts["event_id"], facts["stream_id"]) == ("P", "A#1", "A")
    assert (facts["failure_id"], facts["fingerprint"]) == (str(failure.id), failure.fingerprint)
    assert failed.levelno == logging.WARNING
    assert failed.exc_info is not None
    assert failed.exc_info[0] is not None
    assert failed.exc_info[0].__name__ == "ValueError"
    assert "in _joined" in caplog.text or "acting.py" in caplog.text
    assert SECRET not in caplog.text


def test_levels_and_kinds_are_those_of_the_page(caplog: pytest.LogCaptureFixture) -> None:
    """One line each."""
    caplog.set_level(logging.DEBUG, "projection_guard")
    page = {kind: row[1].split(", ") for kind, row in rows_of("logging.md", "What is logged").items()}
    assert page.keys() == {kind.value for kind in NoticeKind}
    for kind in NoticeKind:
        caplog.clear()
        worse = "drifted" if kind is NoticeKind.VERIFIED else "degraded"
        log_notice(Notice(kind=kind, projection="P", before="healthy", after=worse))
        log_notice(Notice(kind=kind, projection="P", before="degraded", after="healthy"))
        levels = [record.levelname for record in caplog.records]
        assert levels == (page[kind.value] * 2)[:2], kind


def test_fields_are_those_of_the_page_and_clash_with_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A field that a record has itself would be an error of logging, raised into the flow."""
    page = {code_in(row[0])[0] for row in table("logging.md", "Fields")}
    assert page == {*Notice.__dataclass_fields__, "notice"} - {"kind", "error"}
    assert not page & {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def test_it_is_quiet_by_default() -> None:
    """In a program that configures no logging nothing is written anywhere, and no level or handler is set elsewhere."""
    program = (
        "import logging, projection_guard as p\n"
        "g = p.ProjectionGuard('sqlite://', worker='external'); g.migrate()\n"
        "@g.projection('P')\n"
        "def fails(event): raise p.PermanentFailure('no')\n"
        "assert fails({'event_id': '1', 'event_type': 'T', 'stream_id': 'a'}).status == 'failed'\n"
        "assert logging.getLogger().handlers == [] and logging.getLogger('projection_guard').level == 0\n"
        "g.close()\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _lines_of(bed: Bed, formatter: logging.Formatter) -> list[dict[str, Any]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    with listening(handler):
        failing_guard(bed).publish(happened("A", 1))
    assert SECRET not in out.getvalue()
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("formatted_by", ["json", "structlog"])
def test_other_tools_take_the_fields_as_they_are(sqlite_bed: Bed, formatted_by: str) -> None:
    """As the page says: python-json-logger's formatter, structlog's ExtraAdder."""
    formatters: dict[str, Callable[[], logging.Formatter]] = {
        "json": lambda: JsonFormatter("%(levelname)s %(name)s %(message)s"),
        "structlog": _of_structlog,
    }
    lines = _lines_of(sqlite_bed, formatters[formatted_by]())
    (failed,) = [line for line in lines if line.get("notice") == "failed"]
    assert (failed["projection"], failed["event_id"], failed["attempts"]) == ("P", "A#1", 1)
    assert "ValueError" in str(failed.get("exc_info") or failed.get("exception"))


def _of_structlog() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
    )


class Kept(Transport):
    """Sends nothing anywhere."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events += [item.payload.json for item in envelope.items if item.type == "event"]


def test_sentry_groups_by_fingerprint(sqlite_bed: Bed) -> None:
    """With the page's `before_send`: who waits for a person is an event, alike ones are a group, no value is sent."""
    grouped = on_the_page("Sentry")["grouped"]
    sentry_sdk.get_client().close()
    kept = Kept()
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=kept,
        before_send=grouped,
        include_local_variables=False,
        default_integrations=False,
        integrations=[LoggingIntegration()],
    )
    guard = failing_guard(sqlite_bed)
    try:
        for stream in "AB":
            guard.publish(happened(stream, 1))
        for _ in range(3):
            guard.work()
        sentry_sdk.flush()
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.init()
    events = [event for event in kept.events if "fingerprint" in event]
    assert len(events) == 2
    (fingerprint,) = {tuple(event["fingerprint"]) for event in events}
    assert fingerprint == ("P", guard.failures().items[0].fingerprint)
    error = events[0]["exception"]["values"][-1]
    assert error["type"] == "ValueError"
    assert "fail" in [frame["function"] for frame in error["stacktrace"]["frames"]]
    assert events[0]["tags"]["notice"] == "exhausted"
    assert SECRET not in json.dumps(kept.events)


def test_an_observer_is_given_the_error_itself(bed: Bed) -> None:
    """With what it says, for those who may have that; a notice shown in a log does not tell it."""
    notices = list[Notice]()
    guard = bed.guard(observers=[notices.append], retry=ONCE)
    error = ValueError(SECRET)
    planned = Planned("P", "A#1", error=lambda: error)
    bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    assert notices[0].error is error
    assert SECRET not in repr(notices)
