"""What was to be done to a run has been done to it, or it says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import psycopg
import pytest

from tests.chaos.faults import Faults
from tests.chaos.places import Place
from tests.chaos.processes import Programs

Kinds = Mapping[str, tuple[int, Callable[[], bool]]]
NOWHERE = Place(database="sqlite", url="", proxied="", oracle="", proxy=None, cluster=None, disk=None)


class Some(Faults):
    """Faults of the test's own; none but "possible" ever comes by chance."""

    def __init__(self, **kinds: Callable[[], bool]) -> None:
        self.some: Kinds = {name: (int(name == "possible"), kind) for name, kind in kinds.items()}
        super().__init__(NOWHERE, Programs([]), seed=1, only=(), recovered=lambda _: None)

    def _available(self) -> Kinds:
        return self.some


def run(faults: Faults, *, times: int) -> list[str]:
    """Let them go on until so much is done, or until they end by themselves; return what never was done."""
    thread = threading.Thread(target=faults.run, args=(time.monotonic() + 60, 0.001))
    thread.start()
    while thread.is_alive() and faults.done.total() < times:
        time.sleep(0.001)
    faults.stop_now()
    thread.join()
    return faults.never_done([])


def test_what_cannot_be_done_keeps_nothing_else_from_being_done() -> None:
    """It is tried again and again, by turns with others."""
    assert run(Some(possible=lambda: True, impossible=lambda: False), times=10) == ["impossible"]


def test_what_met_a_server_that_was_away_comes_again() -> None:
    """Each kind once before any comes by chance."""
    met: list[str] = []

    def meet() -> bool:
        met.append("a server that is away")
        if len(met) == 1:
            raise psycopg.OperationalError
        return True

    assert run(Some(possible=lambda: True, meets=meet), times=10) == []


@pytest.mark.parametrize(("longer", "never"), [(60, []), (0, ["possible"])])
def test_what_was_never_done_is_worth_some_more_time(longer: int, never: list[str]) -> None:
    """Where the machine is slow; and no more than it takes to do each kind once."""
    faults, end = Some(possible=lambda: True), time.monotonic()
    faults.run(end, 0.001, or_until=end + longer)
    assert faults.never_done([]) == never
    assert faults.done.total() == 1 - len(never)


def test_what_the_run_lacks_is_worth_some_more_time() -> None:
    """And no more than it takes to bring it about."""
    faults, end = Some(possible=lambda: True), time.monotonic()
    faults.run(end, 0.001, or_until=end + 60, lacks=lambda: faults.done.total() < 3)
    assert faults.done.total() == 3


def test_faults_that_have_ended_say_so() -> None:
    """A run whose faults have died would be a calm one."""

    def fail() -> bool:
        raise RuntimeError("PostgreSQL did not start")

    faults = Some(fails=fail)
    assert run(faults, times=1) == ["fails"]
    assert isinstance(faults.error, RuntimeError)


def test_what_was_asked_for_by_a_name_that_there_is_not_was_never_done() -> None:
    """A misspelt fault is not a run without findings."""
    assert "kil" in Some(kill=lambda: True).never_done(["kil"])
