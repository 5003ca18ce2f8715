"""Requests that carry a key of idempotency: taken by the first, answered to all who come with the same key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select, update

from .._dialect import PerDialect, later, seconds_between, utc_now
from .._model import Json
from .._tables import ProjectionRequest

__all__ = ["Asked", "Earlier", "answer", "break_off", "release", "take"]

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
    """What is on record of an earlier request with this key; `status` is None where it has not been answered.

    `is_broken_off`: nobody answers it any more, and whether it was done is not on record.
    """

    is_same: bool
    is_broken_off: bool
    status: int | None
    content: Json


_WHOSE: Final = (R.actor == bindparam("whose"), R.idempotency_key == bindparam("key"))
_MINE: Final = (*_WHOSE, R.token == bindparam("mine"), R.status.is_(None))
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
_locked = (
    select(R.digest, R.token, R.status, R.content, seconds_between(R.runs_until, utc_now()).label("overdue"))
    .where(*_WHOSE)
    .with_for_update()
)
_answer = update(R).where(*_MINE).values(status=bindparam("now"), content=bindparam("answer", type_=R.content.type))
_break_off = update(R).where(*_MINE).values(runs_until=utc_now())
_release = delete(R).where(*_MINE)


def take(connection: Connection, asked: Asked) -> Earlier | None:
    """Take a request to be answered now: None. Otherwise say what is on record of it. A key is kept for a day."""
    whose = {"whose": asked.actor, "key": asked.key}
    connection.execute(_forget, {"kept": -_KEPT_SECONDS})
    row: Any = None
    while row is None:  # whoever had it may have released it between the two
        new = {**whose, "asked": asked.digest, "mine": asked.token, "run": _LONGEST_RUN_SECONDS}
        connection.execute(_insert.of(connection), new)
        row = connection.execute(_locked, whose).one_or_none()
    if row.token == asked.token and row.status is None:  # ours, perhaps from a try whose reply was lost
        return None
    return Earlier(
        is_same=row.digest == asked.digest,
        is_broken_off=row.status is None and row.overdue >= 0,
        status=row.status,
        content=row.content,
    )


def answer(connection: Connection, asked: Asked, *, status: int, content: Json) -> None:
    """Write down what was answered."""
    connection.execute(_answer, {**_mine(asked), "now": status, "answer": content})


def break_off(connection: Connection, asked: Asked) -> None:
    """Write down that nobody answers it any more, and that it may have been done."""
    connection.execute(_break_off, _mine(asked))


def release(connection: Connection, asked: Asked) -> None:
    """Let the key be used again: nothing was done under it."""
    connection.execute(_release, _mine(asked))


def _mine(asked: Asked) -> dict[str, object]:
    return {"whose": asked.actor, "key": asked.key, "mine": asked.token}
