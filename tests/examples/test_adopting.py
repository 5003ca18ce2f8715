"""The document service of `examples/adopting`: with its own tracker, adopted, and with the guard."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from httpx import ASGITransport, AsyncClient
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from projection_guard import AsyncProjectionGuard, AsyncSqlEventSource
from projection_guard.cli._main import main

pytest.importorskip("asyncpg", reason="the example's application talks to PostgreSQL by asyncpg, which is not there")
pytest.importorskip("fastapi", reason="the example is a FastAPI application, and FastAPI is not there")

from examples.adopting import wiring_after, wiring_before
from examples.adopting.app import Wiring, create_app
from examples.adopting.events import DomainEvent, Renamed, Uploaded
from examples.adopting.joined import JoinedActivityProjection
from examples.adopting.projections import ActivityProjection
from examples.adopting.store import Database, EventStore

FOLDER = Path(wiring_after.__file__).parent
DASHBOARD = """
    SELECT projection_name, COUNT(*) AS failure_count FROM projection_failures
    WHERE resolved_at IS NULL GROUP BY projection_name ORDER BY failure_count DESC
"""
LATEST = """
    SELECT pf.projection_name, pf.event_type, pf.error_message, pf.retry_count, pf.failed_at, pf.next_retry_at
    FROM projection_failures pf WHERE pf.resolved_at IS NULL ORDER BY pf.failed_at DESC LIMIT 10
"""
LAG = """
    SELECT pc.projection_name, pc.last_event_sequence, pc.events_processed,
           EXTRACT(EPOCH FROM (NOW() - pc.checkpoint_at)) AS lag_seconds
    FROM projection_checkpoints pc ORDER BY lag_seconds DESC
"""
HEALTH = "SELECT * FROM projection_health_metrics ORDER BY health_status DESC"


class Service:
    """The application on a database of its own, whichever way it is put together."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.engine = create_engine(url)
        self.url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._capsys = capsys

    @asynccontextmanager
    async def running(self, wiring: Wiring) -> AsyncIterator[AsyncClient]:
        """Start it, and stop it in the end."""
        app = create_app(wiring, self.url)
        client = AsyncClient(transport=ASGITransport(app), base_url="http://documents")
        async with app.router.lifespan_context(app), client:
            yield client

    def rows(self, sql: str, **parameters: object) -> list[Any]:
        """Look, as a dashboard does."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), parameters))

    def adopt(self, *words: str) -> Any:
        """Run the command."""
        self._capsys.readouterr()
        app = "examples.adopting.wiring_after:guard"
        assert main(["db", "adopt", "--app", app, "--actor", "alice", "--json", *words]) == 0
        return json.loads(self._capsys.readouterr().out)


@pytest.fixture
def service(empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The application, whose activity has a bug."""
    made = Service(empty_postgres_url, capsys)
    monkeypatch.setenv("DATABASE_URL", made.url)
    monkeypatch.setattr(ActivityProjection, "breaks_on", frozenset({"poison", "more poison"}))
    yield made
    made.engine.dispose()


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    for _ in range(1200):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail("waited in vain")


async def titled(client: AsyncClient, first: str, *titles: str) -> str:
    """Upload a document, and rename it; return its id."""
    document = str((await client.post("/documents", params={"title": first})).json()["id"])
    for title in titles:
        (await client.put(f"/documents/{document}", params={"title": title})).raise_for_status()
    return document


async def before(service: Service) -> tuple[str, str]:
    """Let the application run as it was: two events of one document fail, and stay where they are."""
    async with service.running(wiring_before) as client:
        poisoned = await titled(client, "draft", "poison", "more poison")
        fine = await titled(client, "other", "better")
        assert (await client.get(f"/documents/{poisoned}/activity")).json() == ["Uploaded draft"]
    return poisoned, fine


async def after(service: Service, poisoned: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """Let it run with the guard: the bug is still there, and then it is mended."""

    def failures() -> list[Any]:
        return service.rows(DASHBOARD)

    async with service.running(wiring_after) as client:
        await client.put(f"/documents/{poisoned}", params={"title": "final"})
        other = await titled(client, "third", "poison", "clean")
        assert service.rows("SELECT count(*) FROM projection_parked_events")[0][0] >= 2
        assert {each.projection_name for each in failures()} == {"ActivityProjection"}
        monkeypatch.setattr(ActivityProjection, "breaks_on", frozenset())
        await until(lambda: not failures() and not service.rows("SELECT 1 FROM projection_parked_events"))
        found = [(await client.get(f"/documents/{each}/activity")).json() for each in (poisoned, other)]
    return found[0], found[1]


def test_the_application_is_adopted_and_its_failures_heal_in_order(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The four queries of its dashboards work before and after."""
    poisoned, fine = asyncio.run(before(service))
    counted = [tuple(each) for each in service.rows(DASHBOARD)]
    assert counted == [("ActivityProjection", 2)]
    looked = service.adopt()
    assert (looked["is_done"], looked["tables"][0]["rows"]) == (False, 2)
    done = service.adopt("--yes")
    moved = {each["name"]: each for each in done["projections"]}
    assert (moved["ActivityProjection"]["retried"], moved["ActivityProjection"]["parked"]) == (1, 1)
    assert {each["begins_after"] for each in moved.values()} == {5}
    assert [each.projection_name for each in service.rows(LATEST)] == ["ActivityProjection"]
    healed, later = asyncio.run(after(service, poisoned, monkeypatch))
    assert healed == ["Uploaded draft", "Renamed poison", "Renamed more poison", "Renamed final"]
    assert later == ["Uploaded third", "Renamed poison", "Renamed clean"]
    assert len(service.rows("SELECT 1 FROM activity WHERE document = CAST(:fine AS uuid)", fine=fine)) == 2
    assert [each.last_event_sequence for each in service.rows(LAG)] == [9, 9]
    assert {(each.health_status, each.active_failures) for each in service.rows(HEALTH)} == {("healthy", 0)}


class Breaking(JoinedActivityProjection):
    """Fails after it has written, until it is mended."""

    is_broken = True

    async def handle(self, event: DomainEvent, connection: AsyncConnection) -> None:
        """Write, and fail."""
        await super().handle(event, connection)
        if self.is_broken and event.title == "poison":
            raise KeyError("title")


def test_a_projection_joins_the_guards_transaction_with_the_sql_that_it_had(service: Service) -> None:
    """Asyncpg's own connection is at the bottom of the guard's: what was written there is undone, and there once."""

    async def used() -> list[list[str]]:
        database, engine = Database(service.url), wiring_after.engine_for(service.url)
        await database.open()
        decode, breaking = wiring_after.event_of, Breaking()
        source = AsyncSqlEventSource(engine, "events", sequence="position", stream_id="aggregate_id", decode=decode)
        guard = AsyncProjectionGuard(engine, source=source, worker="external")
        await guard.migrate()
        guard.register(breaking, "Joined")
        document = uuid4()
        for event in (Uploaded(aggregate_id=document, title="a"), Renamed(aggregate_id=document, title="poison")):
            await EventStore(database).append(event)
        seen: list[list[str]] = []
        async with guard:
            await guard.catch_up("Joined")
            seen.append([each.what for each in service.rows("SELECT what FROM activity ORDER BY n")])
            breaking.is_broken = False
            (failure,) = (await guard.failures("Joined")).items
            await guard.resolve(failure.id, "retry", actor="alice")
            seen.append([each.what for each in service.rows("SELECT what FROM activity ORDER BY n")])
        await engine.dispose()
        await database.close()
        return seen

    assert asyncio.run(used()) == [["Uploaded a"], ["Uploaded a", "Renamed poison"]]


def test_only_the_wiring_differs() -> None:
    """No other file of the application knows of the library."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    assert {name for name, code in texts.items() if re.search(r"(from|import) projection_guard", code)} == {
        "wiring_after.py"
    }
