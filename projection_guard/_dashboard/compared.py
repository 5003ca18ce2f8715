"""What a verification or a rebuild beside has found, table by table, as far as a page tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .._model import Json
from .wording import plural

__all__ = ["MOST_KEYS", "Differing", "Keys", "differing", "left_out"]

MOST_KEYS: Final = 50
_LEFT_OUT: Final = {
    "waiting": "failed or parked",
    "skipped": "skipped by a person",
    "by_hand": "mended by hand",
    "failed": "failed in the copy only",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Some rows that differ in one way, each told by its key, or by its key and its columns that differ."""

    what: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """A table and its copy. `unexpected` is None where that cannot be seen; `key` names the columns of the keys."""

    table: str
    rows_live: int | None
    rows_copy: int
    missing: int
    unexpected: int | None
    different: int | None
    key: str
    keys: tuple[Keys, ...]
    note: str | None

    @property
    def is_alike(self) -> bool:
        """True where nothing was found to differ."""
        return not (self.missing or self.unexpected or self.different)


def differing(compared: Json) -> tuple[Differing, ...]:
    """Read what a verification has found (an object), or a rebuild beside (a list of tables)."""
    if isinstance(compared, dict):
        tables: Any = compared.get("tables") or ()
        return tuple(_verified(table) for table in tables)
    return tuple(_exchanged(table) for table in compared) if isinstance(compared, list) else ()


def _verified(table: Any) -> Differing:
    keys = (
        ("missing", [_key(each) for each in table["first_missing"]]),
        ("unexpected", [_key(each) for each in table["first_unexpected"]]),
        ("different", [_changed(each) for each in table["first_different"]]),
    )
    return Differing(
        table=table["table"],
        rows_live=table["rows_live"],
        rows_copy=table["rows_copy"],
        missing=table["missing"],
        unexpected=table["unexpected"],
        different=table["different"],
        key=", ".join(table["key"]),
        keys=_keys(keys),
        note=table["note"],
    )


def _exchanged(table: Any) -> Differing:
    """Read what differed when the two were exchanged; a row that differs is one that only either had."""
    sample: Any = table["sample"] or {
        "key": (),
        "only_before": (),
        "only_after": (),
        "changed": (),
        "none_because": None,
    }
    keys = (
        ("only before", [_key(each) for each in sample["only_before"]]),
        ("only in the new one", [_key(each) for each in sample["only_after"]]),
        ("different", [_changed(each) for each in sample["changed"]]),
    )
    return Differing(
        table=table["table"],
        rows_live=table["rows_before"],
        rows_copy=table["rows_after"],
        missing=table["only_after"],
        unexpected=table["only_before"],
        different=None,
        key=", ".join(sample["key"]),
        keys=_keys(keys),
        note=sample["none_because"],
    )


def _keys(found: Sequence[tuple[str, list[str]]]) -> tuple[Keys, ...]:
    return tuple(Keys(what=what, rows=tuple(rows[:MOST_KEYS])) for what, rows in found if rows)


def _key(values: Any) -> str:
    return ", ".join("null" if value is None else str(value) for value in values)


def _changed(row: Any) -> str:
    return f"{_key(row['key'])} in {', '.join(row['columns'])}"


def left_out(compared: Json) -> tuple[str, ...]:
    """Say what a verification has left out on both sides."""
    found: Any = compared.get("left_out") if isinstance(compared, dict) else None
    said: list[str] = []
    for kind, words in _LEFT_OUT.items():
        events: int = found[kind]["events"] if found and kind in found else 0
        if events:
            said.append(f"{plural(events, 'event')} {words}")
    return tuple(said)
