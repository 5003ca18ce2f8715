"""A running PostgreSQL, however it was found, that hands out databases of one's own.

Isolation is by database, also on a server that others use: names carry the run's random id, and nothing without it is
touched.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Self

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from ._cluster import cluster
from ._found import PostgresFound, find_postgres

__all__ = ["PostgresServer", "postgres_server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A PostgreSQL server for tests."""

    url: str
    """Of the database from which others are created: `postgresql+psycopg://...`."""
    says: str
    """For people: what it is and how it was found."""
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    """Is part of every database's name: processes that share `url` and `run` share templates."""
    is_fast: bool = False
    """It keeps nothing safe, so that its checkpoints cost nothing: databases are copied as files."""
    _kept: psycopg.Connection[tuple[object, ...]] | None = field(default=None, repr=False, compare=False)

    @contextmanager
    def connected(self) -> Generator[Self]:
        """Yield this server with a connection that stays: making and dropping many databases costs half as much."""
        with self._connect() as connection:
            yield replace(self, _kept=connection)

    @contextmanager
    def database(self, *, template: str = "template0") -> Generator[str]:
        """Create a database of one's own, yield its URL, and drop it, whoever is still connected."""
        name = f"{self._prefix}{secrets.token_hex(6)}"
        with self._connection() as connection:
            connection.execute(_create(name, template, as_files=self._copies_files(connection)))
        try:
            yield self._url_of(name)
        finally:
            with self._connection() as connection:
                connection.execute(_drop(name))

    def template(self, name: str, prepare: Callable[[str], None]) -> str:
        """Return a template for `database`, which `prepare(url)` fills once a run, whichever process comes first."""
        database = f"{self._prefix}template_{name}"
        with self._connect() as connection:  # its end is the lock's
            connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [database])
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [database]).rowcount:
                return database
            connection.execute(_create(database, "template0"))
            try:
                prepare(self._url_of(database))
            except BaseException:
                connection.execute(_drop(database))
                raise
            # A template that somebody is connected to cannot be copied.
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database)))
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [database]
            )
        return database

    def clear(self) -> None:
        """Drop what this run left behind: its templates, and databases whose process was killed."""
        with self._connection() as connection:
            mine = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [self._prefix])
            for (name,) in mine.fetchall():
                connection.execute(_drop(name))

    @property
    def _prefix(self) -> str:
        return f"projection_guard_test_{self.run}_"

    def _url_of(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)

    def _copies_files(self, connection: psycopg.Connection[tuple[object, ...]]) -> bool:
        return self.is_fast and connection.info.server_version >= 150000

    def _connection(self) -> AbstractContextManager[psycopg.Connection[tuple[object, ...]]]:
        if self._kept is not None and not self._kept.closed:
            return nullcontext(self._kept)
        return self._connect()

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True, connect_timeout=30)


@contextmanager
def postgres_server(found: PostgresFound | None = None, *, fast: bool = False) -> Generator[PostgresServer]:
    """Yield a running PostgreSQL server: what `find_postgres()` finds, unless you name it.

    A server of our own making is stopped and removed at the end, also when this process is killed, and keeps
    PostgreSQL's durability unless `fast`. On any other server the databases made here are dropped.
    """
    found = found or find_postgres()
    with _running(found, fast=fast) as url:
        server = PostgresServer(url=url, says=found.says, is_fast=fast and found.way in ("wheel", "local"))
        try:
            yield server
        finally:
            if found.way == "url":
                server.clear()


@contextmanager
def _running(found: PostgresFound, *, fast: bool) -> Generator[str]:
    match found.way:
        case "url":
            yield make_url(found.where).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        case "wheel" | "local":
            with cluster(found.where, fast=fast) as url:
                yield url
        case "container":
            with warnings.catch_warnings():  # testcontainers warns of its own insides
                warnings.simplefilter("ignore")
                container = import_module("testcontainers.postgres").PostgresContainer(found.where, driver="psycopg")
                container.start()
            try:
                yield str(container.get_connection_url())
            finally:
                container.stop()


def _create(name: str, template: str, *, as_files: bool = False) -> sql.Composed:
    words = "CREATE DATABASE {} TEMPLATE {}" + (" STRATEGY file_copy" if as_files else "")
    return sql.SQL(words).format(sql.Identifier(name), sql.Identifier(template))


def _drop(name: object) -> sql.Composed:
    return sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(str(name)))
