"""Where a run takes place: a PostgreSQL of its own, directly or behind PgBouncer, or a file of SQLite."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
from sqlalchemy import create_engine

from projection_guard import ProjectionGuard
from projection_guard.testing import _supervisor as supervisor
from tests.chaos import world
from tests.chaos.cluster import Cluster, cluster, gone_afterwards, small_disk
from tests.faults.pooler import pooled
from tests.faults.proxy import Proxy

__all__ = ["Database", "Place", "open_place"]

Database = Literal["postgresql", "pgbouncer", "sqlite"]
_FILLER: Final = "filler"


@dataclass(slots=True, kw_only=True)
class Place:
    """A database, and the ways to it. `url` is the straight one, `proxied` leads through `proxy`."""

    database: Database
    url: str
    proxied: str
    oracle: str
    proxy: Proxy | None
    cluster: Cluster | None
    disk: Path | None

    @property
    def is_sqlite(self) -> bool:
        """True where there is no server."""
        return self.database == "sqlite"

    def terminate_all(self) -> int:
        """End every session but the oracle's."""
        assert self.cluster is not None
        with psycopg.connect(self.oracle, autocommit=True, application_name="oracle") as connection:
            return connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chaos' "
                "AND pid <> pg_backend_pid() AND application_name <> 'oracle'"
            ).rowcount

    def restart(self, number: signal.Signals) -> float:
        """Let the server die and begin anew; return when it answered again."""
        assert self.cluster is not None
        self.cluster.die(number)
        self.cluster.start()
        return time.monotonic()

    def ask(self, sql: str) -> Any:
        """Ask for one value, past everything else."""
        if self.is_sqlite:
            connection = sqlite3.connect(self.oracle, timeout=30)
            try:
                return connection.execute(sql).fetchone()[0]
            finally:
                connection.close()
        with psycopg.connect(self.oracle, autocommit=True, connect_timeout=5, application_name="oracle") as other:
            row = other.execute(sql.encode()).fetchone()
            return None if row is None else row[0]

    def partitions_without_an_owner(self) -> int:
        """Count those whose lease has ended, or was given up."""
        now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')" if self.is_sqlite else "now()"
        return int(
            self.ask(
                "SELECT count(*) FROM projection_partitions WHERE partition >= 0 "
                f"AND (lease_expires_at IS NULL OR lease_expires_at <= {now})"
            )
        )

    def connections(self) -> int:
        """Count the sessions of the programs."""
        if self.is_sqlite:
            return 0
        with suppress(psycopg.Error):
            return int(
                self.ask(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = 'chaos' AND application_name <> 'oracle' "
                    "AND pid <> pg_backend_pid()"
                )
            )
        return 0

    @contextmanager
    def full_disk(self) -> Generator[None]:
        """Fill the file system under the database for as long as this lasts."""
        assert self.disk is not None
        filler = self.disk / _FILLER
        with filler.open("ab", buffering=0) as file:
            free = os.statvfs(self.disk)
            with suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, max(free.f_bavail * free.f_frsize - (1 << 20), 1))
            with suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(4096))
        try:
            yield
        finally:
            filler.unlink()

    def set_switch(self, name: str, *, is_on: bool) -> None:
        """Let handlers fail, or let them be well."""
        statement = f"UPDATE chaos_switch SET is_on = {int(is_on)} WHERE name = '{name}'"
        if self.is_sqlite:
            connection = sqlite3.connect(self.oracle, timeout=60)
            connection.execute(statement)
            connection.commit()
            connection.close()
        else:
            with psycopg.connect(self.oracle, autocommit=True, application_name="oracle") as other:
                other.execute(statement.encode())


def _prepare(url: str) -> None:
    with ProjectionGuard(url, worker="external") as guard:
        guard.migrate()
    engine = create_engine(url)
    world.create(engine)
    engine.dispose()


@contextmanager
def open_place(database: Database, seconds: float) -> Generator[Place]:
    """Make a place for so long a run, with all tables in it; afterwards nothing is left of it."""
    room_mib = 192 + int(seconds / 2)
    if database == "sqlite":
        with ExitStack() as stack:
            disk = stack.enter_context(small_disk(supervisor.Account(), room_mib))
            folder = disk or Path(tempfile.mkdtemp(prefix="projection-guard-chaos-"))
            if disk is None:
                stack.enter_context(gone_afterwards(folder))
            url = f"sqlite:///{folder}/chaos.db"
            _prepare(url)
            yield Place(
                database=database,
                url=url,
                proxied=url,
                oracle=f"{folder}/chaos.db",
                proxy=None,
                cluster=None,
                disk=disk,
            )
        return
    with small_disk(supervisor.account(), room_mib) as disk, cluster(disk) as server:
        _prepare(server.url())
        with Proxy(server.url()) as proxy:
            made = Place(
                database=database,
                url=server.url(),
                proxied=proxy.url,
                oracle=server.plain_url(),
                proxy=proxy,
                cluster=server,
                disk=disk,
            )
            if database == "pgbouncer":
                with pooled(server.url(), connections=20) as through:
                    made.url = made.proxied = through
                    made.proxy = None
                    yield made
            else:
                yield made
