"""A shell with an application, once on each database and with each kind of guard, and what has happened there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, insert, text

from projection_guard import ProjectionGuard
from projection_guard._tables import metadata
from projection_guard.testing import PostgresServer
from tests.bed import TWO_WAYS
from tests.cli import shop
from tests.cli.shell import Shell, Spawner


def _tables(engine: Engine) -> None:
    key = "INTEGER PRIMARY KEY AUTOINCREMENT" if engine.dialect.name == "sqlite" else "bigserial PRIMARY KEY"
    log = f"sequence {key}, event_id varchar(50), event_type varchar(50), stream_id varchar(50)"
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (event_id varchar(50))"))
        connection.execute(text("CREATE TABLE totals (event_id varchar(50) PRIMARY KEY)"))
        connection.execute(text(f"CREATE TABLE log ({log})"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database, and a shell there."""

    shell: Shell
    engine: Engine

    @contextmanager
    def application(self, which: str = "guard") -> Iterator[ProjectionGuard]:
        """Return the application's guard in this process, blocking and without a worker."""
        told = {name: self.shell.env[name] for name in self.shell.env if name.startswith("SHOP_")}
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)
        try:
            made: Any = getattr(shop, which)("blocking")
            made._worker_choice = "external"
            with made:
                yield made
        finally:
            while shop.sources:
                shop.sources.pop().close()
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def publish(self, *events: dict[str, object]) -> None:
        """Let the application publish."""
        with self.application() as guard:
            for each in events:
                guard.publisher().publish(each)
            guard.worker().run_once()

    def append(self, *events: dict[str, object]) -> None:
        """Append to the log, whose numbers are its own."""
        rows = [{name: each[name] for name in ("event_id", "event_type", "stream_id")} for each in events]
        with self.engine.begin() as connection:
            connection.execute(
                text("INSERT INTO log (event_id, event_type, stream_id) VALUES (:event_id, :event_type, :stream_id)"),
                rows,
            )

    def follow(self) -> None:
        """Let the follower come to the log's end."""
        with self.application("follower") as guard:
            guard.catch_up()

    def value(self, sql: str, **parameters: object) -> Any:
        """Look up one value past the library."""
        with self.engine.connect() as connection:
            return connection.execute(text(sql), parameters).scalar_one()

    def change(self, sql: str, **parameters: object) -> None:
        """Change something past the library."""
        with self.engine.begin() as connection:
            connection.execute(text(sql), parameters)

    def insert(self, table: str, **values: object) -> None:
        """Add a row past the library."""
        with self.engine.begin() as connection:
            connection.execute(insert(metadata.tables[table]).values(**values))

    def everything(self) -> dict[str, list[str]]:
        """Return every row of the guard's tables, to say later that nothing has changed."""
        with self.engine.connect() as connection:
            return {name: sorted(_rows(connection, name)) for name in metadata.tables}


def _rows(connection: Connection, table: str) -> list[str]:
    return [repr(row) for row in connection.execute(text(f"SELECT * FROM {table}"))]


@pytest.fixture(scope="session")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    """What runs commands."""
    made = Spawner(tmp_path_factory.mktemp("spawner"))
    yield made
    made.close()


@contextmanager
def _place(request: pytest.FixtureRequest, spawner: Spawner, folder: Path) -> Iterator[Place]:
    kind, database = request.param
    with ExitStack() as stack:
        if database == "sqlite":
            path = folder / "shop.db"
            shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
            url = f"sqlite:///{path}"
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            template = request.getfixturevalue("postgres_template")
            url = stack.enter_context(server.database(template=template))
        engine = create_engine(url)
        stack.callback(engine.dispose)
        _tables(engine)
        yield Place(shell=Shell(spawner, folder, kind=kind, url=url), engine=engine)


@pytest.fixture(params=TWO_WAYS, ids="-".join)
def place(request: pytest.FixtureRequest, spawner: Spawner, tmp_path: Path) -> Iterator[Place]:
    """A database of the test's own, in which nothing has happened."""
    with _place(request, spawner, tmp_path) as made:
        yield made


@pytest.fixture(scope="module", params=TWO_WAYS, ids="-".join)
def seen(request: pytest.FixtureRequest, spawner: Spawner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A database in which much has happened, for tests that look: see `happen`."""
    with _place(request, spawner, tmp_path_factory.mktemp("seen")) as made:
        happen(made)
        yield made


def happen(place: Place) -> None:
    """Let things happen.

    Orders: A#1 has failed and A#2 waits, B#1 is exhausted, C#1 was skipped by eve and its stream is tainted, D#1 was
    applied. Mails has applied all. Totals has followed a log of three events, and was replayed once.
    """
    place.shell.breaks("A", "B=KeyError", "C")
    streams = ("A", "A", "B", "C", "D")
    ns = (1, 2, 1, 1, 1)
    with place.application() as guard:
        for number, (stream, n) in enumerate(zip(streams, ns, strict=True), start=1):
            guard.publisher().publish(shop.event(stream, n, number))
        (skipped,) = [each for each in guard.failures("Orders").items if each.stream_id == "C"]
        guard.resolve(skipped.id, "skip", actor="eve", note="a test order")
        guard.worker().run_once()
    place.append(shop.event("X", 1), shop.event("X", 2), shop.event("Y", 1))
    place.follow()
    with place.application("follower") as guard:
        guard.replay("Totals", actor="eve")
