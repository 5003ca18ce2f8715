"""What verifications are told with: everything that one may not touch, and what it has found, in few words."""

from __future__ import annotations

from typing import Any

from projection_guard import Replay
from tests.bed import Bed
from tests.flow.acting import snapshot

__all__ = ["copies", "found", "left_out", "row_counts", "untouched"]


def untouched(bed: Bed, *tables: str) -> dict[str, Any]:
    """Return all that is on record of the live projection and its read model, but for what is written of the job."""
    rows = {table: sorted(repr(row) for row in bed.rows(f"SELECT * FROM {table}")) for table in tables}
    if bed.database == "postgresql":
        rows["sequences"] = [repr(row) for row in bed.rows("SELECT last_value, is_called FROM entries_id_seq")]
    own = snapshot(bed)
    own.pop("projection_audit_log")  # who asked for it
    live = "SELECT * FROM projection_partitions WHERE partition >= 0"
    return {**own, **rows, "partitions": [repr(row) for row in bed.rows(live)]}


def copies(bed: Bed) -> list[str]:
    """Return what is left of copies, under the names that they are given or under `copied`."""
    if bed.database == "sqlite":
        rows = bed.rows(
            "SELECT name FROM sqlite_schema "
            "WHERE name LIKE 'verify%' OR name LIKE 'copied%' OR name LIKE 'projection_guard_live%'"
        )
    else:
        rows = bed.rows("SELECT nspname AS name FROM pg_namespace WHERE nspname LIKE 'verify%' OR nspname = 'copied'")
    aside = bed.value("SELECT count(*) FROM projection_set_aside_events")
    return [row.name for row in rows] + ["an event is set aside"] * aside


def found(job: Replay) -> dict[str, Any]:
    """Return what a verification has found: of each table that differs, which rows are missing, too many, different."""
    assert (job.status, job.error) == ("completed", None)
    compared: Any = job.compared
    told: dict[str, Any] = {}
    for table in compared["tables"]:
        changed = [(*row["key"], *row["columns"]) for row in table["first_different"]]
        rows = [table["first_missing"], table["first_unexpected"], changed]
        if any(rows):
            told[table["table"]] = [[tuple(row) for row in kind] for kind in rows]
    rows_differ = any(map(any, row_counts(job).values()))
    assert job.drifted is bool(rows_differ or compared["left_out"]["failed"]["events"])
    return told


def row_counts(job: Replay) -> dict[str, tuple[int, int | None, int]]:
    """Return how many rows of each table are missing, too many and different."""
    compared: Any = job.compared
    return {table["table"]: (table["missing"], table["unexpected"], table["different"]) for table in compared["tables"]}


def left_out(job: Replay) -> dict[str, list[str]]:
    """Return which events the copy has left out, by why."""
    compared: Any = job.compared
    return {why: omitted["first"] for why, omitted in compared["left_out"].items() if omitted["events"]}
