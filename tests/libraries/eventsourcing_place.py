"""A place to guard a projection of `eventsourcing` in: an application, a view, a guard, each of three kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from projection_guard import AsyncProjectionGuard, ProjectionGuard
from projection_guard.eventsourcing import ApplicationSource, guard_projection
from tests.bed import AT_ONCE
from tests.libraries.eventsourcing_shop import Cart, Counts, Shop, View, environment, view_for

__all__ = ["NAME", "Place", "by_cart", "fill", "place"]

NAME = "counts"
WAYS = [("popo", "blocking"), ("sqlite", "async"), ("postgresql", "blocking")]


@dataclass
class Place:
    """An application, a projection with its view, and where the guard keeps what it knows."""

    kind: str
    is_async: bool
    url: str
    shop: Shop
    view: View
    guards: list[Any] = field(default_factory=list)
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __post_init__(self) -> None:
        self.projection = Counts(self.view)

    def guard(self, **options: Any) -> Any:
        """Make a guard with the projection."""
        kind = AsyncProjectionGuard if self.is_async else ProjectionGuard
        made: Any = kind(self.url, source=ApplicationSource(self.shop), worker="external", retry=AT_ONCE)
        self.guards.append(made)
        self.run(made.migrate())
        guard_projection(made, self.projection, **options)
        return made

    def run(self, result: Any) -> Any:
        """Await what has to be awaited."""
        return self.runner.run(_awaited(result)) if asyncio.iscoroutine(result) else result

    def clearing(self, clear: Callable[..., object]) -> Callable[..., object]:
        """Return a function for `on_reset`, as this guard wants it."""
        if not self.is_async:
            return clear

        async def clear_async(*arguments: object) -> None:
            clear(*arguments)

        return clear_async

    def close(self) -> None:
        """Stop everything."""
        for guard in self.guards:
            self.run(guard.close())
        self.runner.close()


async def _awaited(result: Any) -> Any:
    return await result


@pytest.fixture(params=WAYS, ids="-".join)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of view, each kind of guard. On PostgreSQL all three are in one database."""
    kind, guard_kind = request.param
    url, log, view = "sqlite://", "", ""
    if kind == "sqlite":
        url, log, view = f"sqlite:///{tmp_path}/guard.db", f"{tmp_path}/log.db", f"{tmp_path}/view.db"
    elif kind == "postgresql":
        url = log = view = request.getfixturevalue("postgres_url")
    with Shop(env=environment(kind, log)) as shop, view_for(kind, view) as made:
        place = Place(kind, guard_kind == "async", url, shop, made)
        yield place
        place.close()


def fill(shop: Shop, carts: int, each: int) -> dict[str, list[int]]:
    """Make carts with so many amounts each, in turns; return what a view has to come to."""
    made = [Cart("someone") for _ in range(carts)]
    shop.save(*made)
    for turn in range(each):
        for number, cart in enumerate(made):
            cart.add(turn * carts + number)
        shop.save(*made)
    return {str(cart.id): [turn * carts + number for turn in range(each)] for number, cart in enumerate(made)}


def by_cart(view: View) -> dict[str, list[int]]:
    """Return what a view has, in order."""
    found: dict[str, list[int]] = {}
    for cart, amount in view.added():
        found.setdefault(cart, []).append(amount)
    return found
