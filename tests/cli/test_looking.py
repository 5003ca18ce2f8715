"""Commands that look: what they tell people and programs, and that they change nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from projection_guard import Amendment, FailureFilter
from projection_guard._http import answers
from projection_guard._http.access import Actor
from projection_guard._http.views import View
from projection_guard.cli import _rendering
from tests.cli.conftest import Place

VIEW = View(actor=Actor(name="x", role="operator"), redact=None, payloads_for="operator")
AMENDED = Amendment(
    projection_name="Orders",
    event_id="A#1",
    event_type="Sold",
    event_sequence=1,
    stream_id="A",
    event_payload={},
    original_payload=None,
    amended_by="ada",
    note=None,
    amended_at=datetime(2026, 11, 25, 20, 15, tzinfo=UTC),
    failure_id=UUID(int=1),
)


def test_status_tells_all_projections_in_a_table_and_in_json(seen: Place) -> None:
    """Its exit code is the worst one's; a projection that the application does not register is called detached."""
    told = seen.shell.app("status", "--json", code=10).json
    assert [each["projection_name"] for each in told["projections"]] == ["Mails", "Orders", "Totals"]
    mails, orders, totals = told["projections"]
    assert (mails["health_status"], mails["detached"], totals["detached"]) == ("healthy", False, True)
    assert (orders["active_failures"], orders["exhausted_failures"], orders["parked_events"]) == (2, 1, 1)
    assert (told["overall_status"], told["total_projections"], told["total_active_failures"]) == ("degraded", 3, 2)
    assert (told["unrecorded"], told["workers"]) == ([], [])
    assert told.keys() == answers.SystemStatus.model_fields.keys() | {"projections", "unrecorded", "workers"}
    lines = seen.shell.app("status", code=10).out.splitlines()
    assert lines[0].split() == ["PROJECTION", "STATUS", "STATE", "FAILURES", "EXHAUSTED", "PARKED", "LAG", "PROCESSED"]
    (orders_line,) = [line for line in lines if line.startswith("Orders")]
    assert orders_line.split()[:6] == ["Orders", "degraded", "active", "2", "1", "1"]
    assert "1 tainted" in orders_line
    (totals_line,) = [line for line in lines if line.startswith("Totals")]
    assert totals_line.endswith("detached")
    assert "degraded: 3 projections, 2 unresolved failures" in lines
    assert "no worker is at work" in lines


def test_a_bare_database_tells_the_same_but_what_is_detached(seen: Place) -> None:
    """The projections are those that it knows; nobody can say which of them some application registers."""
    bare = seen.shell.bare("status", "--json", code=10).json
    app = seen.shell.app("status", "--json", code=10).json
    volatile = ("lag_seconds", "detached")
    for one, other in zip(bare["projections"], app["projections"], strict=True):
        assert {k: v for k, v in one.items() if k not in volatile} == {
            k: v for k, v in other.items() if k not in volatile
        }
        assert one["detached"] is None


def test_health_tells_why(seen: Place) -> None:
    """One projection, or all; the exit code is what a monitor goes by."""
    told = seen.shell.bare("health", "Orders", "--json", code=10).json
    assert told["reasons"][0] == "2 unresolved failures"
    assert [each["projection_name"] for each in seen.shell.app("health", "--json", code=10).json] == [
        "Mails",
        "Orders",
        "Totals",
    ]
    assert seen.shell.app("health", "Mails").out.splitlines()[1].split() == ["status", "healthy"]
    assert "2 unresolved, 1 of them exhausted" in seen.shell.app("health", code=10).out


def test_failures_are_listed_by_every_filter_and_page_by_page(seen: Place) -> None:
    """Newest first; what a filter means is what `FailureFilter` means by it."""
    shell = seen.shell
    newest, oldest = shell.bare("failures", "list", "--json").json["items"]
    assert (newest["stream_id"], newest["state"], oldest["stream_id"], oldest["state"]) == (
        "B",
        "exhausted",
        "A",
        "scheduled",
    )
    for words, expected in (
        (("--projection", "Mails"), []),
        (("--error-type", "KeyError"), ["B"]),
        (("--fingerprint", oldest["fingerprint"]), ["A"]),
        (("--event-type", "Sold"), ["B", "A"]),
        (("--stream", "A"), ["A"]),
        (("--state", "parked"), ["A"]),
        (("--state", "resolved"), ["C"]),
        (("--all",), ["C", "B", "A"]),
        (("--from", "1h"), ["B", "A"]),
        (("--until", "1h"), []),
        (("--until", newest["failed_at"], "--from", "2020-01-01T00:00+02:00"), ["A"]),
    ):
        found = shell.bare("failures", "list", *words, "--json").json["items"]
        assert [each["stream_id"] for each in found] == expected, words
    first = shell.bare("failures", "list", "--limit", "1")
    assert "KeyError: 'there is no such product'" in first.out
    after = first.err.split("--after ")[1].strip()
    assert "ValueError: the handler has a bug" in shell.bare("failures", "list", "--limit", "1", "--after", after).out
    assert shell.bare("failures", "list", "--projection", "Mails").out == "There are no such failures.\n"


def test_one_failure_is_shown_with_its_history_and_its_event_only_where_asked_for(seen: Place) -> None:
    """An event may hold what is not for a screen."""
    shell = seen.shell
    (failure,) = shell.bare("failures", "list", "--stream", "A", "--json").json["items"]
    told = shell.bare("failures", "show", failure["id"], "--json").json
    assert (len(told["attempts"]), told["event_payload"], told["event_payload_hidden"]) == (1, None, True)
    shown = shell.app("failures", "show", failure["id"])
    assert "traceback:" in shown.out
    assert "\nevent  {" not in shown.out
    assert shell.app("failures", "show", failure["id"], "--payload", "--json").json["event_payload"] is not None
    assert "\nevent  {" in shell.app("failures", "show", failure["id"], "--payload").out
    groups = shell.bare("failures", "groups", "--json").json["items"]
    assert sorted(each["count"] for each in groups) == [1, 1]
    assert "ValueError: the handler has a bug" in shell.app("failures", "groups").out


def test_streams_parked_events_checkpoints_and_the_audit_log(seen: Place) -> None:
    """Each as a table and as JSON."""
    shell = seen.shell
    (blocked,) = [e for e in shell.bare("streams", "Orders", "--json").json["items"] if e["stream_id"] == "A"]
    assert (blocked["blocked"], blocked["parked_events"]) == (True, 1)
    assert "an event was skipped by eve" in shell.app("streams", "Orders", "--state", "tainted").out
    (waits,) = shell.bare("parked", "Orders", "--json").json["items"]
    assert (waits["event_id"], waits["event_payload"]) == ("A#2", None)
    assert shell.bare("parked", "Orders", "--payload", "--json").json["items"][0]["event_payload"] is not None
    assert "A#2" in shell.app("parked", "Orders", "--stream", "A").out
    assert shell.app("parked", "Mails").out == "Nothing is parked in Mails.\n"
    assert shell.app("checkpoint", "Totals", "--json").json["last_event_sequence"] == 3
    assert "last event sequence" in shell.bare("checkpoint", "Orders").out
    assert "has passed over nothing" in shell.bare("skipped", "Totals").out
    (entry,) = shell.bare("audit", "--by", "eve", "--action", "skip", "--json").json["items"]
    assert (entry["note"], entry["projection_name"]) == ("a test order", "Orders")
    assert "a test order" in shell.app("audit", "--projection", "Orders").out
    assert len(shell.app("audit", "--failure", entry["failure_id"], "--json").json["items"]) == 1


def test_one_stream_tells_what_has_become_of_its_events(seen: Place) -> None:
    """As a table and as JSON, newest first; where the log is not read from here that is said."""
    shell = seen.shell
    told = shell.bare("stream", "Orders", "A", "--json").json
    assert [(each["event_id"], each["state"]) for each in told["page"]["items"]] == [
        ("A#2", "parked"),
        ("A#1", "failed"),
    ]
    assert (told["blocked"], told["parked_events"], told["applied_events"]) == (True, 1, "recent")
    first = shell.app("stream", "Orders", "A", "--limit", "1")
    assert "A#2" in first.out
    assert "blocked" in first.out
    after = first.err.split("--after ")[1].strip()
    rest = shell.app("stream", "Orders", "A", "--after", after).out
    assert told["failure_ids"][0] in rest
    assert "A#2" not in rest
    assert "manual_skip" in shell.app("stream", "Orders", "C").out
    assert "no event is known" in shell.bare("stream", "Orders", "nobody").out
    assert shell.bare("stream", "Totals", "X", "--json").json["applied_events"] == "unlisted"
    assert "the log is not read" in shell.bare("stream", "Totals", "X").out
    seen.change("CREATE INDEX log_streams ON log (stream_id)")
    try:
        read = shell.app("stream", "Totals", "X", "--json", app="follower").json
    finally:
        seen.change("DROP INDEX log_streams")
    assert read["log_is_read"]
    assert [(each["event_id"], each["state"]) for each in read["page"]["items"]] == [
        ("X#2", "applied"),
        ("X#1", "applied"),
    ]


def test_replays_and_actions_on_many_are_listed_and_shown(seen: Place) -> None:
    """One that has ended says what came of it."""
    shell = seen.shell
    (job,) = shell.bare("replays", "list", "Totals", "--json").json["items"]
    assert (job["status"], job["kind"], job["actor"]) == ("completed", "open", "eve")
    assert job["id"] in shell.app("replays", "list").out
    assert shell.bare("replays", "show", job["id"], "--json").json == job
    assert "completed" in shell.app("replays", "show", job["id"]).out
    assert shell.bare("bulk", "list").out == "There are no actions on many failures.\n"


def test_looking_changes_nothing(seen: Place) -> None:
    """No row is made for a projection that is registered and was never run; nothing is rolled up, nothing audited."""
    before = seen.everything()
    told = seen.shell.app("status", "--json", app="lone", code=10).json
    assert told["unrecorded"] == ["Newcomer"]
    assert "Newcomer is registered" in seen.shell.app("status", app="lone", code=10).out
    seen.shell.app("health", "Orders", app="follower", code=10)
    seen.shell.app("failures", "list", app="follower")
    seen.shell.app("stream", "Totals", "X", app="follower")
    seen.shell.app("doctor", app="lone")
    assert seen.everything() == before


def test_json_is_what_the_routes_answer(seen: Place) -> None:
    """The same fields, the same values, for each kind of value."""
    with seen.application() as guard, seen.application("follower") as follower:
        failures = guard.failures(where=FailureFilter(), include_resolved=True).items
        bulk = guard.propose_bulk("retry", where=FailureFilter(projection_name="Orders"), actor="ada")
        pairs: list[tuple[Any, Any]] = [
            (_rendering.rendered(guard.status()), None),
            *((_rendering.rendered(each), answers.Health.model_validate(each)) for each in guard.health()),
            *((_rendering.rendered(each), VIEW.failure(each)) for each in failures),
            *((_rendering.rendered(each), VIEW.group(each)) for each in guard.failure_groups().items),
            *((_rendering.rendered(each), answers.AuditEntry.model_validate(each)) for each in guard.audit().items),
            *((_rendering.rendered(each), VIEW.replay(each)) for each in follower.replays().items),
            *(
                (_rendering.rendered(each), answers.Stream.model_validate(each))
                for each in guard.streams("Orders", state="tainted").items
            ),
            *(
                (_rendering.rendered(each), answers.StreamHistory.model_validate(each))
                for each in (guard.stream("Orders", stream, limit=1) for stream in "ABCD")
            ),
            *(
                (_rendering.parked(each, shows_payload=True), VIEW.parked(each))
                for each in guard.parked("Orders").items
            ),
            (
                _rendering.rendered(guard.checkpoint("Orders")),
                answers.Checkpoint.model_validate(guard.checkpoint("Orders")),
            ),
            (_rendering.rendered(bulk), answers.BulkAction.model_validate(bulk)),
            (
                _rendering.failure_detail(failures[0], guard.attempts(failures[0].id), None, shows_payload=True),
                VIEW.failure_detail(failures[0], guard.attempts(failures[0].id), None),
            ),
            (
                _rendering.failure_detail(failures[0], (), AMENDED, shows_payload=False),
                replace(VIEW, payloads_for=None).failure_detail(failures[0], (), AMENDED),
            ),
        ]
    assert len(pairs) > 15
    for ours, theirs in pairs[1:]:
        assert ours == theirs.model_dump(mode="json")
    assert pairs[0][0].keys() == answers.SystemStatus.model_fields.keys()


@pytest.mark.parametrize(("failures", "code"), [(10, 11), (50, 12)])
def test_exit_codes_tell_a_monitor_how_bad_it_is(place: Place, failures: int, code: int) -> None:
    """10 unresolved failures are critical, 50 mean offline."""
    from tests.cli import shop

    streams = [f"S{number}" for number in range(failures)]
    place.shell.breaks(*streams)
    place.publish(*(shop.event(stream, 1) for stream in streams))
    place.shell.bare("health", "Orders", code=code)
    place.shell.app("health", "Mails")
    place.shell.app("status", "--json", code=code)
