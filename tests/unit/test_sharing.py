"""How followers share partitions, decided from the rows alone."""

from __future__ import annotations

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
    ],
)
def test_shares(found: list[PartitionRow], keep: tuple[int, ...], want: tuple[int, ...], give: tuple[int, ...]) -> None:
    """Everybody comes to his share, and nothing is left without an owner."""
    assert share(found, "me") == Plan(keep=keep, want=want, give=give)
