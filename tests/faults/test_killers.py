"""Events of the log that end their process, and events for which there is not enough memory.

Each attempt is made by a child of this process, really ended: by `os._exit`, or by the kernel for want of memory.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.bed import Bed
from tests.faults.hard import NAME, Hard, share_of
from tests.faults.processes import in_child
from tests.flow.acting import active_equals_open_rows
from tests.following.beside import run_for

DIED = 77
MEGABYTE = 2**20
LEASES = ("projection_partitions", "projection_replays", "projection_streams", "projection_failures")


def die(_: Connection | None) -> None:
    """Be gone at once."""
    os._exit(DIED)


def let_leases_end(bed: Bed) -> None:
    """Time passes."""
    past = bed.in_seconds(-86_400)
    for table in LEASES:
        bed.change(f"UPDATE {table} SET lease_expires_at = {past} WHERE lease_expires_at IS NOT NULL")


def begun(hard: Hard) -> Callable[[], object]:
    """Bring a log to where the way begins, and return what each process then does, with a guard of its own."""
    assert hard.log is not None
    hard.log.append(*hard.deeds, "well", *hard.deeds, "well")
    if hard.way == "follow":
        hard.is_bad = True
        return lambda: hard.anew().catch_up(NAME)
    hard.guard.catch_up(NAME)
    hard.bed.change("DELETE FROM effects")
    hard.is_bad = True

    def run() -> None:
        guard = hard.anew()
        for job in guard.replays(NAME).items:
            run_for(hard.bed, guard, job)
        if not guard.replays(NAME).items and hard.way == "replay":
            guard.replay(NAME, from_sequence=1, actor="the test")
        elif not guard.replays(NAME).items:
            guard.rebuild(NAME, actor="the test")

    return run


@pytest.mark.parametrize("kind", ["joined", "apart"])
@pytest.mark.parametrize("way", ["follow", "replay", "rebuild"])
def test_an_event_of_the_log_that_kills_its_process_becomes_a_failure(bed: Bed, way: str, kind: str) -> None:
    """Taken by itself after the first death, called no more after the second; what is around it is applied."""
    if share_of(bed, way, kind, of=2) not in (0, None):
        pytest.skip("in CI two of the four beds do it")
    hard = Hard(bed, kind, way, {"kills": die})  # type: ignore[arg-type]
    act, codes = begun(hard), list[int]()
    while not codes or codes[-1] == DIED:
        assert len(codes) < 6, "a loop of crashes"
        codes.append(in_child(bed, act))
        let_leases_end(bed)
    assert codes == [DIED, DIED, 0]
    assert hard.errors() == {"kills": "HandlerDied"}
    assert hard.states() == {"kills#1": "failed", "kills#2": "parked"}
    if kind == "joined":
        assert bed.effects(NAME) == [("well", 1), ("well", 2)]
        hard.heal()
    assert active_equals_open_rows(bed)


def taking(megabytes: int) -> Callable[[Connection | None], None]:
    """Return what takes so much memory, and writes to it."""

    def take(_: Connection | None) -> None:
        held = [bytearray(os.urandom(4096) * 256) for _ in range(megabytes)]
        assert len(held) == megabytes

    return take


@pytest.mark.parametrize("way", ["deliver", "follow"])
@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_a_handler_that_is_given_no_more_memory_has_failed(blocking_bed: Bed, way: str, kind: str) -> None:
    """`MemoryError` under RLIMIT_AS: the process goes on, and others' events with it."""
    bed = blocking_bed
    hard = Hard(bed, kind, way, {"big": taking(4000)})  # type: ignore[arg-type]

    def meet() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 200 * MEGABYTE, resource.RLIM_INFINITY))
        hard.anew()
        hard.meet()

    assert in_child(bed, meet) == 0
    let_leases_end(bed)
    assert hard.errors() == {"big": "MemoryError"}
    assert hard.states() == {"big#1": "failed", "big#2": "parked"}
    if kind == "joined":
        assert bed.effects(NAME) == [("well", 1), ("well", 2)]


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group with 48 MB of memory; skipped where none can be made."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (first, "memory.limit_in_bytes") if first.is_dir() else (second, "memory.max")
    group = root / f"projection_guard_{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        (group / limit).write_text(str(48 * MEGABYTE))
        yield group
    except OSError as error:
        pytest.skip(f"no control group can be limited here: {error.strerror}")
    finally:
        group.rmdir()


def test_a_process_that_the_kernel_ends_for_want_of_memory_is_no_loop_of_crashes(
    blocking_bed: Bed, small_group: Path
) -> None:
    """The OOM killer's SIGKILL: the event is called twice, then it is a failure, and the others are applied."""
    bed = blocking_bed
    hard = Hard(bed, "joined", "follow", {"big": taking(400)})
    act, codes = begun(hard), list[int]()

    def act_in_group() -> None:
        (small_group / "cgroup.procs").write_text(str(os.getpid()))
        act()

    while not codes or codes[-1] == -9:
        assert len(codes) < 6, "a loop of crashes"
        codes.append(in_child(bed, act_in_group))
        let_leases_end(bed)
    assert codes == [-9, -9, 0]
    assert hard.errors() == {"big": "HandlerDied"}
    assert bed.effects(NAME) == [("well", 1), ("well", 2)]
    hard.heal()
