"""Connections of the host's that come through a pooler, as PgBouncer in transaction mode is one: they prepare nothing.

There each transaction may have another session of the server's. A statement that psycopg, or the guard, has prepared is
not there then, or, where another client chose the same name, is another statement. A pooler gives itself away: the
process whose number a connection was told at its beginning is not the one that answers. On engines that the guard makes
nothing is prepared anyway, and nobody asks.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from sqlalchemy import Connection

from .._dialect import Bound

__all__ = ["WHO", "is_psycopg_3", "is_to_be_asked", "note_who_answered", "prepare_nothing_through_a_pooler"]

log = logging.getLogger("projection_guard")
WHO: Final = Bound("SELECT pg_backend_pid()")
_IS_KNOWN: Final = "projection_guard.is_known_to_be_direct_or_not"


def is_psycopg_3(driver_name: str) -> bool:
    """Return whether a dialect's driver is the one that prepares statements by itself; `psycopg2` prepares none."""
    return driver_name == "psycopg"


def is_to_be_asked(driver: Any, info: dict[Any, Any]) -> bool:
    """Return whether this connection would prepare statements, and has not been asked yet who answers: `WHO`."""
    return driver.prepare_threshold is not None and _IS_KNOWN not in info


def note_who_answered(driver: Any, info: dict[Any, Any], process: object) -> None:
    """Let a connection prepare nothing any more, for whomever, where it is a pooler's."""
    info[_IS_KNOWN] = True
    if process != driver.pgconn.backend_pid:
        driver.prepare_threshold = None
        log.debug("a connection comes through a pooler: nothing is prepared on it (prepare_threshold=None)")


def prepare_nothing_through_a_pooler(connection: Connection) -> Connection:
    """Ask on a connection of SQLAlchemy's, and return it."""
    if is_psycopg_3(connection.dialect.driver):
        driver: Any = connection.connection.driver_connection
        if is_to_be_asked(driver, connection.info):
            note_who_answered(driver, connection.info, connection.exec_driver_sql(WHO.sql).scalar_one())
    return connection
