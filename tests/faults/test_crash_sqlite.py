"""A process dies at every write to SQLite's files, or such a write is refused, and it lives on: the end is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import pytest

from tests.faults.disk import Disk
from tests.faults.sweeps import Sweep, bed_of, places, ways
from tests.faults.zygote import End, Zygote
from tests.turns import IS_EVERY

pytestmark = pytest.mark.skipif(
    not Disk.found(), reason="this Python's SQLite shows no functions to replace its writes"
)


DEEDS: Final = ("kill", "full", "broken")
WAYS = [
    (name, handler, kind, deed)
    for index, (name, handler, kind) in enumerate(ways(shift=0))
    for deed in (DEEDS if IS_EVERY else [DEEDS[index % 3]])
]


@pytest.mark.parametrize(("name", "handler", "kind", "deed"), WAYS)
def test_a_process_dies_or_is_refused_at_any_write_to_the_disk(
    sqlite_url: str,
    zygote: Zygote,
    tmp_path: Path,
    name: str,
    handler: str,
    kind: Literal["blocking", "async"],
    deed: str,
) -> None:
    """SIGKILL right before write or sync 1, 2, 3, ...; or ENOSPC from there on, or EIO there, and it lives on."""

    def has_happened(place: int, end: End) -> bool:
        return end.is_killed or end.writes >= place

    with bed_of(sqlite_url, kind) as bed:
        sweep = Sweep(bed, zygote, name, handler, tmp_path / "journal", url=sqlite_url)
        reached = sweep.run(places(name, strides=True), lambda pid, place: place, has_happened, disk=deed)
    print(f"{name}, {handler}, {kind}, {deed}: up to {reached} writes and syncs")  # noqa: T201
    assert reached >= 2 or name == "redelivered"  # it writes nothing
