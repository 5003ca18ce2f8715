"""The process whose children die outlives what a test could not do to one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.sweeps import Sweep, bed_of
from tests.faults.zygote import Zygote


def test_a_child_that_could_not_be_broken_is_gone_before_the_next(
    sqlite_url: str, zygote: Zygote, tmp_path: Path
) -> None:
    """The next order is not read by it."""

    def refuse(pid: int) -> None:
        raise PermissionError(pid)

    with bed_of(sqlite_url, "blocking") as bed:
        sweep = Sweep(bed, zygote, "applied", "joined", tmp_path / "journal", url=sqlite_url)
        with pytest.raises(PermissionError):
            sweep.once(refuse)
        assert sweep.once(lambda _: None).returned
