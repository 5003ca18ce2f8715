"""What is secret is told nowhere: it is planted wherever it may come in, and searched for wherever it may come out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from tenacity import stop_after_attempt, wait_fixed

import projection_guard.fastapi
import projection_guard.flask
from projection_guard import (
    AsyncProjectionGuard,
    ConfigurationError,
    EventError,
    InvalidArgument,
    ProjectionGuard,
    RetryPolicy,
    StoreUnavailable,
)
from tests.bed import Bed, GuardOnBed
from tests.following.logs import FollowedLog
from tests.http.serving import WAYS
from tests.security.keyring import SECRET, Told, told
from tests.security.scene import (
    BOUND,
    CANARIES,
    DSN,
    ENVIRONMENT,
    HEADER,
    Amount,
    ask_everything,
    handlers,
    logged,
    raised,
    stored,
)

TWICE = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(2), breaker=None)


@pytest.fixture(params=["blocking on postgresql", "async on sqlite"])
def one_bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """Each kind of guard and each database, once; what is bound in a process of a host's is planted."""
    kind, _, database = request.param.partition(" on ")
    url = request.getfixturevalue("postgres_url" if database == "postgresql" else "sqlite_url")
    bed = Bed("blocking" if kind == "blocking" else "async", database, url)
    yield bed
    bed.close()


@pytest.fixture(autouse=True)
def _listened_to(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PROJECTION_GUARD_TEST_CANARY", ENVIRONMENT)


def none_of_them_in(texts: list[str], *, but: str = "") -> None:
    """Search."""
    found = [(canary, text) for text in texts for canary in CANARIES if canary in text and canary != but]
    assert found == []


def register(bed: Bed, guard: GuardOnBed) -> None:
    """Register projections that fail."""
    for name, body in handlers().items():
        bed.joined(guard, name, body, handles=[Told], retry=TWICE)
    bed.apart(guard, "Apart", _elsewhere, handles=[Told], retry=TWICE)


def _elsewhere(event: Told) -> None:
    raise LookupError("planned") from ValueError(event.secret)


def _as_an_application(guard: Any, is_async: bool) -> None:
    """Register the same, under the server's guard; what it is asked is about other ones' failures."""
    for name, body in handlers().items():
        clear = _breaks_async if is_async else _breaks
        guard.projection(name, handles=[Told], on_reset=clear)(_awaited(body) if is_async else body)
    guard.projection("Apart", handles=[Told])(_elsewhere)


def _awaited(body: Callable[[Told, Connection], None]) -> Callable[..., Any]:
    async def handler(event: Told, connection: Any) -> None:
        await connection.run_sync(lambda sync: body(event, sync))

    return handler


def _cannot(connection: Connection) -> None:
    """Clear a read model, and fail with a value bound."""
    connection.execute(text("INSERT INTO counted (stream, count) VALUES (:v, NULL), (:v, 1)"), {"v": SECRET})
    connection.execute(text("INSERT INTO counted (stream, count) VALUES (:v, 1)"), {"v": SECRET})


def _breaks(_: object) -> None:
    """Clear a read model, and break with an error that no route expects."""
    raise LookupError(SECRET) from KeyError(BOUND)


async def _breaks_async(_: object) -> None:
    _breaks(_)


async def _cannot_async(connection: Any) -> None:
    await connection.run_sync(_cannot)


def test_a_run_of_everything_tells_no_secret(
    one_bed: Bed, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Tables, the log with its extras, every route for everybody, stdout and stderr, and what reprs show."""
    bed, notices = one_bed, list[object]()
    guard = bed.guard(observers=[notices.append])
    register(bed, guard)
    outcomes = [outcome for n in (1, 2, 3) for outcome in guard.publish(told("A", n))]
    for _ in range(3):
        guard.work()
    guard.pause("Chained", actor="alice")
    guard.publish(told("B", 1))
    refused = edited_badly_and_well(guard, guard.failures("Cast").items[0].id)
    way = WAYS[1] if bed.is_async else WAYS[2]
    with way.serve(bed.url, _as_an_application, {"retry": TWICE}, payloads_for=None) as served:
        answers = ask_everything(served, guard)
    assert len(answers) > 100
    for name in handlers():
        assert guard.failures(name, include_resolved=True).items, name
    failures = guard.failures(include_resolved=True).items
    assert any("UNIQUE" in each.error_message or "unique" in each.error_message for each in failures)
    shown = [
        guard.real,
        guard.real.codec,
        guard.publisher,
        *outcomes,
        *failures,
        *guard.parked("Twice").items,
        *notices,
    ]
    shown += [*guard.audit().items, *guard.health(), guard.status(), *guard.bulk_actions().items]
    none_of_them_in(stored(bed))
    none_of_them_in(logged(caplog.records))
    assert sum(record.name == "projection_guard" for record in caplog.records) > 10
    none_of_them_in(answers)
    assert any("route reset met LookupError" in each for each in logged(caplog.records))
    none_of_them_in([repr(each) for each in (*shown, *guard.amendments("Cast").items)])
    none_of_them_in(refused)
    none_of_them_in(list(capfd.readouterr()))
    assert sum(SECRET in each for each in _events(bed)) > 1  # there it is meant to be, so it was planted


def edited_badly_and_well(guard: GuardOnBed, failure_id: Any) -> list[str]:
    """Amend an event to what is none, to another one, and to itself, which fails again; return what was refused."""
    event = json.loads(guard.editable_payload(failure_id))
    other = {**event, "data": {**event["data"], "stream_id": SECRET}}
    errors = list[str]()
    for payload in (SECRET, {"$class": SECRET}, {**event, "data": {"secret": SECRET}}, other):
        with pytest.raises(InvalidArgument) as caught:
            guard.amend(failure_id, payload, actor="alice")
        errors.append(raised(caught.value))
    assert guard.amend(failure_id, event, actor="alice").status == "failed"
    return errors


def _events(bed: Bed) -> list[str]:
    return [row.kept for row in bed.rows("SELECT CAST(event_payload AS text) AS kept FROM projection_failures")]


def test_a_log_that_cannot_be_rebuilt_tells_no_secret(one_bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a replay of it, nor clearing a read model that refuses."""
    log = FollowedLog(one_bed)

    def decode(row: Mapping[str, object]) -> object:
        if row["stream_id"] == "B":
            Amount.model_validate({"amount": SECRET})
        return told(str(row["stream_id"]), int(str(row["n"])))

    guard = log.guard(log.source(decode=decode), retry=TWICE)
    clear = _cannot_async if one_bed.is_async else _cannot
    for name, body in handlers().items():
        one_bed.joined(guard, name, body, handles=[Told], on_reset=clear)
    log.append("A", "A", "B", "A")
    guard.catch_up()
    for _ in range(3):
        guard.work()
    errors = list[str]()
    acts: list[Callable[[], object]] = [
        lambda: guard.rebuild("Twice", actor="alice"),
        lambda: guard.reset("Missing", actor="alice"),
        lambda: guard.replay("Cast", from_sequence=1, actor="alice"),
    ]
    for act in acts:
        try:
            act()
        except Exception as error:
            errors.append(str(error))
    assert any("amount: Input should be" in each for each in stored(one_bed))
    none_of_them_in(stored(one_bed))
    none_of_them_in(logged(caplog.records))
    assert errors
    none_of_them_in(errors)


def test_a_store_that_refuses_is_told_without_what_it_was_given(one_bed: Bed) -> None:
    """The error and all of its causes: an event stood among the statement's parameters."""
    guard = one_bed.guard()
    register(one_bed, guard)
    guard.health()
    one_bed.change("ALTER TABLE projection_failures RENAME COLUMN error_traceback TO gone")
    with pytest.raises(StoreUnavailable) as caught:
        guard.publish(told("A", 1))
    for error in (caught.value, *getattr(caught.value, "errors", {}).values()):
        assert "INSERT INTO projection_failures" in raised(error)
        none_of_them_in([raised(error)])


@pytest.mark.parametrize("kind", [ProjectionGuard, AsyncProjectionGuard])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://u:{DSN}@h:notaport/db",
        f"postgresql://u:{DSN}/x@h/db",
        f"mysql://u:{DSN}@h/db",
        f"postgresql+asyncpg://u:{DSN}@h/db",
        f"u:{DSN}@h/db",
        f"postgresql+psycopg://u:{DSN}@127.0.0.1:1/db",
        f"postgresql+psycopg://u@127.0.0.1:1/db?password={DSN}",
        f"postgresql+psycopg://u@127.0.0.1:1/db?sslpassword={DSN}&unknown={DSN}",
    ],
)
def test_a_wrong_or_unreachable_database_is_told_without_its_password(url: str, kind: Any) -> None:
    """Of the guard, its engine, and what they raise, with all of its causes."""
    bed = Bed("async" if kind is AsyncProjectionGuard else "blocking", "sqlite", "sqlite://")
    texts = list[str]()
    try:
        guard = kind(url, worker="external")
        texts += [repr(guard), str(guard._service.context)]
        bed.joined(GuardOnBed(bed, guard), "P", lambda event, connection: None, handles=[Told])
        for act in (lambda: guard.publisher().publish(told("A", 1)), guard.health, guard.migrate):
            with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is not the question here
                bed.run(act())
            texts.append(raised(caught.value))
        bed.run(guard.close())
    except ConfigurationError as error:
        texts.append(raised(error))
    bed.close()
    assert texts
    none_of_them_in(texts)


def test_a_wrong_password_is_told_without_it(postgres_url: str) -> None:
    """Neither the one that was tried nor the right one."""
    right = make_url(postgres_url)
    guard = ProjectionGuard(right.set(password=DSN), worker="external")
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011  # a server may also trust everybody from here
            guard.health()
        assert right.password is None or right.password not in raised(caught.value)
        none_of_them_in([raised(caught.value)])
    finally:
        guard.close()


def test_an_event_that_cannot_be_taken_is_told_without_what_is_in_it(sqlite_bed: Bed) -> None:
    """No id, no way back, too deep: the class and the field are named."""
    guard = sqlite_bed.guard()
    sqlite_bed.joined(guard, "P", lambda event, connection: None, handles=[dict, Told])

    class Odd:
        def __repr__(self) -> str:
            return SECRET

    for event in ({"secret": SECRET}, {"event_id": "1", "event_type": "x", "stream_id": SECRET * 30}):
        with pytest.raises(EventError) as caught:
            guard.publish(event)
        none_of_them_in([raised(caught.value)])
    guard.real.codec.register(Odd, encode=repr, decode=repr)
    with pytest.raises(Exception) as refused:  # noqa: PT011  # whichever
        guard.real.codec.encode({"a": Odd(), "b": object()})
    none_of_them_in([raised(refused.value)])


def test_an_authorize_that_breaks_tells_no_header(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its error may quote the token: the log has its type and frames, the caller nothing."""

    def who(request: Any) -> str:
        raise ValueError(request.headers["authorization"])

    with ProjectionGuard(sqlite_url, worker="external") as guard:
        app = Flask("broken")
        app.register_blueprint(projection_guard.flask.admin_blueprint(guard, authorize=who))
        response = app.test_client().get("/admin/projections/status", headers={"Authorization": HEADER})
    assert response.status_code == 500
    none_of_them_in([response.text, *logged(caplog.records)])
    assert any("in who" in each for each in logged(caplog.records))


def test_a_store_of_rate_limits_is_told_without_its_password(sqlite_bed: Bed) -> None:
    """Theirs quotes the URI."""
    guard = sqlite_bed.guard()
    with pytest.raises(ConfigurationError) as caught:
        projection_guard.fastapi.admin_router(guard.real, rate_limit_storage=f"nonsense://u:{DSN}@h")
    none_of_them_in([raised(caught.value)])
