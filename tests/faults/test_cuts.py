"""The connection to the server is cut at every message, with and without a lost reply: every effect is there once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from projection_guard import StoreUnavailable
from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.faults.proxy import COMMIT, EVERY, REQUEST, Message, Proxy
from tests.faults.scenes import CALLERS_OWN, DEEDS, Scene, guard_with, places, quiet
from tests.flow.acting import active_equals_open_rows, statuses

DELIVERIES = ("deliver", "fail", "park", "redeliver")


BREAKS = [(deed, False) for deed in DEEDS] + [(deed, True) for deed in CALLERS_OWN]


def any_statement(message: Message) -> bool:
    """Each statement, the handler's too."""
    return bool(message.sql)


def sweep(
    bed: Bed,
    proxy: Proxy,
    kind: str,
    deed: str,
    break_at: Callable[[int], None],
    *,
    at_least: int,
    turn: int = 0,
    step: int = 13,
) -> None:
    """Act one scene after the other, each broken one place further on, until one is not reached by the break."""
    guard, planned = guard_with(bed, kind)
    for place in places(bed, kind, deed, turn=turn, step=step):
        scene = Scene(bed, guard, planned, kind, deed=deed, stream=f"S{place}")
        scene.prepare()
        break_at(place)
        scene.act()
        has_happened = proxy.disarm()
        scene.check()
        scene.finish()
        if not has_happened:
            assert scene.error is None
            assert place > at_least, f"the sweep ended after {place - 1} places"
            return
    pytest.fail("the scene was not survived")


@pytest.mark.parametrize(("deed", "stays_away"), BREAKS)
@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_connection_cut_at_any_message_changes_nothing_in_the_end(
    server_bed: Bed, proxy: Proxy, kind: str, deed: str, stays_away: bool
) -> None:
    """Cut before message 1, 2, 3, ... from the client; a worker's round, which is longer, before each statement."""
    which = EVERY if deed in DELIVERIES and not stays_away else any_statement
    sweep(
        server_bed,
        proxy,
        kind,
        deed,
        lambda place: proxy.cut(at=place, which=which, stays_away=stays_away),
        at_least=2,
        turn=stays_away,
    )


@pytest.mark.parametrize(("deed", "stays_away"), BREAKS)
@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_any_lost_reply_changes_nothing_in_the_end(
    server_bed: Bed, proxy: Proxy, kind: str, deed: str, stays_away: bool
) -> None:
    """The server did what it was asked for in request 1, 2, 3, ..., a COMMIT perhaps; nobody is told."""
    sweep(
        server_bed,
        proxy,
        kind,
        deed,
        lambda place: proxy.swallow(at=place, which=REQUEST, stays_away=stays_away),
        at_least=1,
        turn=stays_away,
    )


@pytest.mark.parametrize("deed", DEEDS)
def test_a_cut_right_before_any_commit_undoes_it_and_it_is_done_again(server_bed: Bed, proxy: Proxy, deed: str) -> None:
    """The COMMIT never reaches the server."""
    at_least = 0 if deed == "redeliver" else 1
    sweep(server_bed, proxy, "joined", deed, lambda place: proxy.cut(at=place, which=COMMIT), at_least=at_least, step=2)


def test_a_commit_whose_reply_is_lost_is_reported_as_applied(server_bed: Bed, proxy: Proxy) -> None:
    """The outcome is unknown to the driver, but on record: the guard looks, and says so."""
    guard, _ = guard_with(server_bed, "joined")
    proxy.swallow(which=COMMIT)
    outcome = guard.publish(happened("A", 1))[0]
    assert proxy.disarm()
    assert outcome.status == "applied"
    assert server_bed.effects("P", "A") == [("A", 1)]


def test_a_commit_that_never_arrived_is_a_failure_that_heals(server_bed: Bed, proxy: Proxy) -> None:
    """Nothing of the handler's is left; the event is kept as a failure of the connection, and tried again."""
    guard, _ = guard_with(server_bed, "joined")
    proxy.cut(which=COMMIT)
    outcome = guard.publish(happened("A", 1))[0]
    assert proxy.disarm()
    assert outcome.status == "failed"
    assert server_bed.effects("P", "A") == []
    assert guard.publish(happened("A", 2))[0].status == "parked"
    quiet(server_bed, guard)
    assert server_bed.effects("P", "A") == [("A", 1), ("A", 2)]


def test_a_session_that_the_server_still_takes_for_alive_holds_its_stream_no_longer_than_the_timeout(
    server_bed: Bed, proxy: Proxy
) -> None:
    """The link dies without a word to the server: its own limits end the transaction, and the event is applied."""
    guard = server_bed.guard(lease=timedelta(seconds=30))
    note = noted("P")
    dying = [True]

    def body(event: Happened, connection: Connection) -> None:
        note(event, connection)
        if dying:
            dying.clear()
            proxy.strand()
            note(event, connection)

    server_bed.joined(guard, "P", body, timeout=1.0)
    guard.publish(happened("warm", 1)) if not dying else None
    try:
        outcomes = guard.publish(happened("A", 1))
    except StoreUnavailable:
        outcomes = ()
    assert proxy.disarm()
    assert statuses(outcomes) in (["failed"], [])
    guard.publish(happened("A", 1))
    quiet(server_bed, guard)
    assert server_bed.effects("P", "A") == [("A", 1)]
    assert server_bed.count("A") == 1


@pytest.mark.parametrize("deed", ["skip", "manual_fix", "untaint", "pause", "resume", "reset"])
def test_any_lost_reply_leaves_an_action_of_a_person_done_once(server_bed: Bed, proxy: Proxy, deed: str) -> None:
    """It answers as if nothing had been lost, and stands in the audit log once; a paused projection stays paused."""
    bed, (guard, planned) = server_bed, guard_with(server_bed, "joined")
    for place in range(1, 100):
        planned.failing.add(f"S{place}#1")
        guard.publish(happened(f"S{place}", 1))
        if deed in ("resume", "reset"):
            guard.pause("P", actor="before")
        if deed == "untaint":
            guard.resolve(guard.failures("P").items[0].id, "skip", actor="before")
        last = bed.value("SELECT coalesce(max(id), 0) FROM projection_audit_log")
        proxy.swallow(at=place)
        act_as_a_person(guard, deed)
        has_happened = proxy.disarm()
        actions = bed.rows("SELECT action FROM projection_audit_log WHERE id > :last ORDER BY id", last=last)
        assert [row.action for row in actions] == ([deed] if deed != "reset" else ["reset", "reset_done"])
        state = bed.value("SELECT state FROM projection_states WHERE projection_name = 'P'")
        assert state == ("paused" if deed in ("pause", "reset") else "active")
        assert active_equals_open_rows(bed)
        guard.resume("P", actor="after")
        if not has_happened:
            assert place > 1
            return
    pytest.fail("the action was not survived")


def act_as_a_person(guard: GuardOnBed, deed: str) -> None:
    """Do one of the things that people do."""
    match deed:
        case "pause" | "resume" | "reset":
            getattr(guard, deed)("P", actor="the test")
        case "untaint":
            (tainted,) = guard.streams("P", state="tainted").items
            assert guard.untaint("P", tainted.stream_id, actor="the test") is True
        case _:
            newest = guard.failures("P").items[0]
            guard.resolve(newest.id, deed, actor="the test")
