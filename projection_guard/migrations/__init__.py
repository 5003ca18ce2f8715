"""The guard's Alembic revisions, and what a host's own Alembic environment needs to leave our tables alone.

In a host's `env.py`:

    from projection_guard.migrations import include_name, include_object

    context.configure(..., include_name=include_name)          # or include_name=include_name_also(your_function)
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final

from .._tables import table_names

__all__ = ["VERSION_TABLE", "include_name", "include_name_also", "include_object", "is_ours"]

VERSION_TABLE: Final = "projection_guard_alembic_version"
IncludeName = Callable[[str | None, str, MutableMapping[str, Any]], bool]


def is_ours(table: str | None) -> bool:
    """Return whether a table belongs to the guard."""
    return table in table_names or table == VERSION_TABLE


def include_name(name: str | None, type_: str, parent_names: MutableMapping[str, Any]) -> bool:
    """Keep the host's autogenerate from proposing to drop the guard's tables, which it finds in the database only."""
    del parent_names
    return not (type_ == "table" and is_ours(name))


def include_name_also(existing: IncludeName) -> IncludeName:
    """Combine `include_name` with a function of the host's own."""
    return lambda name, type_, parent_names: (
        include_name(name, type_, parent_names) and existing(name, type_, parent_names)
    )


def include_object(item: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:  # noqa: FBT001  # Alembic's signature
    """Leave the guard's tables out for hosts that share a `MetaData` with them."""
    del item, reflected, compare_to
    return not (type_ == "table" and is_ours(name))
