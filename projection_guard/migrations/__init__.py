"""The guard's Alembic revisions, and what people who run their database with Alembic need beside them.

In a host's `env.py`, so that its autogenerate leaves our tables alone:

    from projection_guard.migrations import include_name

    context.configure(..., include_name=include_name)      # or include_name=all_of(include_name, your_own)

`docs/migrations.md` shows both ways of running the revisions, and the traps.
"""

from __future__ import annotations

from ._adopting import adopt
from ._filters import all_of, include_name, include_object
from ._revisions import VERSION_TABLE, upgrade_sql

__all__ = ["VERSION_TABLE", "adopt", "all_of", "include_name", "include_object", "upgrade_sql"]
