"""An amended event of the log is given to its projection wherever that meets it again; the log keeps the original."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import Connection

from projection_guard import FailureBusy, InvalidArgument, ProjectionGuard, SqlEventSource
from tests.bed import Bed, GuardOnBed, Happened
from tests.flow.acting import audit, make_due, one_failure, snapshot, states_of, work_until_done
from tests.flow.amending import LATER, WRONG, Choosy, edited, with_n
from tests.following.beside import Model, run_for
from tests.following.logs import FollowedLog, rebuilt
from tests.following.test_replay import clearing, sums


@pytest.fixture
def bed(diagonal_bed: Bed) -> Bed:
    """Two of the four ways, in which each guard and each database is there once."""
    return diagonal_bed


@pytest.fixture
def log(bed: Bed) -> FollowedLog:
    """A log in the bed's database."""
    return FollowedLog(bed)


def spoil(log: FollowedLog, event_id: str) -> None:
    """Let the log hold an event that no handler here can take."""
    log.bed.change(f"UPDATE log SET n = {WRONG} WHERE event_id = '{event_id}'")


def broken(bed: Bed, log: FollowedLog, *, kind: str = "joined", **options: Any) -> tuple[GuardOnBed, Choosy]:
    """Follow A#1 B#1 A#2 A#3 B#2, of which A#1 holds what the handler cannot take."""
    guard, told = log.guard(retry=LATER, **options), Choosy("P")
    told.register(bed, guard, kind, **clearing(bed))
    log.append("A", "B", "A", "A", "B")
    spoil(log, "A#1")
    guard.catch_up("P")
    return guard, told


def amended(bed: Bed, log: FollowedLog, *, kind: str = "joined") -> tuple[GuardOnBed, Choosy]:
    """Return a guard whose A#1 was amended, and has healed with what waited behind it."""
    guard, told = broken(bed, log, kind=kind)
    failure = one_failure(guard)
    assert guard.amend(failure.id, with_n(guard, failure, 1), actor="alice").status == "applied"
    work_until_done(bed, guard)
    told.calls.clear()
    return guard, told


def all_of(log: FollowedLog) -> list[tuple[str, int]]:
    """Return everything that is in the log, as it is meant."""
    return sorted(log.of_stream("A") + log.of_stream("B"))


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_amended_event_of_the_log_heals_its_stream_in_order(bed: Bed, log: FollowedLog, kind: str) -> None:
    """The log itself is not touched."""
    _, told = amended(bed, log, kind=kind)
    done = bed.effects("P") if kind == "joined" else told.done
    assert [each for each in done if each[0] == "A"] == log.of_stream("A")
    assert bed.value("SELECT n FROM log WHERE event_id = 'A#1'") == WRONG
    assert audit(bed) == [("amend", "alice", "P", None)]
    assert states_of(bed, "P") == {"A#1": "applied", "A#2": "applied", "A#3": "applied"}


def test_an_event_that_only_the_log_has_can_be_edited(bed: Bed, log: FollowedLog) -> None:
    """Nothing of it is in the failure: it is read from the log, in the codec's form."""
    guard, _ = broken(bed, log)
    failure = one_failure(guard)
    assert failure.event_payload is None
    data = {"event_id": "A#1", "stream_id": "A", "sequence": 1, "n": WRONG}
    assert edited(guard, failure) == {"$class": "Happened", "data": data}
    guard.amend(failure.id, with_n(guard, failure, 1), actor="alice")
    assert guard.amendment(failure.id).original_payload is None
    assert guard.failure(failure.id).event_payload is None


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_rebuild_does_not_fail_on_it_again(bed: Bed, log: FollowedLog, kind: str) -> None:
    """It is given as amended, in its place; so it is by whoever follows after a reset."""
    guard, told = amended(bed, log, kind=kind)
    told.done.clear()
    assert sums(guard.rebuild("P", actor="alice")) == ("completed", 5, 0, 0)
    assert sorted(bed.effects("P") if kind == "joined" else told.done) == all_of(log)
    told.done.clear()
    guard.reset("P", actor="alice")
    assert guard.amendments("P").items, "a reset keeps what people have decided about events"
    assert guard.catch_up("P").applied == 5
    assert sorted(bed.effects("P") if kind == "joined" else told.done) == all_of(log)
    assert guard.health("P").active_failures == 0


def test_replays_are_given_it(bed: Bed, log: FollowedLog) -> None:
    """One of a range, one of a stream, and one of what is open."""
    guard, told = amended(bed, log)
    assert sums(guard.replay("P", from_sequence=1, to_sequence=3, actor="alice")) == ("completed", 3, 0, 0)
    bed.change("DELETE FROM effects WHERE stream = 'A'")
    assert guard.replay("P", stream_id="A", actor="alice").status == "completed"
    assert bed.effects("P", "A") == log.of_stream("A")
    told.failing.add("A#1")
    bed.change("DELETE FROM effects")
    assert guard.rebuild("P", actor="alice").events_failed == 1
    told.heal()
    assert guard.replay("P", actor="alice").status == "completed"
    assert sorted(bed.effects("P")) == all_of(log)


def test_whoever_redoes_what_a_dead_one_had_in_hand_is_given_it(bed: Bed, log: FollowedLog) -> None:
    """An unclean death: the range is taken event by event, each by itself."""
    guard, _ = amended(bed, log)
    guard.reset("P", actor="alice")
    bed.change("UPDATE projection_partitions SET hand_first = 1, hand_last = 5")
    assert guard.catch_up("P").applied == 5
    assert sorted(bed.effects("P")) == all_of(log)


def test_of_many_events_only_the_amended_one_is_another(bed: Bed, log: FollowedLog) -> None:
    """Also where one of its stretch fails, and it is redone one by one; and by handlers of lists."""
    guard, told = broken(bed, log, kind="joined")
    log.append_many(300, 7)
    failure = one_failure(guard)
    guard.catch_up("P")
    guard.amend(failure.id, with_n(guard, failure, 1), actor="alice")
    told.failing = {"S3#4"}
    job = guard.rebuild("P", actor="alice")
    assert (job.events_failed, job.events_replayed + job.events_skipped) == (1, 304)
    assert bed.effects("P", "A") == log.of_stream("A")
    assert one_failure(guard).event_id == "S3#4"


def test_a_list_of_events_is_given_with_the_amended_one_in_it(bed: Bed, log: FollowedLog) -> None:
    """`batch=`: the handler is called with all of them at once."""
    guard = log.guard(retry=LATER)
    seen: list[list[int]] = []

    def body(events: list[Happened], connection: Connection) -> None:
        seen.append([event.n for event in events])
        if any(event.n >= WRONG for event in events):
            raise ValueError("planned")

    bed.joined(guard, "P", body, batch=10, **clearing(bed))
    log.append("A", "B", "C")
    spoil(log, "A#1")
    guard.catch_up("P")
    failure = one_failure(guard)
    assert guard.amend(failure.id, with_n(guard, failure, 1), actor="alice").status == "applied"
    seen.clear()
    guard.rebuild("P", actor="alice")
    assert seen == [[1, 1, 1]]


def test_what_fails_again_as_amended_keeps_the_original_as_its_payload(bed: Bed, log: FollowedLog) -> None:
    """A failure of a rebuild holds the event of the log, never what somebody made of it."""
    guard, told = amended(bed, log, kind="apart")
    told.failing.add("A#1")
    guard.rebuild("P", actor="alice")
    failure = one_failure(guard)
    kept: Any = failure.event_payload
    assert kept["data"]["n"] == WRONG
    assert guard.amendment(failure.id).event_payload["data"]["n"] == 1
    told.heal()
    make_due(bed)
    work_until_done(bed, guard)
    assert [each for each in told.done if each == ("A", WRONG)] == []


def test_withdrawn_after_it_has_healed_a_rebuild_meets_the_original(bed: Bed, log: FollowedLog) -> None:
    """What was applied stays applied until then."""
    guard, _ = amended(bed, log)
    (amendment,) = guard.amendments("P").items
    assert guard.unamend(amendment.failure_id, actor="bob") is True
    assert sorted(bed.effects("P")) == all_of(log)
    assert guard.rebuild("P", actor="alice").events_failed == 1
    assert one_failure(guard).event_id == "A#1"


def test_amendments_are_listed_page_by_page(bed: Bed, log: FollowedLog) -> None:
    """By their events' ids."""
    guard, told = log.guard(retry=LATER), Choosy("P")
    told.register(bed, guard, "joined")
    log.append("A", "B", "C")
    for event_id in ("A#1", "B#1", "C#1"):
        spoil(log, event_id)
    guard.catch_up("P")
    for failure in guard.failures("P").items:
        guard.amend(failure.id, with_n(guard, failure, 1), actor="alice")
    first = guard.amendments("P", limit=2)
    assert [each.event_id for each in first.items] == ["A#1", "B#1"]
    rest = guard.amendments("P", limit=2, after=first.after)
    assert ([each.event_id for each in rest.items], rest.after) == (["C#1"], None)


# -- beside the live read model


class ChoosyModel(Model):
    """A read model whose handler fails on what it cannot take."""

    def handle(self, event: Happened, connection: Connection) -> None:
        """Count an event, and note it."""
        super().handle(event, connection)
        if event.n >= WRONG:
            raise ValueError("planned")


@pytest.fixture
def model(bed: Bed, log: FollowedLog) -> Model:
    """A read model that follows a log."""
    return ChoosyModel(bed, log)


def amended_beside(bed: Bed, model: Model) -> GuardOnBed:
    """Return a guard whose A#1 was amended, and has healed with what waited behind it."""
    guard = model.guard()
    model.log.append("A", "B", "A", "A", "B")
    spoil(model.log, "A#1")
    guard.catch_up("P")
    failure = one_failure(guard)
    guard.amend(failure.id, with_n(guard, failure, 1), actor="alice")
    work_until_done(bed, guard)
    return guard


def test_a_rebuild_beside_is_given_it(bed: Bed, model: Model) -> None:
    """None may fail there, and none does; the two read models are alike."""
    guard = amended_beside(bed, model)
    job = guard.rebuild("P", into="next", actor="alice")
    assert (job.status, job.events_failed) == ("completed", 0)
    assert sorted(row.n for row in bed.rows("SELECT n FROM entries WHERE stream = 'A'")) == [1, 2, 3]
    assert model.totals() == {"A": 3, "B": 2}


def test_a_verification_is_given_it(bed: Bed, model: Model) -> None:
    """The copy is made as the live read model was, so they are alike."""
    guard = amended_beside(bed, model)
    job = guard.verify("P", actor="alice")
    assert (job.status, job.drifted) == ("completed", False)


def test_what_is_amended_during_a_verification_is_mended_in_the_copy(bed: Bed, model: Model) -> None:
    """It was left out of the copy while it was failed, and is applied there as it was to the live one."""
    guard = model.guard()
    model.log.append("A", "B", "A", "A", "B")
    spoil(model.log, "A#1")
    guard.catch_up("P")
    job = guard.start_verify("P", actor="alice")
    run_for(bed, guard, job, steps=2)
    failure = one_failure(guard)
    assert guard.amend(failure.id, with_n(guard, failure, 1), actor="alice").status == "applied"
    work_until_done(bed, guard)
    done = run_for(bed, guard, job)
    assert (done.status, done.drifted) == ("completed", False)


def test_what_is_amended_after_a_verification_has_read_it_is_mended_in_the_copy(
    bed: Bed, log: FollowedLog, model: Model
) -> None:
    """It read the original, and meets an event that has healed by another: that is no drift."""
    log.append("A", "B", "A", "A", "B")
    spoil(log, "A#1")
    source = SqlEventSource(bed.url, "log", decode=rebuilt, in_order=bed.database == "mariadb")
    bed.on_close(source.close)
    people = ProjectionGuard(bed.url, source=source, worker="external")
    people.projection("P", handles=[Happened], retry=LATER, tables=["totals", "entries"])(model.handle)
    are_done = list[str]()

    def decode(row: Mapping[str, Any]) -> Happened:
        if is_verified and row["event_id"] == "A#1" and not are_done:
            (failure,) = people.failures("P").items
            payload = json.loads(str(people.editable_payload(failure.id)))
            payload["data"]["n"] = 1
            are_done.append(people.amend(failure.id, payload, actor="alice").status)
            people.worker().run_once()
        return rebuilt(row)

    is_verified = False
    guard = log.guard(source=log.source(decode), retry=LATER)
    bed.joined(guard, "P", model.handle, tables=["totals", "entries"])
    guard.catch_up("P")
    is_verified = True
    job = guard.verify("P", actor="alice")
    people.close()
    assert are_done == ["applied"]
    assert (job.status, job.drifted) == ("completed", False)


def test_nothing_is_amended_while_a_rebuild_beside_may_have_read_it(bed: Bed, model: Model) -> None:
    """The new read model would hold the original; so the person is told what to wait for, or to cancel."""
    guard = model.guard()
    model.log.append("A", "B", "A")
    spoil(model.log, "A#1")
    guard.catch_up("P")
    failure = one_failure(guard)
    payload = with_n(guard, failure, 1)
    job = guard.start_replay("P", rebuild=True, into="next", actor="bob")
    before = snapshot(bed)
    calls: tuple[Callable[[], object], ...] = (
        lambda: guard.amend(failure.id, payload, actor="alice"),
        lambda: guard.unamend(failure.id, actor="alice"),
    )
    for call in calls:
        with pytest.raises(FailureBusy, match=f"being rebuilt already: beside {job.id}, begun by bob"):
            call()
    assert snapshot(bed) == before
    guard.cancel_replay(job.id, actor="bob")
    run_for(bed, guard, job)
    assert guard.amend(failure.id, payload, actor="alice").status == "applied"


# -- events that do not say everything themselves


def test_an_event_that_the_log_cannot_rebuild_can_be_written_by_hand(bed: Bed, log: FollowedLog) -> None:
    """Who knows what was meant says so; from then on the projection is given that, also by a rebuild."""

    def decode(row: Mapping[str, Any]) -> Happened:
        if row["n"] >= WRONG:
            raise ValueError("this row cannot be read")
        return rebuilt(row)

    source = log.source(decode)
    guard, _ = broken(bed, log, source=source)
    failure = one_failure(guard)
    assert guard.editable_payload(failure.id) is None
    data = {"event_id": "A#1", "stream_id": "A", "sequence": 1, "n": 1}
    for changed in ({"event_id": "A#7"}, {"stream_id": "B"}):
        with pytest.raises(InvalidArgument, match=f"its {next(iter(changed))} changed"):
            guard.amend(failure.id, {"$class": "Happened", "data": {**data, **changed}}, actor="alice")
    with pytest.raises(InvalidArgument, match="P does not take the amended one"):
        guard.amend(failure.id, {"event_id": "A#1", "event_type": "Other", "stream_id": "A"}, actor="alice")
    assert guard.amend(failure.id, {"$class": "Happened", "data": data}, actor="alice").status == "applied"
    work_until_done(bed, guard)
    assert bed.effects("P", "A") == log.of_stream("A")
    assert sums(guard.rebuild("P", actor="alice")) == ("completed", 5, 0, 0)


class Foreign:
    """An event of a library's own, which no codec knows how to write."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.event_id, self.stream_id, self.n = row["event_id"], row["stream_id"], row["n"]


def test_an_event_without_a_way_from_json_is_refused_with_what_to_register(bed: Bed, log: FollowedLog) -> None:
    """The log has a way of its own to it, which nobody can write an amended one by."""
    guard, told = log.guard(source=log.source(Foreign), retry=LATER), Choosy("P")
    told.register(bed, guard, "joined", handles=[Foreign])
    log.append("A")
    spoil(log, "A#1")
    guard.catch_up("P")
    failure = one_failure(guard)
    assert guard.editable_payload(failure.id) is None
    for payload in ({"$class": "Foreign", "data": {"n": 1}}, {"event_id": "A#1", "stream_id": "A", "n": 1}):
        with pytest.raises(InvalidArgument, match=r"guard\.codec\.register"):
            guard.amend(failure.id, payload, actor="alice")
    guard.codec.register(Foreign, encode=vars, decode=Foreign)
    assert guard.amend(failure.id, with_n(guard, failure, 1), actor="alice").status == "applied"


def test_events_that_do_not_name_themselves_are_named_by_the_log(bed: Bed, log: FollowedLog) -> None:
    """What the log says beside an event cannot be amended; only what is in it."""
    guard = log.guard(source=log.source(lambda row: {"n": row["n"]}), retry=LATER)
    seen: list[int] = []

    def body(event: dict[str, int], connection: Connection) -> None:
        seen.append(event["n"])
        if event["n"] >= WRONG:
            raise ValueError("planned")

    bed.joined(guard, "P", body, handles=None, **clearing(bed))
    log.append("A", "A")
    spoil(log, "A#1")
    guard.catch_up("P")
    failure = one_failure(guard)
    assert edited(guard, failure) == {"n": WRONG}
    assert guard.amend(failure.id, {"n": 1}, actor="alice").status == "applied"
    work_until_done(bed, guard)
    seen.clear()
    guard.rebuild("P", actor="alice")
    assert seen == [1, 2]
