"""What a host's own Alembic environment needs to leave our tables alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from .._tables import table_names
from ._mysql import GENERATIONS
from ._revisions import VERSION_TABLE

__all__ = ["all_of", "include_name", "include_object"]

P = ParamSpec("P")


def include_name(name: str | None, type_: str, parent_names: object) -> bool:
    """Keep the host's autogenerate from proposing to drop our tables, which it finds in the database only."""
    del parent_names
    return not (type_ == "table" and _is_ours(name))


def include_object(item: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:  # noqa: FBT001  # Alembic's signature
    """Do the same for a host whose `target_metadata` holds our tables too: it proposes to create none of them."""
    del item, reflected, compare_to
    return not (type_ == "table" and _is_ours(name))


def all_of(*filters: Callable[P, bool]) -> Callable[P, bool]:
    """Return a filter that lets through what all of these do: `include_name=all_of(include_name, your_own)`."""
    return lambda *args, **kwargs: all(each(*args, **kwargs) for each in filters)


def _is_ours(name: str | None) -> bool:
    return name in table_names or name in (VERSION_TABLE, GENERATIONS)
