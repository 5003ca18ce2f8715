"""The doctor: what is wrong is found on a real database, and what is made of it is decided without one."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from projection_guard import ProjectionGuard, SeenTypes
from projection_guard._desk import service_of
from projection_guard._store.server import Server
from projection_guard._tables import ProjectionFailure, ProjectionState, ProjectionStream
from projection_guard.cli import main
from projection_guard.cli._findings import Finding, of_server, worst
from projection_guard.cli._seen_types import named_types, of_types
from tests.cli import shop
from tests.cli.conftest import Place
from tests.faults.pooler import pooled

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def server(**changed: Any) -> Server:
    """Return what a database that is well says of itself."""
    facts: dict[str, Any] = {
        "product": "PostgreSQL",
        "version": "17.1",
        "now": NOW,
        "role": "guard_app",
        "is_read_only": False,
        "lacks": {},
        "is_pooled": False,
        "journal_mode": None,
    }
    return Server(**{**facts, **changed})


@pytest.mark.parametrize(
    ("changed", "check", "verdict", "said"),
    [
        ({}, "clock", "ok", "agree"),
        ({"now": NOW + timedelta(seconds=5)}, "clock", "warning", "4 s ahead of this one"),
        ({"now": NOW - timedelta(minutes=5)}, "clock", "problem", "5 min behind this one"),
        ({}, "rights", "ok", "all tables can be read and written of guard_app"),
        ({"is_read_only": True}, "rights", "problem", "takes no writes"),
        (
            {"lacks": {"a": ("UPDATE", "DELETE"), "b": ("INSERT",)}},
            "rights",
            "warning",
            "lacks UPDATE, DELETE on a, and more on 1",
        ),
        ({}, "pooler", "ok", "straight to the server"),
        ({"is_pooled": True}, "pooler", "ok", "through a pooler"),
        ({"journal_mode": "wal"}, "journal", "ok", "wal"),
        ({"journal_mode": "delete"}, "journal", "warning", "delete: readers and the writer wait"),
    ],
)
def test_a_database_is_judged(changed: dict[str, Any], check: str, verdict: str, said: str) -> None:
    """Each fact by itself; whatever is not well comes with what to do."""
    found = {each.check: each for each in of_server(server(**changed), NOW, NOW + timedelta(seconds=1))}
    assert found[check].verdict == verdict
    assert said in found[check].detail
    assert (found[check].advice is None) is (verdict == "ok")


def test_the_worst_finding_decides() -> None:
    """A problem over a warning over nothing."""
    ok, warning, problem = (Finding(check="x", verdict=each, detail="") for each in ("ok", "warning", "problem"))
    assert worst([]) == worst([ok]) == "ok"
    assert worst([ok, warning]) == "warning"
    assert worst([warning, problem, ok]) == "problem"


class NoLog:
    """A source that nobody asks."""

    def read(self, after: int, limit: int, until: int | None = None) -> Any:
        """Not asked for."""

    def head(self) -> int:
        """Nor for this."""
        return 0


@pytest.mark.parametrize(
    ("handles", "said"),
    [
        (["Sold", "Returned"], None),
        (["Sold", "Wrapped"], None),
        (["Sold", "Returneds"], "no event of type 'Returneds' is"),
        (["Wrapped", "Sent"], "no event of type 'Sent', 'Wrapped' is"),
        ([Finding], None),
        (None, None),
    ],
)
@pytest.mark.parametrize("is_complete", [True, False])
def test_types_that_nobody_has_seen_are_told(handles: list[Any] | None, said: str | None, is_complete: bool) -> None:
    """All that a projection names, or one that is nearly a type it leaves out; others may be still to come."""
    seen = SeenTypes(found=frozenset({"Sold", "Returned"}), limit=50, is_complete=is_complete)
    with ProjectionGuard("sqlite://", source=NoLog(), worker="external") as guard:
        guard.projection("P", handles=handles)(lambda event: None)
        (found,) = of_types(service_of(guard).projections, seen)
    if said is None:
        assert (found.verdict, found.advice) == ("ok", None)
        return
    where = "in the log" if is_complete else "among the log's oldest 50 events and its newest 50"
    assert found.verdict == "warning"
    assert found.detail == f"{said} {where}; types seen: 'Returned', 'Sold'"
    assert found.advice is not None
    assert ("was 'Returned' meant? Where" in found.advice) is ("Returneds" in said)


def test_a_log_in_which_nothing_is_yet_says_nothing_of_types() -> None:
    """Nor does any log say something of what is pushed."""
    empty = SeenTypes(found=frozenset(), limit=50, is_complete=True)
    with ProjectionGuard("sqlite://", worker="external") as guard:
        guard.projection("P", handles=["Sold"])(lambda event: None)
        projections = service_of(guard).projections
        assert named_types(projections) == []
        some = SeenTypes(found=frozenset({"Returned"}), limit=50, is_complete=True)
        assert [each.verdict for seen in (empty, some) for each in of_types(projections, seen)] == ["ok", "ok"]


def test_the_doctor_looks_into_the_log_for_what_projections_name(place: Place) -> None:
    """It is a warning, for such events may be still to come."""
    place.append({**shop.event("A", 1), "event_type": "Soldd"})
    place.follow()

    def types() -> list[tuple[str, str | None]]:
        told = place.shell.app("doctor", "--json", app="follower").json["findings"]
        return [(each["verdict"], each["projection_name"]) for each in told if each["check"] == "types"]

    assert types() == [("warning", "Totals")]
    assert "no event of type 'Sold' is in the log; types seen: 'Soldd'" in place.shell.app("doctor", app="follower").out
    place.append(shop.event("B", 1))
    assert types() == [("ok", None)]


def ill(place: Place) -> None:
    """Let much be wrong, an hour ago."""
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    place.shell.breaks("E", "B=KeyError")
    place.publish(*(shop.event(stream, 1) for stream in "EBC"))
    place.append(shop.event("X", 1))
    place.follow()
    place.insert(
        "projection_replays",
        id=uuid4(),
        projection_name="Totals",
        kind="range",
        status="pending",
        phase="again",
        begins_after=0,
        ends_at=1,
        position=0,
        actor="eve",
        created_at=long_ago,
        updated_at=long_ago,
    )
    with place.application() as guard:
        (failure,) = [each for each in guard.failures("Orders").items if each.stream_id == "E"]
    with place.engine.begin() as connection:
        connection.execute(
            update(ProjectionFailure)
            .where(ProjectionFailure.id == failure.id)
            .values(next_retry_at=long_ago, lease_owner="dead", lease_expires_at=long_ago)
        )
        connection.execute(
            update(ProjectionState)
            .where(ProjectionState.projection_name == "Mails")
            .values(state="resetting", actor="eve", changed_at=long_ago)
        )
        connection.execute(
            update(ProjectionStream)
            .where(ProjectionStream.projection_name == "Orders", ProjectionStream.stream_id == "C")
            .values(tainted=True, lease_owner="dead", lease_expires_at=long_ago)
        )
    place.insert(
        "projection_workers",
        worker_id="w",
        kind="service",
        host="elsewhere",
        process_id=7,
        library_version="1",
        projections=["Orders"],
        started_at=long_ago,
        seen_at=long_ago,
    )


def test_the_doctor_finds_what_is_wrong_and_says_what_to_do(place: Place) -> None:
    """A problem makes it end with 1; warnings alone do not."""
    place.publish(shop.event("A", 1))
    well = place.shell.app("doctor", "--json").json
    assert {each["verdict"] for each in well["findings"] if each["check"] != "workers"} == {"ok"}
    ill(place)
    told = place.shell.app("doctor", "--json", app="lone", code=1).json
    assert told["verdict"] == "problem"
    found = {(each["check"], each["projection_name"], each["verdict"]) for each in told["findings"]}
    assert {
        ("connection", None, "ok"),
        ("schema", None, "ok"),
        ("clock", None, "ok"),
        ("workers", None, "warning"),
        ("leases", "Orders", "warning"),
        ("jobs", "Totals", "problem"),
        ("work", "Orders", "problem"),
        ("states", "Mails", "problem"),
        ("failures", "Orders", "warning"),
        ("streams", "Orders", "warning"),
        ("registration", "Totals", "warning"),
        ("registration", "Newcomer", "warning"),
    } <= found
    assert all(each["advice"] for each in told["findings"] if each["verdict"] != "ok")
    lines = place.shell.app("doctor", app="lone", code=1).out
    assert "Totals: it is detached: the database knows it" in lines
    assert "Mails: it has been resetting for" in lines
    assert "-> where that process died, reset it again: projection-guard reset Mails" in lines
    assert "retry lease ran out" in lines
    assert "worker elsewhere:7 (service) has been silent for" in place.shell.app("status", code=None).out
    bare = place.shell.bare("doctor", "--json", code=1).json
    assert [e["verdict"] for e in bare["findings"] if e["check"] == "registration"] == []


@pytest.mark.postgres
def test_a_pooler_gives_itself_away(postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor works through PgBouncer in transaction mode, and says that it is there."""
    for is_pooled in (False, True):
        with pooled(postgres_url, connections=1) if is_pooled else nullcontext(postgres_url) as url:
            assert main(["doctor", "--database", url, "--json"]) == 0
        found = {each["check"]: each["detail"] for each in json.loads(capsys.readouterr().out)["findings"]}
        assert ("through a pooler" in found["pooler"]) is is_pooled
