"""Whatever a URL looks like: its password is in no error, no repr and no log record."""

from __future__ import annotations

import logging
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projection_guard import AsyncProjectionGuard, ProjectionGuard
from tests.bed import Happened, happened
from tests.fuzz.settings import few

CANARY = "S3cr3tC4nary"
passwords = st.builds(
    lambda before, after: f"{before}{CANARY}{after}",
    st.text("@:/?#[]%&=+ 'é\\\"x1", max_size=6),
    st.text("@:/?#[]%&=+ 'é\\\"x1", max_size=6),
)
hosts = st.sampled_from(["127.0.0.1", "[::1]", "localhost", "[::1", "no such host", "", "127.0.0.1:x", "a,b"])
queries = st.sampled_from(
    ["", "?password={0}", "?sslpassword={0}&sslmode=require", "?host=127.0.0.1&port=1&password={0}", "?nonsense={0}"]
)
schemes = st.sampled_from(
    ["postgresql+psycopg", "postgresql", "postgres", "postgresql+asyncpg", "mysql", "sqlite", "nothing", "postgresql:"]
)


class Listening(logging.Handler):
    """Keeps every record of every logger."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, with its traceback."""
        self.lines.append(logging.Formatter().format(record))


def told_by(url: str, kind: Any) -> list[str]:
    """Return everything that is said of a guard for this URL, up to a delivery that cannot be taken."""
    told: list[str] = []
    try:
        guard = kind(url, worker="external")
        told.append(repr(guard))
        if kind is ProjectionGuard:
            guard.projection("P", handles=[Happened])(lambda event: None)
            try:
                guard.apply("P", happened("A", 1))
            finally:
                guard.close()
    except Exception as error:
        told += [line for line in traceback.format_exception(error) if "File " not in line]
        told += [str(error), repr(error)]
    return told


@pytest.mark.parametrize("kind", [ProjectionGuard, AsyncProjectionGuard])
def test_a_password_is_told_nowhere(kind: Any) -> None:
    """In the place for it or in the query, quoted or not, in a URL that can be read or in one that cannot."""
    listening, root = Listening(), logging.getLogger()
    root.addHandler(listening)
    level = root.level
    root.setLevel(logging.DEBUG)

    @few(40)
    @example("postgresql", "pa@" + CANARY, "[::1", "", True)
    @example("postgresql", "@" + CANARY, "127.0.0.1", "", False)
    @example("postgresql+psycopg", "@/" + CANARY, "127.0.0.1", "", False)
    @example("postgresql", f"@{CANARY}?", "127.0.0.1", "", False)
    @example("sqlite", CANARY, "127.0.0.1", "?password={0}", True)
    @given(schemes, passwords, hosts, queries, st.booleans())
    def tell(scheme: str, password: str, host: str, query: str, is_quoted: bool) -> None:
        listening.lines.clear()
        written = quote(password, safe="") if is_quoted else password
        port = "" if ":" in host.rpartition("]")[2] else ":1"
        url = f"{scheme}://user:{written}@{host}{port}/none{query.format(quote(password, safe=''))}"
        for line in [*told_by(url, kind), *listening.lines]:
            assert CANARY not in line, (url, line)

    try:
        tell()
    finally:
        root.removeHandler(listening)
        root.setLevel(level)
