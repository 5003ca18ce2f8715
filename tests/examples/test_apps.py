"""The examples that serve, started as a person would, and used over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.examples.starting import ADOPTING, SERVICES, served

pytestmark = pytest.mark.slow
ADMIN = "/api/v1/admin/projections"
READY = "/api/v1/health/projections/ready"
OPERATOR = {"Authorization": "Bearer change-me"}
VIEWER = {"Authorization": "Bearer look-only"}


def became(answer: httpx.Response) -> str:
    """Return what an application says of the read model."""
    assert answer.status_code == 202, answer.text
    return str(answer.json()["read_model"])


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_heals_in_order_and_an_operator_mends_the_rest(name: str, tmp_path: Path) -> None:
    """A document waits for its folder, its titles come in order; what never heals is seen and skipped by who may."""
    with served(name, tmp_path, READY) as client:
        filed_late(client)
        mended(client)
        asked_for_by_a_browser(client)


def filed_late(client: httpx.Client) -> None:
    """What works is in the read model at once, what fails heals, with what came after it, once it can."""
    client.put("/folders/board").raise_for_status()
    assert became(client.post("/documents", json={"folder": "board", "title": "Minutes"})) == "applied"
    late = client.post("/documents", json={"folder": "plans", "title": "Budget"})
    assert became(late) == "failed"
    address = f"/documents/{late.json()['id']}"
    assert [became(client.put(address, json={"title": title})) for title in ("Budget 2", "Budget 3")] == ["parked"] * 2
    assert [(each["title"], each["revision"]) for each in client.get("/documents").json()] == [("Minutes", 1)]
    assert client.get("/api/v1/health/projections").json() == [
        {"projection_name": "DocumentProjection", "health_status": "degraded"}
    ]
    client.put("/folders/plans").raise_for_status()
    until(lambda: not client.get(f"{ADMIN}/DocumentProjection/streams?state=blocked", headers=VIEWER).json()["items"])
    filed = sorted((each["title"], each["revision"]) for each in client.get("/documents").json())
    assert filed == [("Budget 3", 3), ("Minutes", 1)]


def mended(client: httpx.Client) -> None:
    """Who has no key sees no failure, a viewer does not skip it, an operator does."""
    assert became(client.post("/documents", json={"folder": "nowhere", "title": "Lost"})) == "failed"
    assert client.get(f"{ADMIN}/failures").status_code == 401
    (failure,) = client.get(f"{ADMIN}/failures", headers=VIEWER).json()["items"]
    shown = client.get(f"{ADMIN}/failures/{failure['id']}/editable", headers=OPERATOR).json()
    assert "nowhere" in str(shown["event_payload"])
    address = f"{ADMIN}/failures/{failure['id']}/resolve"
    wanted = {"compensation_strategy": "skip", "note": "there will be no such folder"}
    assert client.post(address, headers=VIEWER, json=wanted).status_code == 403
    until(lambda: client.post(address, headers=OPERATOR, json=wanted).is_success)  # 409 while the worker tries it
    status = client.get(f"{ADMIN}/status", headers=OPERATOR).json()
    assert (status["total_active_failures"], status["total_projections"]) == (0, 1)
    resolved = client.get(f"{ADMIN}/failures/{failure['id']}", headers=OPERATOR).json()
    assert resolved["resolved_by"] == "operator"


def asked_for_by_a_browser(client: httpx.Client) -> None:
    """The dashboard asks for a password, which every browser can send; another one opens nothing."""
    asked = client.get("/dashboard/")
    assert (asked.status_code, asked.headers["WWW-Authenticate"].partition(" ")[0].lower()) == (401, "basic")
    assert client.get("/dashboard/", auth=("me", "another")).status_code == 401
    page = client.get("/dashboard/", auth=("me", "change-me"))
    assert page.status_code == 200
    assert "DocumentProjection" in page.text


@pytest.mark.postgres
def test_the_adopting_service_serves(empty_postgres_url: str, tmp_path: Path) -> None:
    """What it was and what it became: test_adopting.py; here as its README starts it."""
    pytest.importorskip(
        "asyncpg", reason="the example's application talks to PostgreSQL by asyncpg, which is not there"
    )
    url = empty_postgres_url.replace("postgresql+psycopg", "postgresql")
    with served(ADOPTING, tmp_path, "/docs", DATABASE_URL=url) as client:
        document = client.post("/documents", params={"title": "draft"}).json()["id"]
        client.put(f"/documents/{document}", params={"title": "final"}).raise_for_status()
        assert client.get(f"/documents/{document}/activity").json() == ["Uploaded draft", "Renamed final"]
