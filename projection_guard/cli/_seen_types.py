"""What the doctor makes of the types of events in a log: which projections name some that nobody has seen there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from .._core.projection import Projection
from .._source import SeenTypes
from ._findings import Finding

__all__ = ["named_types", "of_types"]

_ALIKE: Final = 0.85
"""How like a name has to be one that is seen, to be taken for mistyped where others of its projection are seen."""
_SHOWN: Final = 8


def named_types(registered: Mapping[str, Projection]) -> list[str]:
    """Return the types that followed projections take by their names: whether there are such events can be told."""
    return sorted({name for each in registered.values() for name in _named(each)})


def of_types(registered: Mapping[str, Projection], seen: SeenTypes) -> Iterator[Finding]:
    """Judge each projection by what the log shows. A log in which there is nothing yet says nothing."""
    found = [each for name in sorted(registered) for each in _of_one(registered[name], seen)] if seen.found else []
    yield from found
    if not found:
        yield Finding(
            check="types", verdict="ok", detail="the log has events for each projection that names their types"
        )


def _of_one(projection: Projection, seen: SeenTypes) -> Iterator[Finding]:
    """Tell a projection none of whose types is there, or one of whose names is nearly that of a type it leaves out."""
    types = _named(projection)
    unseen = types - seen.found
    left_out = sorted(seen.found - types)
    close = {name: get_close_matches(name, left_out, n=1, cutoff=_ALIKE) for name in unseen}
    told = sorted(unseen if unseen == types else (name for name in unseen if close[name]))
    if not told:
        return
    meant = sorted({match for name in told for match in close[name]})
    question = f": was {_listed(meant)} meant?" if meant else "."
    ends = f"the log's oldest {seen.limit} events and its newest {seen.limit}"
    yield Finding(
        check="types",
        verdict="warning",
        detail=f"no event of type {_listed(told)} is {'in the log' if seen.is_complete else f'among {ends}'}; "
        f"types seen: {_listed(sorted(seen.found))}",
        advice=f"handles= names types as the log has them, letter by letter{question} Where such events are still to "
        "come, nothing is wrong",
        projection_name=projection.name,
    )


def _named(projection: Projection) -> frozenset[str]:
    return projection.types or frozenset() if projection.is_followed else frozenset()


def _listed(types: Sequence[str]) -> str:
    shown = ", ".join(repr(each) for each in types[:_SHOWN])
    more = len(types) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
