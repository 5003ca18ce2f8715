"""Message DB for tests: the schema that npm has, in the suite's PostgreSQL, and its own `write_message`."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url

from projection_guard.testing import PostgresServer

__all__ = ["message_db_url", "message_store", "write", "writers"]

PACKAGE = "@eventide/message-db@1.3.1"
# The order of the package's install.sh, without what is of a server and not of a database: the role and what it may do.
# Nor the extension pgcrypto: it is asked for `gen_random_uuid()`, which PostgreSQL has had by itself since release 13.
PARTS = ("schema/message-store", "tables/messages", "types/message")
FUNCTIONS = (
    "message-store-version",
    "hash-64",
    "acquire-lock",
    "category",
    "is-category",
    "id",
    "cardinal-id",
    "stream-version",
    "write-message",
    "get-stream-messages",
    "get-category-messages",
    "get-last-stream-message",
)
INDEXES = ("messages-id", "messages-stream", "messages-category")


class Missing(Exception):
    """Says what is not there."""


@cache
def _scripts() -> tuple[str, ...]:
    """Return the package's SQL. Raises `Missing`."""
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("there is no npm here")
    with TemporaryDirectory() as folder:
        packed = subprocess.run(
            [npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        if packed.returncode:
            raise Missing(f"npm has no {PACKAGE}: {packed.stderr.strip()[-200:]}")
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        database = Path(folder, "package", "database")
        names = [*PARTS, *(f"functions/{name}" for name in FUNCTIONS), *(f"indexes/{name}" for name in INDEXES)]
        return tuple((database / f"{name}.sql").read_text() for name in names)


def _install(url: str) -> None:
    with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)) as there:
        if not there.execute("SELECT FROM pg_proc WHERE proname = 'gen_random_uuid'").rowcount:
            raise Missing("this PostgreSQL has no gen_random_uuid()")
        for script in _scripts():
            there.execute(script.encode())


@pytest.fixture(scope="module")
def message_db_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with Message DB in it, for the tests of a file; the test is skipped where it cannot be installed."""
    try:
        template = postgres_server.template("message_db", _install)
    except (Missing, subprocess.TimeoutExpired) as error:
        pytest.skip(f"Message DB cannot be installed: {error}")
    with postgres_server.database(template=template) as url:
        yield url


def writers(url: str) -> Engine:
    """Return an engine for writers: the store's functions are found, as its clients set that."""
    return create_engine(url, connect_args={"options": "-c search_path=message_store,public"})


@pytest.fixture
def message_store(message_db_url: str) -> Iterator[Engine]:
    """An empty store, with an engine for writers."""
    engine = writers(message_db_url)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE messages RESTART IDENTITY"))
    yield engine
    engine.dispose()


_WRITE = text("SELECT write_message(:id, :stream, 'Happened', CAST(:data AS jsonb), CAST(:metadata AS jsonb))")


def write(connection: Connection, streams: Iterable[str], **data: Any) -> list[str]:
    """Write a message to each stream, by the store's own function; return their ids."""
    rows = [{"id": str(uuid4()), "stream": stream, "data": json.dumps(data), "metadata": None} for stream in streams]
    for row in rows:
        connection.execute(_WRITE, row)
    return [str(row["id"]) for row in rows]
