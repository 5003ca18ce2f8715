"""A rebuild beside the live read model: readers never see a half-built one, and one that fails leaves all as it was."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text
from tenacity import wait_fixed

from projection_guard import FailureBusy, InvalidArgument, Replay, RetryPolicy
from projection_guard._io.protocol import drive
from tests.bed import Bed, GuardOnBed, Happened
from tests.flow.acting import active_equals_open_rows, going, states_of
from tests.following.logs import FollowedLog

LATER = RetryPolicy(wait=wait_fixed(3600), breaker=None)


class Model:
    """A read model of two tables, whose handler is changed by a deployment."""

    def __init__(self, bed: Bed, log: FollowedLog) -> None:
        self.bed = bed
        self.log = log
        self.factor = 1
        self.failing: set[str] = set()
        identity = "INTEGER PRIMARY KEY AUTOINCREMENT" if bed.database == "sqlite" else "serial PRIMARY KEY"
        bed.change("CREATE TABLE totals (stream varchar(50) PRIMARY KEY, total integer NOT NULL)")
        bed.change(
            f"CREATE TABLE entries (id {identity}, stream varchar(50) NOT NULL REFERENCES totals, n integer NOT NULL)"
        )
        bed.change("CREATE UNIQUE INDEX one_entry ON entries (stream, n)")
        bed.change("CREATE VIEW sums AS SELECT sum(total) AS total FROM totals")

    def guard(self) -> GuardOnBed:
        """Return a guard that fills it."""
        guard = self.log.guard(retry=LATER)
        self.bed.joined(guard, "P", self.handle, tables=["totals", "entries"])
        return guard

    def handle(self, event: Happened, connection: Connection) -> None:
        """Count an event, and note it."""
        connection.execute(
            text(
                "INSERT INTO totals VALUES (:stream, :by) "
                "ON CONFLICT (stream) DO UPDATE SET total = totals.total + excluded.total"
            ),
            {"stream": event.stream_id, "by": self.factor},
        )
        connection.execute(
            text("INSERT INTO entries (stream, n) VALUES (:stream, :n) ON CONFLICT (stream, n) DO NOTHING"),
            {"stream": event.stream_id, "n": event.n},
        )
        if event.event_id in self.failing:
            raise ValueError("planned")

    def totals(self) -> dict[str, int]:
        """Read it."""
        return {row.stream: row.total for row in self.bed.rows("SELECT stream, total FROM totals")}

    def entries(self) -> int:
        """Count what is noted."""
        return int(self.bed.value("SELECT count(*) FROM entries"))


@pytest.fixture
def model(bed: Bed) -> Model:
    """A read model that follows a log."""
    return Model(bed, FollowedLog(bed))


def leftovers(bed: Bed) -> list[str]:
    """Return what a rebuild has left behind."""
    if bed.database == "sqlite":
        rows = bed.rows("SELECT name FROM sqlite_schema WHERE name LIKE 'next_%' OR name LIKE '%_live_%'")
    else:
        rows = bed.rows("SELECT nspname AS name FROM pg_namespace WHERE nspname = 'next'")
    return [row.name for row in rows]


def test_it_takes_the_live_ones_place_at_once(bed: Bed, model: Model) -> None:
    """With everything that was appended meanwhile, open failures settled, and the differences told."""
    guard = model.guard()
    model.failing = {"B#2"}
    model.log.append("A", "B", "A", "B", "B")
    guard.catch_up("P")
    assert (model.totals(), model.entries()) == ({"A": 2, "B": 1}, 3)
    model.failing, model.factor = set(), 10
    job: Replay = guard.rebuild("P", into="next", actor="alice")
    assert (job.status, job.kind, job.events_replayed, job.error) == ("completed", "beside", 5, None)
    assert (model.totals(), model.entries()) == ({"A": 20, "B": 30}, 5)
    assert bed.value("SELECT total FROM sums") == 50
    told = {each["table"]: each for each in job.compared}  # type: ignore[union-attr, call-overload, index]
    assert (told["totals"]["rows_before"], told["totals"]["rows_after"]) == (2, 2)  # type: ignore[index, call-overload]
    assert (told["entries"]["only_before"], told["entries"]["only_after"]) != (0, 0)  # type: ignore[index, call-overload]
    assert states_of(bed, "P") == {}
    assert active_equals_open_rows(bed)
    health = guard.health("P")
    assert (health.state, health.status, health.lag_events) == ("active", "healthy", 0)
    assert leftovers(bed) == []
    model.log.append("A", "B")
    guard.catch_up("P")
    assert (model.totals(), model.entries()) == ({"A": 30, "B": 40}, 7)
    assert guard.checkpoint("P").last_event_sequence == 7


def test_readers_never_see_a_half_built_one(bed: Bed, model: Model) -> None:
    """Whoever polls it meanwhile sees as many rows as before, or more; and events that are appended are applied."""
    guard, live = model.guard(), model.guard()
    model.log.append_many(600, streams=6)
    guard.catch_up("P")
    seen: list[int] = []

    def look() -> bool:
        seen.append(model.entries())
        return under_way.is_done

    job = guard.start_replay("P", into="next", events_per_second=400, actor="alice")
    bed.wait_until(lambda: halfway(bed, guard, job))
    assert model.entries() == 600
    model.log.append_many(30, streams=6)
    live.catch_up("P")
    assert model.entries() == 630

    def run() -> Any:
        work = guard.real._service.on_log.run_replay("P", job.id, stops=lambda: False)
        return work if bed.is_async else drive(work)

    under_way = going(bed, run)
    bed.wait_until(look, within=60)
    done = under_way.answer()
    assert (done.status, done.events_replayed) == ("completed", 630)
    assert set(seen) == {630}
    assert sum(model.totals().values()) == 630
    assert [each["only_before"] for each in done.compared if each["table"] == "totals"] == [0]


def test_one_that_fails_leaves_the_live_one_in_place(bed: Bed, model: Model) -> None:
    """It is said which event it was, and nothing is left behind."""
    guard = model.guard()
    model.log.append("A", "B", "A")
    guard.catch_up("P")
    model.failing = {"A#2"}
    job = guard.rebuild("P", into="next", actor="alice")
    assert job.status == "failed"
    assert job.error == "P: event 'A#2' (sequence 3) failed beside the live read model: ValueError"
    assert (model.totals(), model.entries(), states_of(bed, "P")) == ({"A": 2, "B": 1}, 3, {})
    assert leftovers(bed) == []
    model.failing = set()
    model.log.append("B")
    guard.catch_up("P")
    assert model.totals() == {"A": 2, "B": 2}
    assert guard.rebuild("P", into="next", actor="alice").status == "completed"


def test_it_may_be_cancelled(bed: Bed, model: Model) -> None:
    """The live one goes on, and what was built is gone."""
    guard = model.guard()
    model.log.append_many(300, streams=3)
    guard.catch_up("P")
    job = guard.start_replay("P", into="next", events_per_second=100, actor="alice")
    with pytest.raises(FailureBusy, match="being rebuilt already: beside"):
        guard.replay("P", actor="bob")
    assert guard.health("P").state == "active"
    assert guard.cancel_replay(job.id, actor="bob").status == "cancelled"
    model.log.append("A")
    guard.catch_up("P")
    assert model.entries() == 301
    assert leftovers(bed) == []


def test_a_place_that_is_taken_is_refused(bed: Bed, model: Model) -> None:
    """Somebody's tables are never dropped for it."""
    guard = model.guard()
    model.log.append("A")
    guard.catch_up("P")
    bed.change("CREATE TABLE next_totals (n integer)" if bed.database == "sqlite" else "CREATE SCHEMA next")
    job = guard.rebuild("P", into="next", actor="alice")
    assert job.status == "failed"
    assert "there already" in str(job.error)
    assert len(leftovers(bed)) == 1


@pytest.mark.parametrize("into", ["Next", "a.b", "", "x" * 60, "1st"])
def test_a_name_that_cannot_be_is_refused(bed: Bed, model: Model, into: str) -> None:
    """It becomes the name of a schema, or part of a table's."""
    guard = model.guard()
    with pytest.raises(InvalidArgument, match="into= takes a name"):
        guard.rebuild("P", into=into, actor="alice")


def test_what_cannot_be_built_beside_is_refused(bed: Bed) -> None:
    """One that writes elsewhere, and one that does not say what its tables are."""
    log = FollowedLog(bed)
    guard = log.guard()
    bed.apart(guard, "apart", lambda event: None)
    bed.joined(guard, "joined", lambda event, connection: None)
    with pytest.raises(InvalidArgument, match="writes elsewhere"):
        guard.rebuild("apart", into="next", actor="alice")
    with pytest.raises(InvalidArgument, match="register it with tables="):
        guard.rebuild("joined", into="next", actor="alice")


def test_it_is_taken_up_where_it_stopped(bed: Bed, model: Model) -> None:
    """By whoever comes next, if the one who built is gone."""
    guard, other = model.guard(), model.guard()
    model.log.append_many(400, streams=4)
    guard.catch_up("P")
    job = guard.start_replay("P", into="next", events_per_second=400, actor="alice")
    bed.wait_until(lambda: halfway(bed, guard, job))
    assert guard.replay_of(job.id).status == "running"
    work = other.real._service.on_log.run_replay("P", job.id, stops=lambda: False)
    done = bed.run(work) if bed.is_async else drive(work)
    assert (done.status, done.events_replayed) == ("completed", 400)
    assert (sum(model.totals().values()), model.entries()) == (400, 400)


def test_a_part_of_the_log_that_is_for_others(bed: Bed, model: Model) -> None:
    """It is passed over: no handler is called, and no names are lent."""
    guard = model.log.guard()
    bed.joined(guard, "P", model.handle, handles=["SomethingElse"], tables=["totals", "entries"])
    model.log.append("A", "B")
    guard.catch_up("P")
    assert guard.rebuild("P", into="next", actor="alice").status == "completed"
    assert guard.checkpoint("P").last_event_sequence == 2


def halfway(bed: Bed, guard: GuardOnBed, job: Replay) -> bool:
    """Run a job for a little while, and stop."""
    looks = iter([False, False, True])
    work = guard.real._service.on_log.run_replay("P", job.id, stops=lambda: next(looks, True))
    bed.run(work) if bed.is_async else drive(work)
    return bool(guard.replay_of(job.id).events_replayed > 50)
