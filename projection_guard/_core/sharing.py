"""How followers share the partitions of a projection: decided from the rows alone, by each for himself.

Everybody gets his share, rounded; who has less, or two less than another one, asks him, and he gives after his batch.
What is free is taken by whoever sees it first, beyond his share, too: the share of one who has died is kept for nobody.
A follower is known by the leases it has and by what it asks for, so nobody has to register.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .._store.partitions import PartitionRow
from ..errors import ConfigurationError
from .projection import Projection

__all__ = ["Plan", "check_layout", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a follower does now: keep or take partitions, ask others for theirs, give up what others asked for."""

    keep: tuple[int, ...]
    want: tuple[int, ...]
    give: tuple[int, ...]


def check_layout(projection: Projection, rows: Sequence[PartitionRow]) -> None:
    """Raise `ConfigurationError` where the partitions are laid out otherwise: events would be looked for in others."""
    if len(rows) != projection.partitions:
        raise ConfigurationError(
            f"Projection {projection.name!r} is followed in {len(rows)} partitions, and partitions="
            f"{projection.partitions} was said. Register it with {len(rows)}; or stop its workers, and lay it out anew "
            "by guard.follow_from(name, sequence, actor=...), at the checkpoint of all partitions"
        )


def share(rows: Sequence[PartitionRow], me: str) -> Plan:
    """Say which partitions to keep or take, which to ask for, and which to give up."""
    owned: Counter[str | None] = Counter(row.owner for row in rows if row.owner is not None)
    alive = set(owned) | {row.wanted_by for row in rows if row.wanted_by is not None} | {me}
    least = len(rows) // len(alive)
    mine = [row for row in rows if row.owner == me]
    asked = [row.partition for row in mine if row.wanted_by not in (None, me)]
    give = asked[: max(len(mine) - least, 0)]
    kept = [row.partition for row in mine if row.partition not in give]
    free = [row.partition for row in rows if row.owner is None and row.wanted_by in (None, me)]
    keep = kept + free
    return Plan(keep=tuple(keep), want=_wishes(rows, me, owned, least, len(keep)), give=tuple(give))


def _wishes(
    rows: Sequence[PartitionRow], me: str, owned: Counter[str | None], least: int, having: int
) -> tuple[int, ...]:
    """Ask those who have most first, and nobody below his own share; what one has asked for already is asked again.

    One beyond the share is asked for where somebody has at least two more: none of them is anybody's share then.
    """
    wishes: list[int] = []
    left = Counter(owned)
    for row in sorted(rows, key=lambda row: (row.wanted_by != me, -owned[row.owner], row.partition)):
        mine = having + len(wishes)
        if mine > least:
            break
        is_others = row.owner not in (None, me) and row.wanted_by in (None, me)
        if is_others and left[row.owner] > max(least, mine + 1):
            wishes.append(row.partition)
            left[row.owner] -= 1
    return tuple(wishes)
