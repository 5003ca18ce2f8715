"""A process dies at every write to SQLite's files, or such a write is refused, and it lives on: the end is exact."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bed import Bed
from tests.faults.crashes import KINDS
from tests.faults.disk import Disk
from tests.faults.sweeps import Sweep, handlers, is_left_out, places
from tests.faults.zygote import End, Zygote

pytestmark = pytest.mark.skipif(
    not Disk.found(), reason="this Python's SQLite shows no functions to replace its writes"
)


@pytest.mark.parametrize("deed", ["kill", "full", "broken"])
@pytest.mark.parametrize(("name", "handler"), [(name, handler) for name in KINDS for handler in handlers(name)])
def test_a_process_dies_or_is_refused_at_any_write_to_the_disk(
    sqlite_bed: Bed, zygote: Zygote, tmp_path: Path, name: str, handler: str, deed: str
) -> None:
    """SIGKILL right before write or sync 1, 2, 3, ...; or ENOSPC from there on, or EIO there, and it lives on."""
    if is_left_out(sqlite_bed, name, handler):
        pytest.skip("of the long kinds CI takes every other way; all with PROJECTION_GUARD_FAULTS=every")
    sweep = Sweep(sqlite_bed, zygote, name, handler, tmp_path / "journal", url=sqlite_bed.url)

    def has_happened(place: int, end: End) -> bool:
        return end.is_killed or end.writes >= place

    reached = sweep.run(places(sqlite_bed, name), lambda pid, place: place, has_happened, disk=deed)
    print(f"{name}, {handler}, {sqlite_bed.kind}, {deed}: up to {reached} writes and syncs")  # noqa: T201
    assert reached >= 2 or name == "redelivered"  # it writes nothing
