"""Rebuilds over an executor whose processes are killed: nothing lost, nothing applied twice, in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from projection_guard import ExecutorLost
from tests.bed import Bed
from tests.faults.processes import ROOT
from tests.following.sliced import PROGRAM, Chains, pool_of


def test_a_process_of_the_pool_is_killed_in_the_middle_of_a_slice(diagonal_bed: Bed, tmp_path: Path) -> None:
    """The pool is broken: the job stays where it is, and goes on with another one."""
    chains = Chains(diagonal_bed)
    chains.log.append_many(120, 6)
    factory = chains.factory(kills_at="S2#10", mark=str(tmp_path / "killed"))
    with pool_of(2) as pool, pytest.raises(ExecutorLost, match=r"runs nothing any more.*resume_replay"):
        chains.guard.rebuild("P", executor=pool, guard_factory=factory, actor="alice")
    (job,) = chains.guard.replays("P").items
    assert not job.is_finished
    assert chains.model() != chains.expected()
    with pool_of(2) as pool:
        job = chains.guard.resume_replay(job.id, executor=pool, guard_factory=factory, actor="alice")
    assert (job.status, job.events_replayed, job.events_failed) == ("completed", 120, 0)
    assert chains.model() == chains.expected()


def test_an_event_that_kills_its_process_becomes_a_failure(blocking_bed: Bed) -> None:
    """Two processes die of it, the next one does not call it any more; the other streams are complete.

    Each time the pool is broken, and replaced by whoever knows how: `executor=` is a callable that makes one.
    """
    chains = Chains(blocking_bed)
    chains.log.append_many(60, 3)
    factory = chains.factory(kills_at="S2#10", mark="/nowhere/to/be/touched", kills_always=True)
    job = chains.guard.rebuild("P", executor=lambda: pool_of(1), guard_factory=factory, slices=2, actor="alice")
    assert (job.status, job.events_failed) == ("completed", 1)
    assert chains.guard.failures("P").items[0].error_type.endswith("HandlerDied")
    assert chains.model() == chains.expected("S2#10")


def test_whoever_hands_out_the_slices_is_killed(diagonal_bed: Bed, tmp_path: Path) -> None:
    """The job goes on where it stopped, beside tasks of his that are still under way."""
    chains = Chains(diagonal_bed)
    chains.log.append_many(150, 6)
    mark = tmp_path / "stands"
    order = {"url": diagonal_bed.url, "is_async": False, "pause": 0.02, "stands_at": "S2#10", "mark": str(mark)}
    arguments = [sys.executable, "-m", PROGRAM, json.dumps(order)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    coordinator = subprocess.Popen(arguments, env=environment, start_new_session=True)
    try:
        diagonal_bed.wait_until(mark.exists)
        coordinator.kill()
        is_open = diagonal_bed.value("SELECT count(*) FROM projection_replays WHERE finished_at IS NULL")
        mark.write_text("go on")
        assert is_open
        (job,) = chains.guard.replays("P").items
        with pool_of(2) as pool:
            job = chains.guard.resume_replay(job.id, executor=pool, guard_factory=chains.factory(), actor="bob")
    finally:
        os.killpg(coordinator.pid, signal.SIGKILL)  # processes of a pool outlive whoever was killed
        coordinator.wait()
    assert (job.status, job.events_replayed, job.events_failed) == ("completed", 150, 0)
    assert chains.model() == chains.expected()


def test_dask_spreads_it_over_a_cluster(postgres_bed: Bed) -> None:
    """Two processes of a local cluster, by `client.get_executor()`."""
    if postgres_bed.is_async:
        pytest.skip("one way is enough of what is the same in both")
    distributed = pytest.importorskip("distributed", reason="no Dask here: install distributed for this test")
    chains = Chains(postgres_bed, failing=["S3#5"])
    chains.log.append_many(300, 12)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        job = chains.guard.rebuild("P", executor=executor, guard_factory=chains.factory(), slices=4, actor="alice")
    assert (job.status, job.events_replayed, job.events_failed) == ("completed", 300 - 21, 1)
    assert chains.model() == chains.expected("S3#5")
