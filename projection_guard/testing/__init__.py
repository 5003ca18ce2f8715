"""A real PostgreSQL for tests, on any machine: the one you name, a container, or a throw-away cluster of its own.

    with postgres_server() as server, server.database() as url:
        guard = ProjectionGuard(url)

`projection_guard.testing.source_conformance` has the suite for authors of an event source; it needs pytest.

Nothing else in the library imports this module. It uses what the extra `projection-guard[test]` installs.
"""

from __future__ import annotations

from ._found import PostgresFound, PostgresNotFound, find_postgres
from ._server import PostgresServer, postgres_server

__all__ = ["PostgresFound", "PostgresNotFound", "PostgresServer", "find_postgres", "postgres_server"]
