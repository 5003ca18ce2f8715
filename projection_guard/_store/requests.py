"""Requests that carry a key of idempotency: taken by the first, answered to all who come with the same key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select, update

from .._dialect import PerDialect, later, seconds_between, utc_now
from .._model import Json
from .._tables import ProjectionRequest

__all__ = ["Asked", "Earlier", "answer", "release", "take"]

R = ProjectionRequest
_LONGEST_RUN_SECONDS: Final = 300.0
_KEPT_SECONDS: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request by its key: `digest` tells what was asked, `token` who answers it now."""

    actor: str
    key: str
    digest: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What is on record of an earlier request with this key; `status` is None while it is being answered."""

    is_same: bool
    status: int | None
    content: Json


_WHOSE: Final = (R.actor == bindparam("whose"), R.idempotency_key == bindparam("key"))
_forget = delete(R).where(R.created_at < later(bindparam("kept")))
_insert = PerDialect(
    lambda insert: (
        insert(R)
        .values(
            actor=bindparam("whose"),
            idempotency_key=bindparam("key"),
            digest=bindparam("asked"),
            token=bindparam("mine"),
            runs_until=later(bindparam("run")),
            created_at=utc_now(),
        )
        .on_conflict_do_nothing()
    )
)
_locked = select(
    R.digest, R.token, R.status, R.content, seconds_between(R.runs_until, utc_now()).label("overdue")
).where(*_WHOSE)
_take_over = update(R).where(*_WHOSE).values(token=bindparam("mine"), runs_until=later(bindparam("run")))
_answer = (
    update(R)
    .where(*_WHOSE, R.token == bindparam("mine"))
    .values(status=bindparam("now_status"), content=bindparam("now_content", type_=R.content.type))
)
_release = delete(R).where(*_WHOSE, R.token == bindparam("mine"), R.status.is_(None))


def take(connection: Connection, asked: Asked) -> Earlier | None:
    """Take a request to be answered now: None. Otherwise say what is on record of it.

    A key is kept for a day. One whose process died is taken over after five minutes.
    """
    parameters = {
        "whose": asked.actor,
        "key": asked.key,
        "asked": asked.digest,
        "mine": asked.token,
        "run": _LONGEST_RUN_SECONDS,
    }
    connection.execute(_forget, {"kept": -_KEPT_SECONDS})
    connection.execute(_insert.of(connection), parameters)
    row: Any = connection.execute(_locked.with_for_update(), {"whose": asked.actor, "key": asked.key}).one()
    if row.token == asked.token and row.status is None:  # ours, perhaps from a try whose reply was lost
        return None
    is_same = row.digest == asked.digest
    if is_same and row.status is None and row.overdue >= 0:
        taken = {name: parameters[name] for name in ("whose", "key", "mine", "run")}
        connection.execute(_take_over, taken)
        return None
    return Earlier(is_same=is_same, status=row.status, content=row.content)


def answer(connection: Connection, asked: Asked, *, status: int, content: Json) -> None:
    """Write down what was answered."""
    connection.execute(
        _answer,
        {
            "whose": asked.actor,
            "key": asked.key,
            "mine": asked.token,
            "now_status": status,
            "now_content": content,
        },
    )


def release(connection: Connection, asked: Asked) -> None:
    """Let the key be used again: nothing was done under it."""
    connection.execute(_release, {"whose": asked.actor, "key": asked.key, "mine": asked.token})
