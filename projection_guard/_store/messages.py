"""Messages that receivers are still to be given: written with what they tell of, claimed by a lease, taken away after.

A message is given outside of any transaction. Whoever dies between giving it and `done` leaves its lease to end: then
it is given again, with the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from .._alerts import Alert
from .._dialect import Changing, later, seconds_between, statement_start, utc_now
from .._tables import ProjectionAlertDelivery

__all__ = ["Claimed", "claim", "done", "failed", "forget_old", "receivers_due", "waiting", "write"]

D = ProjectionAlertDelivery
_Earlier = aliased(D)
_MESSAGE: Final[BindParameter[int]] = bindparam("message_id", type_=D.id.type)
_TOKEN: Final[BindParameter[str]] = bindparam("token")
_NOT_UNDERSTOOD_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A message that is ours to give, for as long as the lease goes. `attempts` counts this one."""

    id: int
    alert: Alert
    attempts: int


def write(connection: Connection, subject: str, alert: Alert, receivers: Sequence[str]) -> None:
    """Let each of these receivers be given a message."""
    for receiver in receivers:
        connection.execute(
            insert(D).values(
                receiver=receiver,
                subject=subject,
                kind=alert.kind.value,
                message=alert.as_json(),
                next_attempt_at=utc_now(),
                created_at=utc_now(),
            )
        )


def waiting(connection: Connection, subject: str, kind: str) -> frozenset[str]:
    """Name the receivers that have not been given all of it yet: a reminder tells them nothing new."""
    found = select(D.receiver).where(D.subject == subject, D.kind == kind).distinct()
    return frozenset(connection.execute(found).scalars())


_IS_FIRST = ~exists(
    select(literal(1)).where(
        _Earlier.receiver == D.receiver,
        _Earlier.subject == D.subject,
        _Earlier.kind == D.kind,
        _Earlier.id < D.id,
    )
)
"""A recovery is not told before what it is the end of."""
_IS_DUE = (
    D.next_attempt_at <= statement_start(),
    or_(D.lease_owner.is_(None), D.lease_expires_at <= statement_start()),
    _IS_FIRST,
)
_due = select(D.receiver).where(D.receiver.in_(bindparam("receivers", expanding=True)), *_IS_DUE).distinct()
_next = (
    select(D.id)
    .where(D.receiver == bindparam("receiver_name"), or_(D.lease_owner == _TOKEN, and_(*_IS_DUE)))
    .order_by(D.next_attempt_at, D.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_claim = Changing(
    update(D).values(lease_owner=_TOKEN, lease_expires_at=later(bindparam("lease")), attempts=D.attempts + 1),
    (D.id == _MESSAGE,),
    D.id,
    D.message,
    D.attempts,
)
_MINE = (D.id == _MESSAGE, D.lease_owner == _TOKEN)
_done = delete(D).where(*_MINE)
_locked = select(seconds_between(D.created_at, utc_now())).where(*_MINE).with_for_update()
_again = (
    update(D)
    .where(*_MINE)
    .values(lease_owner=null(), lease_expires_at=null(), next_attempt_at=later(bindparam("delay")))
)
_old = Changing(delete(D), (D.created_at < later(bindparam("ago")),), D.receiver)


def receivers_due(connection: Connection, receivers: Sequence[str]) -> list[str]:
    """Name those of the receivers for which a message is due."""
    return sorted(connection.execute(_due, {"receivers": receivers}).scalars())


def claim(connection: Connection, receiver: str, *, token: str, lease_seconds: float) -> Claimed | None:
    """Take the message that has been due the longest for a receiver and that nobody gives just now.

    So one that is refused time and again holds up no other one. Where one was taken with this token already it is that.
    """
    while True:
        due = connection.execute(_next, {"receiver_name": receiver, "token": token}).scalar_one_or_none()
        if due is None:
            return None
        (row,) = _claim.run(connection, {"message_id": due, "token": token, "lease": lease_seconds})
        try:
            return Claimed(id=row.id, alert=Alert.from_json(row.message), attempts=row.attempts)
        except (KeyError, TypeError, ValueError):  # of another version of this library, which runs elsewhere
            connection.execute(_again, {"message_id": due, "token": token, "delay": _NOT_UNDERSTOOD_SECONDS})


def done(connection: Connection, message_id: int, *, token: str) -> None:
    """It was given."""
    connection.execute(_done, {"message_id": message_id, "token": token})


def failed(
    connection: Connection, message_id: int, *, token: str, delay_seconds: float, gives_up_after_seconds: float
) -> bool:
    """It was not: let it be given again after a delay; return False where that is given up."""
    mine: dict[str, Any] = {"message_id": message_id, "token": token}
    age = connection.execute(_locked, mine).scalar_one_or_none()
    if age is not None and age + delay_seconds > gives_up_after_seconds:
        connection.execute(_done, mine)
        return False
    connection.execute(_again, mine | {"delay": delay_seconds})
    return True


def forget_old(connection: Connection, older_than_seconds: float) -> list[str]:
    """Take away what nobody has given for so long, such as to receivers that are not there any more; name those."""
    return sorted({row.receiver for row in _old.run(connection, {"ago": -older_than_seconds})})
