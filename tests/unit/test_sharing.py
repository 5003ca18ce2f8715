"""How followers share partitions, decided from the rows alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from projection_guard._core.sharing import Plan, share
from projection_guard._store.partitions import PartitionRow


def rows(*each: str) -> list[PartitionRow]:
    """Make rows of words: "a" is owned by a, "-" is free, "a<b" is a's and wished for by b."""
    made = []
    for number, word in enumerate(each):
        owner, _, wisher = word.partition("<")
        made.append(
            PartitionRow(
                partition=number,
                cursor=0,
                owner=None if owner == "-" else owner,
                taken_by=None if owner == "-" else owner,
                wanted_by=wisher or None,
                hand_first=None,
                hand_last=None,
                hand_is_lone=False,
            )
        )
    return made


@pytest.mark.parametrize(
    ("found", "keep", "want", "give"),
    [
        (rows("-", "-", "-", "-"), (0, 1, 2, 3), (), ()),
        (rows("a", "a", "a", "a"), (), (0, 1), ()),
        (rows("a<me", "a<me", "a", "a"), (), (0, 1), ()),
        (rows("me<b", "me<b", "me", "me"), (2, 3), (), (0, 1)),
        (rows("me<b", "me", "b", "b"), (0, 1), (), ()),
        (rows("me", "me", "dead", "-"), (0, 1, 3), (), ()),
        (rows("me", "me", "b", "-<b"), (0, 1), (), ()),
        (rows("b", "b", "b", "-<me"), (3,), (0,), ()),
        (rows("me", "b", "c", "c", "c"), (0,), (2,), ()),
        (rows("me", "b", "b", "c", "c"), (0,), (), ()),
        (rows("me<b", "me", "me", "b", "c"), (1, 2), (), (0,)),
        (rows(*"bbbbbbb"), (), (0, 1, 2), ()),
    ],
    ids=[
        "who is alone takes everything",
        "who has nothing asks for his share",
        "he asks again for the same ones",
        "who has more gives what is asked for",
        "and keeps his own share",
        "what is free is taken beyond one's share",
        "what was given up for another one is left to him",
        "and taken by him, who goes on asking",
        "who has two less than another one asks him",
        "who has one less does not",
        "and he gives",
        "who comes new asks for half of them, rounded down",
    ],
)
def test_shares(found: list[PartitionRow], keep: tuple[int, ...], want: tuple[int, ...], give: tuple[int, ...]) -> None:
    """Everybody comes to his share, and nothing is left without an owner."""
    assert share(found, "me") == Plan(keep=keep, want=want, give=give)


def rounds(found: list[PartitionRow], members: str) -> list[PartitionRow]:
    """Let each member do what he plans, one after the other, until nobody asks for anything."""
    for _ in range(20):
        before = found
        for me in members:
            plan = share(found, me)
            for row in found:
                if row.partition in plan.give:
                    found = [replace(each, owner=None) if each is row else each for each in found]
                elif row.partition in plan.keep:
                    wisher = None if row.wanted_by == me else row.wanted_by
                    kept = replace(row, owner=me, wanted_by=wisher)
                    found = [kept if each is row else each for each in found]
                elif row.partition in plan.want:
                    found = [replace(each, wanted_by=me) if each is row else each for each in found]
        if found == before:
            return found
    raise AssertionError(f"they never come to rest: {found}")


@pytest.mark.parametrize("start", ["aaaaaaaa", "aaaaabc", "aaabbcd", "aaaaaaab----c", "ab", "a"])
def test_after_a_while_nobody_has_two_more_than_another_one(start: str) -> None:
    """Also of what one who has died left to the first who saw it; and then they rest."""
    members = "abc"
    shares = Counter(row.owner for row in rounds(rows(*start.replace("d", "-")), members))
    numbers = [shares[me] for me in members]
    assert sum(numbers) == len(start)
    assert max(numbers) - min(numbers) <= 1
