"""The barrier on MariaDB and MySQL, where nobody may look who holds a lock.

Every transaction that may land something shares the newest row of `projection_generations` to its end, before its first
look at anything. The barrier makes a newer row, and asks which of the older ones it could have for itself: those that
it could not are still shared by somebody who began before. Nobody waits for such a row, and nobody who begins later is
held up by it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, delete, insert, select

__all__ = ["in_flight"]

_KEPT: Final = 1_000
"""So many rows are left, that whoever is just about to share one finds it."""

_generations = Table(
    "projection_generations", MetaData(), Column("generation", BigInteger, primary_key=True, autoincrement=True)
)
_ID = _generations.c.generation


def in_flight(connection: Connection) -> frozenset[str]:
    """Name the generations before a new one that somebody shares."""
    made = connection.execute(insert(_generations)).inserted_primary_key
    assert made is not None
    newest = int(made[0])
    older = select(_ID).where(newest > _ID)
    known = set(connection.execute(older).scalars())
    free = set(connection.execute(older.with_for_update(skip_locked=True)).scalars())
    gone = [generation for generation in free if generation < newest - _KEPT]
    if gone:
        connection.execute(delete(_generations).where(_ID.in_(gone)))
    return frozenset(str(generation) for generation in known - free)
