"""An application of the `eventsourcing` library as people write one, and a projection of it with views of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import make_url

pytest.importorskip(
    "eventsourcing", reason="eventsourcing is not installed: pip install 'projection-guard[eventsourcing]'"
)
pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'projection-guard[postgresql]'")

import psycopg
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import InfrastructureFactory, Tracking, TrackingRecorder
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection
from eventsourcing.sqlite import SQLiteTrackingRecorder
from psycopg.sql import SQL

__all__ = [
    "Cart",
    "Counts",
    "InMemoryView",
    "Noted",
    "PostgresView",
    "Shop",
    "SqliteView",
    "View",
    "change",
    "environment",
    "view_for",
]


class Cart(Aggregate):
    """A stream of its own; its id is a UUID."""

    class Opened(Aggregate.Created):
        """It begins."""

        owner: str

    class Added(Aggregate.Event):
        """Something was put in."""

        amount: int

    @event(Opened)
    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.total = 0

    @event(Added)
    def add(self, amount: int) -> None:
        """Put something in."""
        self.total += amount


class Shop(Application[UUID]):
    """What is followed."""

    def open_cart(self, owner: str) -> UUID:
        """Make a cart."""
        cart = Cart(owner)
        self.save(cart)
        made: UUID = cart.id
        return made

    def add(self, cart_id: UUID, *amounts: int) -> int:
        """Put things into a cart, in one go; return the last notification's id."""
        cart: Cart = self.repository.get(cart_id)
        for amount in amounts:
            cart.add(amount)
        last: int = self.save(cart)[-1].notification.id
        return last


@dataclass(frozen=True)
class Noted:
    """A domain event without an aggregate; its originator's id is text, as 9.5 allows."""

    originator_id: str
    originator_version: int
    n: int = 0


class View(TrackingRecorder):
    """What the projection writes to; each call with the tracking of its event, committed together."""

    def add(self, cart_id: UUID, amount: int, tracking: Tracking) -> None:
        """Add to a cart's total."""
        raise NotImplementedError

    def added(self) -> list[tuple[str, int]]:
        """Return all that was added, in the order in which it was."""
        raise NotImplementedError

    def clear(self) -> None:
        """Empty it."""
        raise NotImplementedError


class InMemoryView(POPOTrackingRecorder, View):
    """In lists of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, int]] = []

    def add(self, cart_id: UUID, amount: int, tracking: Tracking) -> None:
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self.rows.append((str(cart_id), amount))

    def added(self) -> list[tuple[str, int]]:
        return list(self.rows)

    def clear(self) -> None:
        self.rows.clear()


class SqliteView(SQLiteTrackingRecorder, View):
    """In a table of SQLite."""

    def construct_create_table_statements(self) -> list[str]:
        made = super().construct_create_table_statements()
        return [*made, "CREATE TABLE IF NOT EXISTS added (id INTEGER PRIMARY KEY, cart TEXT, amount INTEGER UNIQUE)"]

    def add(self, cart_id: UUID, amount: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute("INSERT INTO added (cart, amount) VALUES (?, ?)", (str(cart_id), amount))

    def added(self) -> list[tuple[str, int]]:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT cart, amount FROM added ORDER BY id")
            return [(row["cart"], row["amount"]) for row in cursor.fetchall()]

    def clear(self) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute("DELETE FROM added")


class PostgresView(PostgresTrackingRecorder, View):
    """In a table of PostgreSQL."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sql_create_statements.append(
            SQL(
                "CREATE TABLE IF NOT EXISTS added (id bigserial PRIMARY KEY, cart text, amount integer UNIQUE)"
            ).format()
        )

    def add(self, cart_id: UUID, amount: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute("INSERT INTO added (cart, amount) VALUES (%s, %s)", (str(cart_id), amount))

    def added(self) -> list[tuple[str, int]]:
        with self.datastore.transaction(commit=False) as cursor:
            cursor.execute("SELECT cart, amount FROM added ORDER BY id")
            return [(row["cart"], row["amount"]) for row in cursor.fetchall()]

    def clear(self) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute("DELETE FROM added")


class Counts(Projection[View]):
    """The projection, as the library's documentation writes one. `breaks_at`: amounts at which it raises."""

    name = "counts"

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self.breaks_at: set[int] = set()
        self.after_commit: Callable[[int], None] = lambda amount: None

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Track what is not counted."""
        self.view.insert_tracking(tracking)

    @process_event.register
    def added(self, domain_event: Cart.Added, tracking: Tracking) -> None:
        """Count what is put into a cart."""
        if domain_event.amount in self.breaks_at:
            raise ZeroDivisionError(f"cannot count {domain_event.amount}")
        self.view.add(domain_event.originator_id, domain_event.amount, tracking)
        self.after_commit(domain_event.amount)


def environment(kind: str, place: str) -> dict[str, str]:
    """Return the settings of the library for one of its persistence modules, in a file's path or a database's URL."""
    if kind == "popo":
        return {"PERSISTENCE_MODULE": "eventsourcing.popo"}
    if kind == "sqlite":
        return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": place}
    found = make_url(place)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": found.database or "",
        "POSTGRES_HOST": found.host or str(found.query.get("host", "")),
        "POSTGRES_PORT": str(found.port or found.query.get("port", 5432)),
        "POSTGRES_USER": found.username or "postgres",
        "POSTGRES_PASSWORD": found.password or "none",
        "POSTGRES_POOL_SIZE": "1",
    }


@contextmanager
def view_for(kind: str, place: str) -> Iterator[Any]:
    """Yield a view of this kind, made as a `ProjectionRunner` makes it."""
    kinds: dict[str, Any] = {"popo": InMemoryView, "sqlite": SqliteView, "postgresql": PostgresView}
    factory: Any = InfrastructureFactory.construct({**environment(kind, place), "COUNTS_NOTHING": str(uuid4())})
    yield factory.tracking_recorder(kinds[kind])
    factory.close()


def change(url: str, statement: str) -> None:
    """Change something past the library."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute(statement)
