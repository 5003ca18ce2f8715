"""Balances that were wrong for a while: replay what has failed, verify, rebuild beside the live read model.

    pip install 'projection-guard[binary]'
    python examples/replay_and_rebuild/app.py

The first version of a handler has two bugs. One is loud: it cannot read a currency, so that events fail, and a person
has to look. One is silent: it adds what should be subtracted. The second version is deployed; then the log, which has
everything, mends both. `DATABASE_URL=postgresql+psycopg://...` takes another database than balances.db.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    insert,
    select,
    text,
)

from projection_guard import PermanentFailure, ProjectionGuard, Replay, SqlEventSource

metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("event_type", Text, nullable=False),
    Column("stream_id", Text, nullable=False),
    Column("amount", Text, nullable=False),
    sqlite_autoincrement=True,
)
balances = Table("balances", metadata, Column("customer", Text, primary_key=True), Column("cents", Integer))
engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///balances.db"))

Event = dict[str, Any]
Handler = Callable[[Event, Connection], None]


def add(customer: str, cents: int, connection: Connection) -> None:
    """Add to a customer's balance."""
    upsert = (
        "INSERT INTO balances VALUES (:customer, :cents)"
        " ON CONFLICT (customer) DO UPDATE SET cents = balances.cents + excluded.cents"
    )
    connection.execute(text(upsert), {"customer": customer, "cents": cents})


def version_1(event: Event, connection: Connection) -> None:
    """Apply an event, with two bugs."""
    amount, currency = event["amount"].split()
    if currency != "EUR":
        raise PermanentFailure(f"cannot read the currency {currency!r}")
    add(event["stream_id"], int(amount), connection)  # a credit note is added, too


def version_2(event: Event, connection: Connection) -> None:
    """Apply an event."""
    amount, currency = event["amount"].split()
    cents = int(amount) * {"EUR": 100, "CHF": 95}[currency] // 100
    add(event["stream_id"], -cents if event["event_type"] == "Credited" else cents, connection)


def deployed(handler: Handler) -> ProjectionGuard:
    """Return the guard of the application, as it is after a deployment."""
    guard = ProjectionGuard(engine, source=SqlEventSource(engine, events), worker="external")
    guard.migrate()
    guard.projection("Balances", tables=["balances"])(handler)
    return guard


def append(run: str) -> list[str]:
    """Append what has happened to four customers, and return them."""
    happened = {
        "ann": ["Invoiced 2000 EUR", "Credited 500 EUR"],
        "bob": ["Invoiced 1000 EUR", "Invoiced 200 CHF", "Invoiced 300 EUR"],
        "eve": ["Invoiced 700 EUR", "Invoiced 50 EUR"],
        "kim": ["Invoiced 100 EUR", "Credited 100 EUR", "Invoiced 900 EUR"],
    }
    with engine.begin() as connection:
        for customer, lines in happened.items():
            for number, line in enumerate(lines, start=1):
                kind, _, amount = line.partition(" ")
                values = {"event_id": f"{customer}-{run}-{number}", "event_type": kind, "amount": amount}
                connection.execute(insert(events).values(stream_id=f"{customer}-{run}", **values))
    return [f"{customer}-{run}" for customer in happened]


def show(title: str, customers: list[str]) -> None:
    """Print the read model."""
    with engine.connect() as connection:
        rows = connection.execute(select(balances).where(balances.c.customer.in_(customers)).order_by("customer"))
        print(title, ", ".join(f"{row.customer.partition('-')[0]} {row.cents}" for row in rows))


def different(job: Replay) -> str:
    """Name the rows that a verification has found to be different."""
    compared: Any = job.compared
    return ", ".join(row["key"][0].partition("-")[0] for each in compared["tables"] for row in each["first_different"])


def main() -> None:
    """Deploy two bugs, find them, deploy the fix, and let the log mend what they have done."""
    metadata.create_all(engine)
    with deployed(version_1) as guard:
        customers = append(uuid4().hex[:6])
        guard.catch_up("Balances")  # a worker does this by itself
        show("version 1 is deployed:", customers)
        failure = guard.failures("Balances").items[0]
        waits = guard.health("Balances").parked_events
        print(f"    {failure.event_id}: {failure.error_message}; a person has to look, {waits} waits behind it")
    with deployed(version_2) as guard:
        job = guard.replay("Balances", actor="alice", note="it reads CHF now")  # what is failed or parked, too
        show("version 2 is deployed, and what had failed replayed:", customers)
        print(f"    {job.events_replayed} events replayed, {guard.health('Balances').active_failures} failures left")
        job = guard.verify("Balances", actor="alice")  # compares with the log, changes nothing
        print(f"verified against the log: drifted {job.drifted}: {different(job)}")
        job = guard.rebuild("Balances", into="balances_next", actor="alice", note="credit notes were added")
        show(f"rebuilt beside the live one from {job.events_replayed} events, and exchanged:", customers)
        print(f"verified again: drifted {guard.verify('Balances', actor='alice').drifted}")
        for entry in reversed(guard.audit("Balances", actor="alice", limit=4).items):
            print(f"    {entry.at:%H:%M:%S} {entry.actor}: {entry.action}{f', {entry.note}' if entry.note else ''}")
    engine.dispose()


if __name__ == "__main__":
    main()
