"""The environment in which our revisions run: from `guard.migrate()` on its connection, or from the command line.

On the command line the database is told by `-x url=...` or `PROJECTION_GUARD_DATABASE_URL`.
"""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from projection_guard._schema import configure_options
from projection_guard._tables import metadata


def run(connection: Connection) -> None:
    """Run what was asked for on this connection."""
    context.configure(connection=connection, target_metadata=metadata, **configure_options())
    with context.begin_transaction():
        context.run_migrations()


def url() -> str:
    """Return the database that the command line names."""
    given = context.get_x_argument(as_dictionary=True).get("url")
    return given or os.environ.get("PROJECTION_GUARD_DATABASE_URL") or "sqlite:///projection_guard.db"


def main() -> None:
    """Run on the connection that was handed in, or on one of our own."""
    handed_in = context.config.attributes.get("connection")
    if handed_in is not None:
        run(handed_in)
    elif context.is_offline_mode():
        context.configure(url=url(), target_metadata=metadata, literal_binds=True, **configure_options())
        with context.begin_transaction():
            context.run_migrations()
    else:
        engine = create_engine(url())
        with engine.begin() as connection:
            run(connection)
        engine.dispose()


main()
