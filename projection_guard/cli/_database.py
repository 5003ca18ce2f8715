"""Commands for the guard's tables: db upgrade, check, sql; `_adopting` has db adopt."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Final

from sqlalchemy import Connection

from ..migrations import upgrade_sql
from ..migrations._found import look
from ..migrations._revisions import revisions
from ._command import Asked, Call, Command, at_database
from ._exits import Exit

__all__ = ["DATABASE_COMMANDS", "tell"]


async def _upgrade(call: Call) -> int:
    await call.service.migrate()
    return await tell(call)


async def _check(call: Call) -> int:
    await call.service.check_schema()
    return await tell(call)


async def tell(call: Call) -> int:
    """Tell which revision the tables are at."""
    schema = call.service.context.schema

    def recorded(connection: Connection) -> list[str]:
        found = look(connection, schema)
        return sorted(found.own | found.hosts)

    at, newest = await call.service.on_schema(recorded), revisions().newest
    told = {"revisions": at, "newest": newest, "is_newest": newest in at}
    said = f"The guard's tables are at {', '.join(at)}"
    is_newer = "" if newest in at else f", newer than {newest}, which this version has; it can work with them"
    call.screen.answer(told, lambda: call.screen.say(f"{said}{is_newer}."))
    return Exit.FINE


def _sql(asked: Asked) -> int:
    sql = upgrade_sql(asked.options.dialect, asked.options.sql_schema)
    asked.screen.answer({"dialect": asked.options.dialect, "sql": sql}, lambda: asked.screen.raw(sql))
    return Exit.FINE


def _sql_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--dialect",
        choices=("postgresql", "sqlite", "mariadb", "mysql"),
        default="postgresql",
        help="whose SQL (postgresql)",
    )
    parser.add_argument("--schema", dest="sql_schema", metavar="NAME", help="the schema to make the tables in")


DATABASE_COMMANDS: Final = (
    Command(
        words="db upgrade",
        help="make the guard's tables, or bring them up to this version",
        run=at_database(_upgrade, makes_it=True),
    ),
    Command(
        words="db check", help="look whether the guard's tables are those of this version", run=at_database(_check)
    ),
    Command(
        words="db sql",
        help="write the SQL that makes the tables in an empty database",
        run=_sql,
        options=_sql_options,
        has_guard=False,
    ),
)
