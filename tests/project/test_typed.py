"""The sample in tests/typed runs; `.ci/lint` has both type checkers look at it as at a user's code."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.project.test_readme import ROOT

TYPED = ROOT / "tests" / "typed"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A way to its modules, by their own names."""
    monkeypatch.syspath_prepend(TYPED)
    yield lambda name: importlib.import_module(f"shop.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A file of SQLite with the read model's table."""
    path = tmp_path / "shop.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id text PRIMARY KEY)"))
    engine.dispose()
    return str(path)


def test_the_blocking_half_runs(shop: Any, database: str) -> None:
    """Handlers of every kind, a publisher before them, what people look at and do."""
    blocking, operating, events = shop("blocking"), shop("operating"), shop("events").first()
    engine = create_engine(f"sqlite:///{database}")
    assert {outcome.status for outcome in blocking.run(engine, events)} == {"applied"}
    guard = blocking.guard_on(engine)
    blocking.handlers(guard)
    assert operating.look(guard) == []
    assert operating.act(guard, "00000000-0000-0000-0000-000000000000") is None
    guard.close()
    engine.dispose()


def test_the_async_half_runs(shop: Any, database: str) -> None:
    """And sources of one's own are sources."""

    async def both() -> set[str]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
        outcomes = await shop("running").run(engine, shop("events").first())
        await engine.dispose()
        return {outcome.status for outcome in outcomes}

    assert asyncio.run(both()) == {"applied"}
    source = shop("log").ListSource(shop("events").first())
    assert [each.sequence for each in source.read(1, 10).events] == [2, 3]
    assert asyncio.run(shop("log").AwaitedSource(source).head()) == 3


def test_what_watches_and_what_is_mounted_is_made(shop: Any, database: str) -> None:
    """An instrument sees calls; the routes answer."""
    engine = create_engine(f"sqlite:///{database}")
    guard, timing = shop("watching").watched(engine)
    guard.migrate()
    guard.projection("Seen", handles=[shop("events").Ordered])(lambda event: None)
    guard.publisher().publish(shop("events").first(1)[0])
    assert timing.seen == ["Seen e1 1", "publish: applied"]
    client = shop("mounts").in_flask(guard).test_client()
    assert client.get("/api/v1/health/projections").json == [{"projection_name": "Seen", "health_status": "healthy"}]
    assert shop("mounts").in_fastapi(guard).title
    guard.close()
    engine.dispose()


def test_the_samples_own_tests_pass(shop: Any) -> None:
    """With the testing kit."""
    assert shop("trying").try_it()
    assert asyncio.run(shop("trying").try_it_later())


def test_refused_lines_are_refused_by_both_checkers() -> None:
    """Each says so for mypy and for pyright; `.ci/lint` fails where one of them has nothing against a line."""
    lines = [
        line for line in (TYPED / "shop" / "refused.py").read_text(encoding="utf-8").splitlines() if "ignore" in line
    ]
    both = [line for line in lines if re.search(r"# type: ignore\[[\w-]+\]  # pyright: ignore\[[\w,]+\]$", line)]
    assert len(both) >= 20
    assert len([line for line in lines if "# type:" in line]) == len(both)
