"""A guard over a database with very much of everything, and its pages, asked for without a framework.

with crowded(url, size) as crowd:
    crowd.look("failures", {"by": "event"})    # a page, and the statements and seconds that it took
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, create_engine, event, text

from projection_guard import ProjectionGuard, SqlEventSource
from projection_guard._dashboard.site import Dashboard
from projection_guard._desk import service_of
from projection_guard._http.access import Actor
from projection_guard._http.api import Settings
from projection_guard._http.limiting import Limiter
from projection_guard._http.messages import Request, Response
from projection_guard._io.protocol import drive
from tests.bed import Happened
from tests.dashboard.rows import Size, fill, make_log
from tests.following.logs import rebuilt

__all__ = ["Crowd", "Looked", "crowded", "opened"]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A page, and what it took: of the guard's database, of the log's, and of time."""

    response: Response
    statements: tuple[str, ...]
    of_the_log: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """The databases, the guard over them, and its dashboard."""

    engine: Engine
    log_engine: Engine
    guard: ProjectionGuard
    dashboard: Dashboard
    actor: Actor = field(default_factory=lambda: Actor(name="olga", role="operator"))

    def look(self, path: str, query: Mapping[str, str] | None = None) -> Looked:
        """Ask for a page."""
        request = Request(
            method="GET",
            path=f"/dashboard/{path}",
            host="localhost",
            path_parameters={"path": path},
            query=tuple((query or {}).items()),
            headers={},
            body=b"",
        )
        with noting(self.engine) as statements, noting(self.log_engine) as of_the_log:
            began = time.perf_counter()
            response = drive(self.dashboard.respond(request, self.actor))
            took = time.perf_counter() - began
        return Looked(response=response, statements=tuple(statements), of_the_log=tuple(of_the_log), seconds=took)


@contextmanager
def noting(engine: Engine) -> Generator[list[str]]:
    """Note what is said to a database."""
    seen = list[str]()

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def opened(url: str, names: Iterable[str]) -> Generator[Crowd]:
    """Open a guard over a database that has our tables, with projections that follow an empty log."""
    engine, log_engine = create_engine(url), create_engine(url)
    with engine.begin() as connection:
        make_log(connection)
    source = SqlEventSource(log_engine, "log", decode=rebuilt)
    with ProjectionGuard(engine, source=source, worker="external") as guard:
        for name in names:
            guard.projection(name, handles=[Happened])(apply)
        guard.health()  # makes their rows
        settings = Settings(is_closed=False, limiter=Limiter(None, "memory://"), payloads_for="operator")
        dashboard = Dashboard(service_of(guard), settings, name="Crowd")
        yield Crowd(engine=engine, log_engine=log_engine, guard=guard, dashboard=dashboard)
    engine.dispose()
    log_engine.dispose()


@contextmanager
def crowded(url: str, size: Size) -> Generator[Crowd]:
    """Fill a database that has our tables, and open a guard over it."""
    with opened(url, (f"P{number}" for number in range(size.projections))) as crowd:
        with crowd.engine.begin() as connection:
            fill(connection, size)
        if crowd.engine.dialect.name == "postgresql":  # what autovacuum does within a minute
            with crowd.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE"))
        yield crowd


def apply(event: Happened, connection: Connection) -> None:
    """Do nothing: what is looked at has happened."""
