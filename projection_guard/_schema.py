"""The schema's life as the guards see it: make or upgrade the tables, and check at the first contact that they fit.

Both look first and decide then. The revisions run in the caller's transaction, so that a crash in the middle leaves
nothing, and under a lock, so that any number of processes may migrate at once.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from ._dialect import is_mysql
from ._tables import metadata, table_names
from .errors import SchemaError
from .migrations._found import Found, look
from .migrations._place import check_schema_name, enter, leave, refusals_explained
from .migrations._revisions import VERSION_TABLE, Revisions, revisions, upgrade

__all__ = ["check", "check_schema_name", "migrate"]

_MIGRATE: Final = (
    "run guard.migrate() or projection-guard db upgrade, or alembic upgrade heads where your own Alembic environment "
    "holds our revisions"
)
_STAYS: Final = "there each statement stands for itself, and when it is run again it goes on where it stopped"
_HOSTS: Final = "run alembic upgrade heads in your own Alembic environment, which holds our revisions"
_TRAP: Final = (
    " (your alembic_version names none of our revisions: if it should, path_separator = os has cut "
    "projection_guard:migrations/versions in two; write path_separator = newline)"
)


def migrate(connection: Connection, schema: str | None = None) -> None:
    """Create our tables or bring them up to this version, in the caller's transaction, which does nothing else.

    Where they are fit for use already, also by a newer version, it changes nothing. Raises `SchemaError`, and
    `StoreUnavailable` if the connection is lost; roll back then, and nothing was changed.
    """
    check_schema_name(connection.dialect.name, schema)
    stays = _STAYS if is_mysql(connection.dialect) else "nothing was changed"
    with refusals_explained(f"The guard's tables could not be created or upgraded; {stays}"):
        enter(connection, schema)
        try:
            found = look(connection, schema)
            if is_ours_to_upgrade(found, revisions()):
                upgrade(connection, schema)
            elif (complaint := complaint_about(found, revisions())) is not None:
                raise SchemaError(complaint)
        finally:
            leave(connection)


def check(connection: Connection, schema: str | None = None) -> None:
    """Check that this version can work with the tables that are there; four queries. Raises `SchemaError`."""
    with refusals_explained("The guard's tables could not be looked at"):
        found = look(connection, schema)
    if (complaint := complaint_about(found, revisions())) is not None:
        raise SchemaError(complaint)


def is_ours_to_upgrade(found: Found, has: Revisions) -> bool:
    """Return whether `migrate` has something to do: nothing is there yet, or our own version table says older.

    Tables that the host's Alembic environment made are the host's to upgrade, or its next `upgrade` would fail.
    """
    if found.own | found.hosts:
        return not found.hosts and found.own <= has.known and has.newest not in found.own
    return not found.tables or found.is_broken_off


def complaint_about(found: Found, has: Revisions) -> str | None:
    """Return why this version cannot work with what was found and what to do about it, or None if it can.

    A newer revision is accepted as long as every column that we use is there and none is demanded that we do not know:
    releases expand first and contract later, so that old workers survive the first half.
    """
    recorded = found.own | found.hosts
    at = ", ".join(sorted(recorded))
    missing = sorted(table_names - found.tables.keys())
    unfit = _unfit(found)
    if recorded - has.known:
        gone = f"the table {missing[0]} is gone" if missing else unfit
        return gone and f"The database is at {at}, which is too new ({gone}); upgrade the package projection_guard"
    if recorded and has.newest not in recorded:
        how = _HOSTS if found.hosts else _MIGRATE
        return f"The guard's tables are at {at}, older than {has.newest}, which this version needs; {how}"
    if recorded:
        return _complaint_about_recorded(missing, unfit, at)
    return _complaint_about_unrecorded(found, missing, unfit)


def _complaint_about_recorded(missing: list[str], unfit: str | None, at: str) -> str | None:
    if not missing and unfit is None:
        return None
    what = f"of the guard's tables {_listed(missing)} missing" if missing else unfit
    return (
        f"{at} is on record, but {what}: somebody has changed the database since. Restore it; or, if nothing in the "
        f"guard's tables is needed, drop the rest of them and the row of {at}, and {_MIGRATE}"
    )


def _complaint_about_unrecorded(found: Found, missing: list[str], unfit: str | None) -> str:
    if not found.tables:
        return f"The guard's tables are not in the database; {_MIGRATE}{_TRAP if found.host_uses_alembic else ''}"
    if unfit is not None:
        return (
            f"A table that is not the guard's has a name of the guard's: {unfit}; nothing was created. Rename that "
            "table, or give the guard a schema of its own (PostgreSQL: schema=...); a tracker of your own is moved "
            "over by projection-guard db adopt"
        )
    if missing:
        there = ", ".join(sorted(found.tables))
        return (
            f"Of the guard's tables {_listed(missing)} missing, and {VERSION_TABLE} says nothing: an installation was "
            f"broken off. Drop what it left ({there}), then {_MIGRATE}"
        )
    return (
        "The guard's tables are there, but no revision is on record: an installation was broken off, or they were made "
        "by other means. If they are complete, record that with projection_guard.migrations.adopt(connection); else "
        f"drop them and {_MIGRATE}"
    )


def _listed(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _unfit(found: Found) -> str | None:
    """Return the first column that keeps us from reading or writing one of our tables."""
    for name in sorted(found.tables):
        columns, ours = found.tables[name], metadata.tables[name].columns.keys()
        lacking = [each for each in ours if each not in columns]
        if lacking:
            return f"the table {name} has no column {lacking[0]}"
        demanded = [each for each, may_be_left_out in columns.items() if each not in ours and not may_be_left_out]
        if demanded:
            return f"the table {name} demands a column {demanded[0]} that this version does not know"
    return None
