"""Commands that act: on one failure, on many, on a projection; who did it is written down."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli import shop
from tests.cli.conftest import Place


def failed(place: Place, *streams: str) -> list[str]:
    """Let the first event of these streams fail in Orders, and its second one wait; return the failures' ids."""
    place.shell.breaks(*streams)
    place.publish(*(shop.event(stream.partition("=")[0], n) for stream in streams for n in (1, 2)))
    found = place.shell.bare("failures", "list", "--projection", "Orders", "--json").json["items"]
    assert len(found) == len(streams)
    return [each["id"] for each in reversed(found)]


def audited(place: Place, action: str) -> list[tuple[str, str | None]]:
    """Return who did this, and the note."""
    told = place.shell.bare("audit", "--action", action, "--json").json["items"]
    return [(each["actor"], each["note"]) for each in told]


def test_one_failure_is_tried_again_skipped_or_taken_for_mended(place: Place) -> None:
    """A retry tells how it went; the actor is the user of the system, unless somebody else is named."""
    shell = place.shell
    first, second, third = failed(place, "A", "B", "C")
    again = shell.app("failures", "retry", first, code=1)
    assert "A#1 of Orders failed again: builtins.ValueError" in again.out or "failed again: ValueError" in again.out
    shell.breaks("B", "C")
    told = shell.app("failures", "retry", first, "--note", "deployed", "--json").json
    assert (told["outcome"], told["failure"]["resolution_method"]) == ("applied", "manual_retry")
    assert audited(place, "retry") == [("ada", "deployed"), ("ada", None)]
    assert place.value("SELECT count(*) FROM orders WHERE event_id = 'A#1'") == 1
    assert shell.bare("failures", "skip", second, "--actor", "bob").out == "B#1 of Orders was skipped\n"
    assert audited(place, "skip") == [("bob", None)]
    assert shell.bare("failures", "resolve", third, "--json").json["failure"]["resolution_method"] == "manual_fix"
    refused = shell.bare("failures", "skip", third, "--json", code=1).refusal
    assert refused["error"] == "already-resolved"
    needs = shell.bare("failures", "retry", third, "--json", code=1).refusal
    assert (needs["error"], "--app module:attribute" in needs["detail"]) == ("needs-handlers", True)


def test_a_stream_that_was_mended_by_hand_is_untainted(place: Place) -> None:
    """From a bare database or with the application; where there was nothing to end, that is said, and it is 1."""
    shell = place.shell
    first, second = failed(place, "A", "B")
    for failure in (first, second):
        shell.bare("failures", "skip", failure, "--actor", "bob")
    assert "2 tainted" in shell.bare("status").out
    another = shell.bare("untaint", "Orders", "A", "--tainted-reason", "another one", "--json", code=1).refusal
    assert (another["error"], "an event was skipped by bob" in another["detail"]) == ("busy", True)
    assert shell.bare("untaint", "Orders", "A", "--note", "by hand").out == (
        "Stream A of Orders is not tainted any more\n"
    )
    told = shell.app("untaint", "Orders", "B", "--tainted-reason", "an event was skipped by bob", "--json").json
    assert told == {"projection_name": "Orders", "stream_id": "B", "untainted": True}
    assert shell.app("untaint", "Orders", "B", code=1).out == "Stream B of Orders was not tainted\n"
    assert shell.bare("untaint", "Orders", "nobody", "--json", code=1).json["untainted"] is False
    assert shell.bare("untaint", "Odrers", "A", "--json", code=5).refusal["error"] == "unknown-projection"
    assert shell.bare("streams", "Orders", "--state", "tainted").out == "No stream of Orders is tainted.\n"
    assert audited(place, "untaint") == [("ada", None), ("ada", "by hand")]


def test_many_are_counted_first_and_nothing_is_done_unless_somebody_says_yes(place: Place) -> None:
    """With `--yes` nobody is asked; with `--json` nobody can be."""
    shell = place.shell
    failed(place, "A", "B", "C=KeyError")
    before = place.value("SELECT count(*) FROM projection_audit_log")
    for answers in ("n\n", "", "perhaps\n"):
        refused = shell.app("failures", "retry", "--projection", "Orders", answers=answers, code=1)
        assert "Try 3 failures in Orders again, now? [y/N]" in refused.err
        assert "Nothing was done" in refused.err
    assert shell.app("failures", "skip", "--state", "exhausted", "--json", code=2).refusal["error"] == "wrong-usage"
    assert place.value("SELECT count(*) FROM projection_audit_log") == before
    shell.breaks("B")
    asked = shell.app("failures", "retry", "--projection", "Orders", "--note", "1.2.3", answers="y\n", code=1)
    assert "3, of which 3 done: 2 well, 1 in vain" in asked.out
    shell.breaks()
    told = shell.app("failures", "retry", "--error-type", "ValueError", "--yes", "--json").json
    assert (told["status"], told["count"], told["succeeded"], told["compensation_strategy"]) == (
        "completed",
        1,
        1,
        "retry",
    )
    assert shell.app("failures", "retry", "--projection", "Orders", "--yes").out == "There are no such failures.\n"
    listed = shell.bare("bulk", "list", "--json").json["items"]
    assert [each["status"] for each in listed][1:3] == ["completed", "completed"]
    assert "1.2.3" in shell.bare("bulk", "show", listed[2]["id"]).out
    assert shell.bare("bulk", "cancel", listed[2]["id"], "--json", code=1).refusal["error"] == "busy"


def test_many_without_handlers_are_skipped_here_and_retried_by_a_worker(place: Place) -> None:
    """A bare database is enough for a skip; a retry is confirmed, and said to be a worker's."""
    shell = place.shell
    failed(place, "A", "B", "C")
    told = shell.bare("failures", "skip", "--stream", "A", "--yes", "--actor", "bob", "--json").json
    assert (told["status"], told["succeeded"], told["confirmed_by"]) == ("completed", 1, "bob")
    left = shell.bare("failures", "resolve", "--stream", "B", "--yes")
    assert "1, of which 1 done: 1 well" in left.out
    confirmed = shell.bare("failures", "retry", "--stream", "C", "--yes")
    assert "A worker runs it" in confirmed.err
    shell.breaks()
    with place.application() as guard:
        guard.worker().run_once()
    (newest, *_) = shell.bare("bulk", "list", "--json").json["items"]
    assert (newest["status"], newest["succeeded"]) == ("completed", 1)


def test_a_projection_is_paused_and_resumed_from_anywhere(place: Place) -> None:
    """By the database alone; also one that this application does not register."""
    shell = place.shell
    place.publish(shop.event("A", 1))
    place.append(shop.event("X", 1))
    place.follow()
    said = shell.bare("pause", "Orders", "--reason", "moving house").out
    assert said.startswith("Orders is paused; nothing of it is in flight any more.")
    told = shell.app("pause", "Totals", "--json").json
    assert (told["action"], told["actor"], told["health"]["state"]) == ("pause", "ada", "paused")
    place.publish(shop.event("A", 2))
    assert place.value("SELECT count(*) FROM projection_parked_events WHERE projection_name = 'Orders'") == 1
    assert shell.bare("resume", "Orders", "--json").json["health"]["state"] == "active"
    assert "goes on" in shell.app("resume", "Totals").out
    assert audited(place, "pause") == [("ada", None), ("ada", "moving house")]


def test_a_reset_asks_for_the_projections_name(place: Place) -> None:
    """Anything else, and nothing is done."""
    shell = place.shell
    failed(place, "A")
    place.publish(shop.event("D", 1))
    refused = shell.app("reset", "Orders", answers="y\n", code=1)
    assert "on_reset clears its read model; 1 failure and 1 parked event end with it" in refused.err
    assert place.value("SELECT count(*) FROM orders") == 1
    assert shell.app("reset", "Orders", answers="Orders\n").out == "Orders was reset.\n"
    assert place.value("SELECT count(*) FROM orders") == 0
    told = shell.app("reset", "Orders", "--yes", "--actor", "bob", "--json").json
    assert (told["action"], told["actor"], told["health"]["active_failures"]) == ("reset", "bob", 0)
    assert shell.bare("reset", "Orders", "--yes", "--json", code=1).refusal["error"] == "needs-handlers"
    assert "does not register it" in shell.app("reset", "Orders", "--yes", app="follower", code=5).err


def test_replays_and_rebuilds_run_to_their_end(place: Place) -> None:
    """A range, one stream, the whole of it, and beside the live read model."""
    shell = place.shell
    place.append(*(shop.event(stream, n) for n in (1, 2, 3) for stream in "XY"))
    place.follow()
    assert shell.app("replay", "Totals", app="follower").out.splitlines()[2].split() == ["status", "completed"]
    place.change("DELETE FROM totals")
    told = shell.app("replay", "Totals", "--from", "3", "--to", "4", "--rate", "1000", "--json", app="follower").json
    assert (told["status"], told["events_replayed"], told["kind"]) == ("completed", 2, "range")
    assert place.value("SELECT count(*) FROM totals") == 2
    refused = shell.app("rebuild", "Totals", answers="no\n", app="follower", code=1)
    assert "Totals will be rebuilt: its read model is cleared by on_reset" in refused.err
    assert shell.app("rebuild", "Totals", "--note", "anew", "--yes", app="follower").out.startswith("rebuild")
    assert place.value("SELECT count(*) FROM totals") == 6
    if place.engine.dialect.name == "sqlite":
        beside: Any = shell.app("rebuild", "Totals", "--into", "next", "--yes", "--json", app="follower").json
        assert (beside["kind"], beside["status"], beside["built_into"]) == ("beside", "completed", "next")
    assert "--background" in shell.app("replay", "--help", app="follower").out


def test_a_job_in_the_background_is_steered_from_a_bare_database(place: Place) -> None:
    """It is written down for a worker; whoever has its handlers can run it, and can end it at once."""
    shell = place.shell
    place.append(shop.event("X", 1))
    place.follow()
    begun = shell.app("replay", "Totals", "--from", "1", "--background", "--json", app="follower").json
    assert begun["status"] == "pending"
    assert shell.app("replay", "Totals", app="follower", code=1).err.startswith(
        "projection-guard: Projection 'Totals' is"
    )
    assert shell.bare("replays", "pause", begun["id"], "--json").json["wanted"] == "pause"
    resumed = shell.bare("replays", "resume", begun["id"])
    assert "A worker goes on with it" in resumed.err
    assert shell.app("replays", "run", begun["id"], "--json", app="follower").json["status"] == "completed"
    other = shell.app("replay", "Totals", "--from", "1", "--background", "--json", app="follower").json
    assert "the next worker" in shell.bare("replays", "cancel", other["id"]).err
    assert shell.app("replays", "cancel", other["id"], "--json", app="follower").json["status"] == "cancelled"
    assert shell.bare("replays", "show", other["id"], "--json").json["finished_at"] is not None


@pytest.mark.parametrize("words", [("pause", "Totals"), ("resume", "Totals")])
def test_acting_without_a_worker_starts_none(place: Place, words: tuple[str, ...]) -> None:
    """The application's guards start a worker by themselves when something waits; the command line's do not."""
    failed(place, "A")
    place.append(shop.event("X", 1))
    place.follow()
    place.change("UPDATE projection_failures SET next_retry_at = failed_at")
    place.shell.breaks()
    place.shell.app(*words)
    place.shell.app("failures", "list")
    assert place.value("SELECT count(*) FROM projection_workers") == 0
    assert place.value("SELECT count(*) FROM projection_failures WHERE resolved_at IS NULL") == 1
