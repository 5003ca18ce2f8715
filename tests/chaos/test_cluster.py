"""What a run makes on the machine is gone after it, however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from projection_guard.testing import _supervisor as supervisor
from tests.chaos.cluster import small_disk
from tests.chaos.processes import ROOT, wait_for

LONG = """
import sys
from pathlib import Path
from projection_guard.testing import _supervisor as supervisor
from tests.chaos.cluster import cluster, small_disk
with small_disk(supervisor.account(), 200) as disk, cluster(disk) as made:
    print(*(path for path in (disk, made.log.parent, made.data) if path), flush=True)
    sys.stdin.readline()
"""


def test_a_small_disk_is_gone_after_an_error() -> None:
    """It is unmounted, not merely emptied."""
    made: list[Path | None] = []

    def fail() -> None:
        with small_disk(supervisor.Account(), 8) as disk:
            made.append(disk)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not any(disk.exists() for disk in made if disk is not None)


def test_nothing_is_left_of_a_run_that_was_killed() -> None:
    """Neither a file system, nor a cluster's folders in memory."""
    with subprocess.Popen(
        [sys.executable, "-c", LONG], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folders = [Path(word) for word in process.stdout.readline().split()]
        process.kill()
    assert folders
    assert wait_for(lambda: not any(folder.exists() for folder in folders), within=60)
