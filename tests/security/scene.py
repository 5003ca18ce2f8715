"""Something to hide, planted everywhere at once, and everything that the library tells, collected in one text."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable

from pydantic import BaseModel
from sqlalchemy import Connection, DateTime, bindparam, insert, select, text

from projection_guard import FailureFilter, PermanentFailure
from projection_guard._http.routes import everything
from projection_guard._tables import metadata
from tests.bed import Bed, GuardOnBed, counted
from tests.http.serving import Served
from tests.security.keyring import SECRET, Told

__all__ = [
    "BOUND",
    "CANARIES",
    "DSN",
    "ENVIRONMENT",
    "HEADER",
    "Told",
    "ask_everything",
    "handlers",
    "logged",
    "raised",
    "stored",
]

BOUND, DSN, HEADER, ENVIRONMENT = "canary-bound-4712", "canary-dsn-4713", "canary-header-4714", "canary-env-4715"
CANARIES = (SECRET, BOUND, DSN, HEADER, ENVIRONMENT)
_OURS = ("projection_guard", "asyncio", "root", "concurrent.futures")
_MEANT_TO_HOLD_EVENTS = {
    ("projection_failures", "event_payload"),
    ("projection_parked_events", "event_payload"),
    ("projection_amendments", "event_payload"),
    ("projection_amendments", "original_payload"),
}


class Amount(BaseModel):
    """What an event is checked against."""

    amount: int


def _twice(event: Told, connection: Connection) -> None:
    for _ in range(2):
        connection.execute(insert(counted).values(stream=BOUND, count=1))


def _never_sent(event: Told, connection: Connection) -> None:
    connection.execute(select(bindparam("v", type_=DateTime)), {"v": event.secret})


def _missing(event: Told, connection: Connection) -> None:
    connection.execute(text("INSERT INTO counted (stream, count) VALUES (NULL, length(:v))"), {"v": event.secret})


def _cast(event: Told, connection: Connection) -> None:
    wrong = "CAST(CAST(:v AS text) AS date)" if connection.dialect.name == "postgresql" else "json(:v)"
    connection.execute(text(f"SELECT {wrong}"), {"v": event.secret})


def _invalid(event: Told, connection: Connection) -> None:
    Amount.model_validate({"amount": event.secret})


def _chained(event: Told, connection: Connection) -> None:
    try:
        raise ValueError(event.secret)
    except ValueError as error:
        raise PermanentFailure("the handler's own words") from error


def handlers() -> dict[str, Callable[[Told, Connection], None]]:
    """Return projections that fail, each with something in its error that nobody may see."""
    made = {"Twice": _twice, "NeverSent": _never_sent, "Missing": _missing, "Cast": _cast}
    return {**made, "Invalid": _invalid, "Chained": _chained}


def ask_everything(served: Served, guard: GuardOnBed) -> list[str]:
    """Ask every route as everybody, rightly and wrongly; return all that was answered."""
    told = list[str]()
    failure = guard.failures("Twice").items[0]
    proposed = guard.propose_bulk("retry", where=FailureFilter(projection_name="Cast"), actor="alice")
    words = {"name": "Twice", "failure_id": str(failure.id), "bulk_id": str(proposed.id), "replay_id": str(failure.id)}
    for client in (served.client, served.viewer, served.operator):
        for endpoint in everything():
            path = endpoint.path.format(**words)
            for body in (endpoint.example, {"note": 1, "more": ENVIRONMENT}):
                response = client.request(
                    endpoint.method,
                    path,
                    params=None if "note" not in body or endpoint.method != "GET" else {"token": HEADER},
                    content=None if endpoint.method == "GET" else json.dumps(body),
                    headers={"Content-Type": "application/json", "Cookie": f"session={HEADER}", "X-Token": HEADER},
                )
                told.append(f"{response.status_code} {response.headers} {response.text}")
    return told


def stored(bed: Bed) -> list[str]:
    """Return every value of every column of our tables in which events are not meant to be."""
    told = list[str]()
    for name, table in metadata.tables.items():
        columns = [column.name for column in table.columns if (name, column.name) not in _MEANT_TO_HOLD_EVENTS]
        told += [f"{name}: {tuple(row)}" for row in bed.rows(f"SELECT {', '.join(columns)} FROM {name}")]
    return told


def logged(records: list[logging.LogRecord]) -> list[str]:
    """Return everything that a formatter could take of our log's records."""
    shown = logging.Formatter("%(message)s")
    return [f"{shown.format(each)} {vars(each)!r}" for each in records if each.name in _OURS]


def raised(error: BaseException) -> str:
    """Return everything that an error says: of itself and of its causes."""
    return f"{error} {error!r} {''.join(traceback.format_exception(error))}"
