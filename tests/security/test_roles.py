"""The library runs with the roles of docs/security.md, whose SQL is executed as it stands there, and with no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from flask import Flask
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

import projection_guard.flask
from projection_guard import FailureFilter, ProjectionGuard
from projection_guard.cli import main
from projection_guard.testing import PostgresServer
from tests.bed import Bed, GuardOnBed, happened, own
from tests.flow.acting import Planned, clears, listed, one_failure
from tests.following.beside import LATER, Model
from tests.following.logs import FollowedLog
from tests.project.test_readme import ROOT, blocks

PAGE = Path(ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROLES = ("guard_owner", "guard_app", "guard_reader")
ADMINISTRATOR, OWNER, BUILDER = (
    "\n".join(block.content)
    for block in blocks(PAGE)
    if block.language == "sql" and block.heading == "Roles in PostgreSQL"
)
PASSWORD = "of-no-importance"


class Roles:
    """A database with these roles, and tables of an application's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.execute(ADMINISTRATOR)
        for role in ROLES:
            self.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
        with ProjectionGuard(self.of("guard_owner"), schema="guard", worker="external") as guard:
            guard.migrate()
        self.execute(OWNER, "guard_owner")

    def of(self, role: str) -> str:
        """Return the URL of a role."""
        return make_url(self.url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)

    def execute(self, script: str, role: str | None = None) -> Any:
        """Run SQL as it stands."""
        url = make_url(self.url if role is None else self.of(role)).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            return connection.execute(script.encode())

    def lend_the_application(self) -> None:
        """Make an application's tables, as its own migrations do, and let it use them."""
        engine = create_engine(self.url)
        own.create_all(engine)
        engine.dispose()
        self.execute(
            "CREATE TABLE log (sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id varchar(255) UNIQUE, "
            "event_type varchar(255), stream_id varchar(255), n integer);"
            "CREATE TABLE totals (stream varchar(50) PRIMARY KEY, total integer NOT NULL);"
            "CREATE TABLE entries (id serial PRIMARY KEY, stream varchar(50) REFERENCES totals, n integer);"
            "CREATE UNIQUE INDEX one_entry ON entries (stream, n);"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guard_app;"
            "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO guard_app"
        )


@pytest.fixture
def roles(postgres_server: PostgresServer) -> Iterator[Roles]:
    """Roles are the whole server's: one test at a time has them."""
    plain = make_url(postgres_server.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('the roles of docs/security.md'))")
        try:
            with postgres_server.database() as url:
                yield Roles(url)
        finally:
            for role in ROLES:  # what they own went with the database
                connection.execute(f"DROP ROLE IF EXISTS {role}".encode())


@pytest.fixture(params=["blocking", "async"])
def app_bed(roles: Roles, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """The library as the application's role."""
    kind: Literal["blocking", "async"] = request.param
    roles.lend_the_application()
    bed = Bed(kind, "postgresql", roles.of("guard_app"))
    yield bed
    bed.close()


def test_the_application_needs_no_more_than_its_role(app_bed: Bed) -> None:
    """Publish, fail, park, retry, drain, bulk, pause behind the barrier, reset; the schema is checked."""
    guard, planned = app_bed.guard(schema="guard", retry=LATER), Planned("P", "A#1", "B#1")
    app_bed.joined(guard, "P", planned.joined, on_reset=clears(app_bed))
    guard.migrate()  # nothing is to be done
    for stream, n in (("A", 1), ("A", 2), ("B", 1), ("C", 1)):
        guard.publish(happened(stream, n))
    a = next(failure for failure in guard.failures("P").items if failure.stream_id == "A")
    guard.resolve(a.id, "retry", actor="alice")
    planned.failing.discard("A#1")
    guard.resolve(a.id, "retry", actor="alice")
    guard.work()
    assert app_bed.effects("P") == [("C", 1), ("A", 1), ("A", 2)]
    proposed = guard.propose_bulk("skip", where=FailureFilter(projection_name="P"), actor="alice")
    guard.confirm_bulk(proposed.id, actor="bob")
    guard.work()
    guard.pause("P", actor="alice")
    guard.publish(happened("D", 1))
    guard.resume("P", actor="alice")
    guard.work()
    assert app_bed.effects("P", "D") == [("D", 1)]
    guard.reset("P", actor="alice")
    assert [entry.action for entry in guard.audit().items][:2] == ["reset_done", "reset"]
    assert guard.health("P").status == "healthy"
    assert guard.status().total_active_failures == 0


def test_routes_need_no_more(roles: Roles) -> None:
    """They look, resolve, and remember what was asked."""
    roles.lend_the_application()
    with closing(Bed("blocking", "postgresql", roles.of("guard_app"))) as bed:
        guard, planned = bed.guard(schema="guard", retry=LATER), Planned("P", "A#1")
        bed.joined(guard, "P", planned.joined)
        guard.publish(happened("A", 1))
        app = Flask("roles")
        app.register_blueprint(projection_guard.flask.admin_blueprint(guard.real, authorize=lambda _: "Olga"))
        client = app.test_client()
        answer = client.post(
            f"/admin/projections/failures/{one_failure(guard).id}/resolve",
            json={"compensation_strategy": "skip"},
            headers={"Idempotency-Key": "1"},
        )
        assert answer.status_code == 200
        assert client.get("/admin/projections/audit").get_json()["items"][0]["actor"] == "Olga"


def test_following_needs_no_more(app_bed: Bed) -> None:
    """The log is read and its holes judged, who follows is woken by NOTIFY, and replay and rebuild run."""
    log, model = FollowedLog(app_bed, is_there=True), Planned("P")
    guard = log.guard(schema="guard", retry=LATER)
    app_bed.joined(guard, "P", model.joined, on_reset=clears(app_bed))
    log.append("A", "B", "A")
    guard.catch_up("P")
    assert app_bed.effects("P") == [("A", 1), ("B", 1), ("A", 2)]
    assert guard.replay("P", from_sequence=2, actor="alice").events_replayed == 2
    assert guard.rebuild("P", actor="alice").status == "completed"
    other = log.guard(schema="guard", retry=LATER)
    app_bed.joined(other, "P", Planned("P").joined)
    worker = guard.real.worker(poll_seconds=600)
    app_bed.run(worker.__aenter__()) if app_bed.is_async else worker.__enter__()
    try:
        app_bed.wait_until(lambda: _is_listened_to(app_bed))
        (event,) = log.append("C")
        other.publish(event)
        app_bed.wait_until(lambda: ("C", 1) in app_bed.effects("P"))
    finally:
        app_bed.run(worker.__aexit__(None, None, None)) if app_bed.is_async else worker.__exit__(None, None, None)


def _is_listened_to(bed: Bed) -> bool:
    whose = "usename = current_user AND datname = current_database()"  # other tests' listeners are on this server, too
    return bool(bed.value(f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND {whose}"))


class _Model(Model):
    """One whose tables are there."""

    def __init__(self, bed: Bed, log: FollowedLog) -> None:
        self.bed, self.log, self.factor, self.failing = bed, log, 1, set()


def _filled(bed: Bed) -> tuple[_Model, GuardOnBed]:
    model = _Model(bed, FollowedLog(bed, is_there=True))
    guard = model.guard(schema="guard")
    model.log.append("A", "B", "A")
    guard.catch_up("P")
    return model, guard


def test_a_rebuild_beside_is_refused_without_the_right_to_make_tables(app_bed: Bed) -> None:
    """In words, and the live read model goes on."""
    model, guard = _filled(app_bed)
    job = guard.rebuild("P", into="next", actor="alice")
    assert (job.status, "permission denied for database" in job.error) == ("failed", True)
    model.log.append("A")
    guard.catch_up("P")
    assert model.totals() == {"A": 3, "B": 1}


def test_a_rebuild_beside_needs_one_right_more(app_bed: Bed, roles: Roles) -> None:
    """That of the page's last block."""
    roles.execute(BUILDER)
    model, guard = _filled(app_bed)
    model.factor = 10
    job = guard.rebuild("P", into="next", actor="alice")
    assert (job.status, model.totals(), model.entries()) == ("completed", {"A": 20, "B": 10}, 3)


_AUDIT = "guard.projection_audit_log"
_ALLOW_ALL = (
    "CREATE OR REPLACE FUNCTION guard.projection_audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RETURN NULL; END $$"
)
_FORBIDDEN = {
    "edit the audit log": [
        f"UPDATE {_AUDIT} SET actor = 'nobody'",
        f"DELETE FROM {_AUDIT}",
        f"TRUNCATE {_AUDIT}",
        f"INSERT INTO {_AUDIT} SELECT * FROM {_AUDIT} ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
        f"MERGE INTO {_AUDIT} a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
        f"SELECT * FROM {_AUDIT} FOR UPDATE",
    ],
    "switch its trigger off": [
        f"DROP TRIGGER projection_audit_log_no_update ON {_AUDIT}",
        f"ALTER TABLE {_AUDIT} DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        _ALLOW_ALL,
        "DROP FUNCTION guard.projection_audit_log_is_append_only() CASCADE",
        f"ALTER TABLE {_AUDIT} OWNER TO guard_app",
        "SET ROLE guard_owner",
    ],
    "put another table in its place": [
        f"DROP TABLE {_AUDIT}",
        f"ALTER TABLE {_AUDIT} RENAME TO gone",
        f"CREATE RULE r AS ON INSERT TO {_AUDIT} DO INSTEAD NOTHING",
        "CREATE TABLE guard.projection_more (id int)",
        "CREATE TABLE public.projection_audit_log (id int)",
        "CREATE SCHEMA next",
        "DROP SCHEMA guard CASCADE",
    ],
    "begin its numbers anew": ["SELECT setval('guard.projection_audit_log_id_seq', 1)"],
    "empty or change the other tables": [
        "TRUNCATE guard.projection_failures",
        "ALTER TABLE guard.projection_failures ADD COLUMN more int",
        "UPDATE guard.projection_guard_alembic_version SET version_num = 'x'",
        "DELETE FROM guard.projection_guard_alembic_version",
    ],
}


def _refused_to(roles: Roles, role: str, statement: str) -> str:
    with pytest.raises(psycopg.Error) as refused:
        roles.execute(statement, role)
    return str(refused.value)


def test_the_applications_role_cannot_edit_the_audit_log(roles: Roles) -> None:
    """By no statement: not its rows, not its trigger, not its place; nor can it change the schema."""
    roles.execute(
        f"INSERT INTO {_AUDIT} (at, actor, action, projection_name) VALUES (now(), 'alice', 'pause', 'P')", "guard_app"
    )
    for statements in _FORBIDDEN.values():
        for statement in statements:
            told = _refused_to(roles, "guard_app", statement)
            assert "permission denied" in told or "must be" in told, (statement, told)
    with psycopg.connect(
        make_url(roles.url).set(drivername="postgresql").render_as_string(hide_password=False)
    ) as all_:
        assert all_.execute(f"SELECT actor FROM {_AUDIT}".encode()).fetchall() == [("alice",)]


def test_not_even_the_owner_edits_the_audit_log_by_mistake(roles: Roles) -> None:
    """The trigger stands before him too; to take it away is a deed of its own."""
    row = f"INSERT INTO {_AUDIT} (at, actor, action, projection_name) VALUES (now(), 'alice', 'pause', 'P')"
    roles.execute(row, "guard_owner")
    for statement in (f"UPDATE {_AUDIT} SET actor = 'x'", f"DELETE FROM {_AUDIT}", f"TRUNCATE {_AUDIT}"):
        assert "append-only" in _refused_to(roles, "guard_owner", statement)


_HOW_FAR = (
    "SELECT projection_name, last_event_sequence, events_processed, EXTRACT(EPOCH FROM (NOW() - checkpoint_at)) "
    "FROM guard.projection_checkpoints"
)
_NEWEST = (
    "SELECT projection_name, event_type, error_message, retry_count, failed_at, next_retry_at "
    "FROM guard.projection_failures WHERE resolved_at IS NULL ORDER BY failed_at DESC LIMIT 50"
)


def test_a_reader_sees_all_but_events_and_tracebacks_and_changes_nothing(app_bed: Bed, roles: Roles) -> None:
    """The queries of runbooks work as they stand; an event's payload stays with the application."""
    guard, planned = app_bed.guard(schema="guard", retry=LATER), Planned("P", "A#1")
    app_bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    guard.publish(happened("A", 2))
    for query in (
        "SELECT * FROM guard.projection_health_metrics ORDER BY health_status DESC",
        "SELECT projection_name, count(*) FROM guard.projection_failures WHERE resolved_at IS NULL GROUP BY 1",
        _HOW_FAR,
        _NEWEST,
        "SELECT projection_name, count(*) FROM guard.projection_parked_events GROUP BY 1",
        "SELECT count(*) FROM guard.projection_samples",
    ):
        assert roles.execute(query, "guard_reader").rowcount == 1
    for statement in (
        "SELECT event_payload FROM guard.projection_failures",
        "SELECT error_traceback FROM guard.projection_failures",
        "SELECT event_payload FROM guard.projection_parked_events",
        "SELECT * FROM guard.projection_requests",
        "UPDATE guard.projection_health_metrics SET active_failures = 0",
        f"INSERT INTO {_AUDIT} (at, actor, action, projection_name) VALUES (now(), 'x', 'x', 'x')",
    ):
        assert "permission denied" in _refused_to(roles, "guard_reader", statement)


def test_a_reader_is_enough_for_a_monitor(app_bed: Bed, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
    """`status`, `health` and `doctor` write nothing; the doctor says what the role cannot do. Lists take more."""
    guard, planned = app_bed.guard(schema="guard", retry=LATER), Planned("P", "A#1")
    app_bed.joined(guard, "P", planned.joined)
    guard.publish(happened("A", 1))
    there = ("--database", roles.of("guard_reader"), "--schema", "guard")
    assert main(["status", *there]) == 10
    assert main(["health", "P", *there]) == 10
    assert main(["streams", "P", *there]) == 0
    capsys.readouterr()
    assert main(["doctor", *there]) == 0
    assert "the role guard_reader lacks" in capsys.readouterr().out
    assert main(["failures", "list", *there]) == 1
    said = capsys.readouterr().err
    assert "permission denied for table projection_failures; docs/security.md has the grants" in said
    assert said.count("\n") == 1
    assert PASSWORD not in said


def test_a_role_that_may_not_look_is_told_where_the_grants_are(
    app_bed: Bed, roles: Roles, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with what was refused, from the doctor as well: nothing is unexpected about it."""
    guard = app_bed.guard(schema="guard")
    app_bed.joined(guard, "P", listed("P"))
    guard.health("P")
    roles.execute("REVOKE SELECT ON ALL TABLES IN SCHEMA guard FROM guard_reader", "guard_owner")
    there = ("--database", roles.of("guard_reader"), "--schema", "guard")
    for command in ("status", "doctor"):
        assert main([command, *there]) == 4
        told = capsys.readouterr()
        assert "permission denied for table" in told.out + told.err
        assert "docs/security.md has the grants" in told.out + told.err
        assert "unexpected" not in told.out + told.err
        assert PASSWORD not in told.out + told.err
