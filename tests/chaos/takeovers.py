"""Measures how long a partition whose owner is gone stays without one."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, Final, Self

import psycopg

from tests.chaos.guards import LEASE_SECONDS
from tests.chaos.places import Place

__all__ = ["Takeovers"]

_LOOK_EVERY_SECONDS: Final = 0.05
_POSTGRESQL: Final = (
    "SELECT projection_name, partition, lease_owner, extract(epoch FROM lease_expires_at)::float8, "
    "extract(epoch FROM clock_timestamp())::float8 FROM projection_partitions WHERE partition >= 0"
)
_SQLITE: Final = (
    "SELECT projection_name, partition, lease_owner, (julianday(lease_expires_at) - 2440587.5) * 86400, "
    "(julianday('now') - 2440587.5) * 86400 FROM projection_partitions WHERE partition >= 0"
)


class Takeovers:
    """A thread that looks at the leases: from an owner's last sign to the next one's first, by the database's clock.

    Only leases that ran out count; one that was given up changes hands at once.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="takeovers")
        self._owners: dict[tuple[str, int], tuple[str, float]] = {}
        self._taken: list[float] = []
        self._connection: Any = None

    def p50_and_p99(self) -> tuple[float | None, float | None]:
        """Return both, in seconds; None where nothing was taken over."""
        taken = sorted(self._taken)
        if not taken:
            return None, None
        return round(taken[len(taken) // 2], 2), round(taken[min(int(len(taken) * 0.99), len(taken) - 1)], 2)

    def _look_on(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_SECONDS):
            try:
                self._look()
            except (psycopg.Error, sqlite3.Error):  # the server is away
                self._forget_connection()
        self._forget_connection()

    def _look(self) -> None:
        for projection, partition, owner, expires, now in self._rows():
            key = (projection, partition)
            before = self._owners.get(key)
            if owner is None:
                self._owners.pop(key, None)
                continue
            if before is not None and before[0] != owner and before[1] <= now:
                self._taken.append(expires - LEASE_SECONDS - (before[1] - LEASE_SECONDS))
            self._owners[key] = (owner, expires)

    def _rows(self) -> Any:
        if self._place.is_sqlite:
            self._connection = self._connection or sqlite3.connect(self._place.oracle, timeout=5)
            return self._connection.execute(_SQLITE).fetchall()
        if self._connection is None:
            self._connection = psycopg.connect(
                self._place.oracle, autocommit=True, connect_timeout=5, application_name="oracle"
            )
        return self._connection.execute(_POSTGRESQL).fetchall()

    def _forget_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
