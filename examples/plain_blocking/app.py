"""Expense claims: a program without a framework, whose read model waits for what it is not told of.

    pip install 'projection-guard[binary]'
    python examples/plain_blocking/app.py

A claim is booked on a project. One project is entered only after somebody has claimed expenses for it: that claim
fails, what happens to it later waits behind that, all others go on. Once the project is there it heals by itself.
`DATABASE_URL=postgresql+psycopg://...` takes another database than expenses.db.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy import Column, Connection, Integer, MetaData, Row, Table, Text, create_engine, insert, select, update
from tenacity import stop_after_attempt, wait_exponential, wait_random

from projection_guard import ProjectionGuard, RetryPolicy, StreamState

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///expenses.db"))
guard = ProjectionGuard(engine)
publisher = guard.publisher()

metadata = MetaData()
projects = Table("projects", metadata, Column("code", Text, primary_key=True))
columns = [Column("id", Text, primary_key=True), Column("person", Text), Column("project", Text)]
claims = Table("claims", metadata, *columns, Column("cents", Integer), Column("state", Text))


@dataclass(frozen=True, kw_only=True)
class ClaimEvent:
    """What happened to a claim. The claim is the stream: its events are applied in order."""

    stream_id: str
    event_id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, kw_only=True)
class Claimed(ClaimEvent):
    """Somebody has paid for something."""

    person: str
    project: str
    cents: int


@dataclass(frozen=True, kw_only=True)
class Corrected(ClaimEvent):
    """It was another amount."""

    cents: int


@dataclass(frozen=True, kw_only=True)
class Approved(ClaimEvent):
    """It will be paid back."""


@guard.projection(
    "Claims",
    handles=[ClaimEvent],
    retry=RetryPolicy(  # tenacity's own objects: after about 0.25, 0.5, 1 ... s, for some minutes; then a person looks
        wait=wait_exponential(multiplier=0.25, max=60) + wait_random(0, 0.1), stop=stop_after_attempt(12)
    ),
)
def write_claims(event: ClaimEvent, connection: Connection) -> None:
    """Joined: it writes in the guard's transaction, and has its effect exactly once."""
    this = update(claims).where(claims.c.id == event.stream_id)
    match event:
        case Claimed():
            if connection.execute(select(projects).where(projects.c.code == event.project)).first() is None:
                raise LookupError(f"there is no project {event.project!r} yet")
            values = {"person": event.person, "project": event.project, "cents": event.cents, "state": "open"}
            connection.execute(insert(claims).values(id=event.stream_id, **values))
        case Corrected():
            connection.execute(this.where(claims.c.state == "open").values(cents=event.cents))
        case Approved():
            connection.execute(this.values(state="approved"))


@guard.projection("Mail", handles=[Approved])
def send_mail(event: Approved) -> None:
    """Apart: it writes elsewhere, and is called at least once. No failure of the other projection holds it up."""
    print(f"         mail: claim {event.stream_id} is approved")


def blocked(claim: str) -> StreamState | None:
    """Return how a claim stands in the read model while an event of it has failed, else None."""
    return next((stream for stream in guard.streams("Claims").items if stream.stream_id == claim), None)


def wait_until_healed(claim: str, within_seconds: float = 30) -> None:
    """Wait until no event of a claim is failed or waits."""
    end = time.monotonic() + within_seconds
    while blocked(claim):
        if time.monotonic() > end:
            raise SystemExit(f"{claim} has not healed: see guard.failures('Claims')")
        time.sleep(0.05)


def main() -> None:
    """Claim, correct and approve, with one project still unknown; enter it; show the read model."""
    guard.migrate()
    metadata.create_all(engine)
    run = uuid4().hex[:6]
    known, unknown, waiting = f"office-{run}", f"fair-{run}", f"{run}-1"
    with engine.begin() as connection:
        connection.execute(insert(projects).values(code=known))
    with guard, guard.worker():
        for number, project in enumerate((known, unknown, known)):
            claim = f"{run}-{number}"
            person = ("ann", "bob", "eve")[number]
            for event in (
                Claimed(stream_id=claim, person=person, project=project, cents=1000 * (number + 1)),
                Corrected(stream_id=claim, cents=1500 * (number + 1)),
                Approved(stream_id=claim),
                Corrected(stream_id=claim, cents=1),  # too late: applied out of order, it would count
            ):
                outcome = publisher.publish(event)[0]
                print(f"{outcome.status:>8} {type(event).__name__.lower()} {claim} on {project}")
        if stream := blocked(waiting):
            failure = guard.failure(stream.failure_ids[0])
            print(f"\n{failure.error_message}, {stream.parked_events} events wait; now the project is entered.\n")
        with engine.begin() as connection:
            connection.execute(insert(projects).values(code=unknown))
        wait_until_healed(waiting)
    with engine.connect() as connection:
        mine = select(claims).where(claims.c.project.in_((known, unknown))).order_by(claims.c.id)
        rows: list[Row[tuple[str, str, str, int, str]]] = list(connection.execute(mine))
    for row in rows:
        print(f"{row.state} {row.id} {row.person:>4} {row.cents / 100:7.2f} on {row.project}")
    engine.dispose()


if __name__ == "__main__":
    main()
