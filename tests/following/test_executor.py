"""Rebuilds that are spread over an executor: slices of the streams, each replayed in order, as one alone would."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from projection_guard import Replay
from tests.bed import Bed
from tests.following.sliced import Chains, pool_of


@pytest.fixture(scope="module")
def processes() -> Generator[ProcessPoolExecutor]:
    """A pool of processes, used by one test after the other."""
    with pool_of(2) as pool:
        yield pool


def sums(job: Replay) -> tuple[str, int, int, int, float]:
    """Return a job's status, what it has replayed, skipped and seen failed, and its progress."""
    return job.status, job.events_replayed, job.events_skipped, job.events_failed, job.progress


def test_first(bed: Bed, processes: ProcessPoolExecutor) -> None:
    """X"""
    chains = Chains(bed)
    chains.log.append_many(300, 7)
    job = chains.guard.rebuild("P", actor="alice")
    assert chains.model() == chains.expected()
    alone, checkpoint = sums(job), chains.guard.checkpoint("P")
    assert alone == ("completed", 300, 0, 0, 1.0)
    with ThreadPoolExecutor(3) as pool:
        job = chains.guard.rebuild("P", executor=pool, actor="alice")
    assert sums(job) == alone
    assert job.position == 300
    assert chains.model() == chains.expected()
    after = chains.guard.checkpoint("P")
    assert (after.last_event_sequence, after.last_event_id, after.events_processed) == (
        checkpoint.last_event_sequence,
        checkpoint.last_event_id,
        checkpoint.events_processed,
    )
    job = chains.guard.rebuild("P", executor=processes, guard_factory=chains.factory(), slices=3, actor="alice")
    assert sums(job) == alone
    assert chains.model() == chains.expected()
    assert chains.log.cursors() == [300]
