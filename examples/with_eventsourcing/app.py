"""Orders, with the library `eventsourcing`: a read model that does not stop at the first event it cannot process.

    pip install 'projection-guard[binary,eventsourcing]'
    python examples/with_eventsourcing/app.py

Aggregates and application are the library's own, unchanged. The read model needs a price list; an article that is not
in it yet fails, and its order waits, where the library's `ProjectionRunner` would stop with all orders. Once the price
is there it heals by itself. Log and read model are orders-log.db and orders.db, or both in PostgreSQL with
`DATABASE_URL=postgresql+psycopg://...` and `pip install 'eventsourcing[postgres]'`.
"""

from __future__ import annotations

import os
import time
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    insert,
    make_url,
    select,
    update,
)

from projection_guard import ProjectionGuard, StreamState
from projection_guard.eventsourcing import ApplicationSource, publish_saves

DATABASE = make_url(os.environ.get("DATABASE_URL", "sqlite:///orders.db"))


class Order(Aggregate):
    """An order, as the library's documentation would have it."""

    class Placed(Aggregate.Created):
        """Somebody wants something."""

        customer: str

    class LineAdded(Aggregate.Event):
        """So many of an article."""

        article: str
        quantity: int

    class Confirmed(Aggregate.Event):
        """It is to be delivered."""

    @event(Placed)
    def __init__(self, customer: str) -> None:
        self.customer = customer
        self.is_confirmed = False

    @event(LineAdded)
    def add(self, article: str, quantity: int) -> None:
        """Add a line."""

    @event(Confirmed)
    def confirm(self) -> None:
        """Confirm it."""
        self.is_confirmed = True


class Orders(Application[UUID]):
    """What is followed."""


def persistence() -> dict[str, str]:
    """Say to the library where its log is."""
    if DATABASE.get_backend_name() == "sqlite":
        return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": "orders-log.db"}
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": DATABASE.database or "",
        "POSTGRES_HOST": DATABASE.host or "127.0.0.1",
        "POSTGRES_PORT": str(DATABASE.port or 5432),
        "POSTGRES_USER": DATABASE.username or "postgres",
        "POSTGRES_PASSWORD": DATABASE.password or "none",
    }


metadata = MetaData()
prices = Table("prices", metadata, Column("article", Text, primary_key=True), Column("cents", Integer))
totals = Table(
    "order_totals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("customer", Text),
    Column("cents", Integer),
    Column("state", Text),
)

engine = create_engine(DATABASE)
orders = Orders(env=persistence())
guard = ProjectionGuard(engine, source=ApplicationSource(orders))
publish_saves(orders, guard.publisher())  # what is saved wakes the worker at once


@guard.projection("OrderTotals", on_reset=lambda connection: connection.execute(delete(totals)))
def write_totals(happened: Aggregate.Event, connection: Connection) -> None:
    """Write the read model, in the guard's transaction: exactly once, and each order's events in order."""
    order = str(happened.originator_id)
    change = update(totals).where(totals.c.id == order)
    match happened:
        case Order.Placed():
            connection.execute(insert(totals).values(id=order, customer=happened.customer, cents=0, state="open"))
        case Order.LineAdded():
            price = connection.scalar(select(prices.c.cents).where(prices.c.article == happened.article))
            if price is None:
                raise LookupError(f"{happened.article} has no price yet")
            connection.execute(change.values(cents=totals.c.cents + price * happened.quantity))
        case Order.Confirmed():
            connection.execute(change.values(state="confirmed"))


def blocked(placed: list[Order]) -> list[StreamState]:
    """Return the orders of which an event has failed, once the read model has come to the log's end."""
    guard.wait_for("OrderTotals", orders.recorder.max_notification_id() or 0, timeout=30)
    mine = {str(order.id) for order in placed}
    return [stream for stream in guard.streams("OrderTotals").items if stream.stream_id in mine]


def show(title: str, placed: list[Order]) -> None:
    """Print the read model."""
    print(title)
    with engine.connect() as connection:
        for order in placed:
            row = connection.execute(select(totals).where(totals.c.id == str(order.id))).one()
            print(f"  {row.customer}: {row.cents / 100:.2f}, {row.state}")


def main() -> None:
    """Order what has a price and what has none; enter the price; show what the read model made of it."""
    guard.migrate()
    metadata.create_all(engine)
    lamp, shade = (f"{name}-{uuid4().hex[:6]}" for name in ("lamp", "shade"))
    with engine.begin() as connection:
        connection.execute(insert(prices).values(article=lamp, cents=4900))
    with guard, guard.worker():
        placed = [Order(customer) for customer in ("ann", "bob", "eve")]
        for number, order in enumerate(placed, start=1):
            order.add(lamp, number)
            if order.customer == "bob":
                order.add(shade, 1)
            order.confirm()
            orders.save(order)
        for stream in blocked(placed):
            failure = guard.failure(stream.failure_ids[0])
            show(f"{failure.error_message}; events of that order that wait: {stream.parked_events}", placed)
        with engine.begin() as connection:
            connection.execute(insert(prices).values(article=shade, cents=1250))
        end = time.monotonic() + 30
        while blocked(placed):
            if time.monotonic() > end:
                raise SystemExit("it has not healed: see guard.failures('OrderTotals')")
            time.sleep(0.05)
        show(f"{shade} has a price now, and the worker has tried again:", placed)
    orders.close()
    engine.dispose()


if __name__ == "__main__":
    main()
