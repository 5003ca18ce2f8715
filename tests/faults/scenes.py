"""The scenes in which something breaks: what an event has been through before, what is done now, what must hold after.

scene = Scene(bed, guard, planned, deed="retry", stream="S7")
scene.prepare()            # S7#1 has failed, the handler is well again
...                        # something is going to break
scene.act()                # one round of a worker; its errors are checked: `StoreUnavailable` or none
scene.check()              # nothing is reported that is not on record, no event is in two states
scene.finish()             # everything is delivered again, workers work until it is quiet: exact, in order
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from zlib import crc32

from projection_guard import Outcome, StoreUnavailable
from tests.bed import Bed, GuardOnBed, happened, noted
from tests.flow.acting import Planned, active_equals_open_rows, make_due, states_of
from tests.turns import IS_EVERY

__all__ = ["CALLERS_OWN", "DEEDS", "LEASE", "Scene", "guard_with", "places", "quiet"]

CALLERS_OWN = ("deliver", "fail", "park", "redeliver", "retry by hand")
"""What a caller waits for; a worker's round is longer, and comes again by itself."""
DEEDS = (*CALLERS_OWN, "retry", "drain", "drain and fail")
LEASE = timedelta(seconds=30)
NAME = "P"


def guard_with(bed: Bed, kind: str, **options: Any) -> tuple[GuardOnBed, Planned]:
    """Make a guard with one projection: joined (it counts, so it is not idempotent) or apart."""
    guard = bed.guard(lease=LEASE, **options)
    planned = Planned(NAME, note=noted(NAME))
    planned.register(bed, guard, kind)
    guard.publish(happened("warm", 1))
    guard.work()
    return guard, planned


def places(bed: Bed, kind: str, deed: str, *, step: int = 8, turn: int = 0) -> Iterable[int]:
    """Return where to break a scene, one place after the other; to save CI's time, not all of them on each bed.

    It is broken at every `step`-th place, of a worker's rounds at every 13th at the most, beginning elsewhere for each
    deed, kind of handler, guard and `turn`. `PROJECTION_GUARD_FAULTS=every` in the environment: all, everywhere.
    """
    if IS_EVERY:
        return range(1, 400)
    step = step if deed in CALLERS_OWN else max(step, 13)
    return range(1 + crc32(f"{deed}:{kind}:{bed.kind}:{turn}".encode()) % step, 400, step)


def quiet(bed: Bed, guard: GuardOnBed) -> None:
    """Let leases run out and workers work, until nothing is failed or parked."""

    def is_quiet() -> bool:
        make_due(bed)
        past = bed.in_seconds(-86_400)
        bed.change(f"UPDATE projection_streams SET lease_expires_at = {past} WHERE lease_owner IS NOT NULL")
        guard.work()
        return not bed.rows(
            "SELECT event_id FROM projection_failures WHERE resolved_at IS NULL "
            "UNION ALL SELECT event_id FROM projection_parked_events"
        )

    bed.wait_until(is_quiet)


class Scene:
    """One stream's way through projection "P" of a guard."""

    def __init__(self, bed: Bed, guard: GuardOnBed, planned: Planned, kind: str, *, deed: str, stream: str) -> None:
        self.bed = bed
        self.guard = guard
        self.planned = planned
        self.is_joined = kind == "joined"
        self.deed = deed
        self.stream = stream
        self.error: Exception | None = None
        self.outcomes: tuple[Outcome, ...] = ()
        self.delivered: list[int] = []
        self.calls_before = 0

    def event(self, n: int) -> Any:
        """Return the n-th event of the scene's stream."""
        return happened(self.stream, n)

    def prepare(self) -> None:
        """Do what comes before, while nothing breaks."""
        first = f"{self.stream}#1"
        match self.deed:
            case "fail":
                self.planned.failing.add(first)
            case "park" | "retry" | "retry by hand":
                self.planned.failing.add(first)
                self._publish(1)
                if self.deed != "park":
                    self.planned.failing.discard(first)
            case "redeliver":
                self._publish(1)
            case "drain" | "drain and fail":
                self.guard.pause(NAME, actor="the test")
                self._publish(1)
                self._publish(2)
                self.guard.resume(NAME, actor="the test")
                if self.deed == "drain and fail":
                    self.planned.failing.add(first)
        self.calls_before = len(self.planned.calls)

    def _publish(self, n: int) -> tuple[Outcome, ...]:
        outcomes = self.guard.publish(self.event(n))
        if n not in self.delivered:
            self.delivered.append(n)
        return outcomes

    def act(self) -> None:
        """Do what is going to be broken. An error that reaches the caller is `StoreUnavailable`."""
        try:
            match self.deed:
                case "deliver" | "fail" | "redeliver":
                    self.outcomes = self._publish(1)
                case "park":
                    self.outcomes = self._publish(2)
                case "retry by hand":
                    (failure,) = [f for f in self.guard.failures(NAME).items if f.stream_id == self.stream]
                    self.outcomes = (self.guard.resolve(failure.id, "retry", actor="the test"),)
                case _:
                    self.guard.work()
        except StoreUnavailable as error:
            self.error = error

    @property
    def calls(self) -> list[str]:
        """The handler's calls while the scene was acted."""
        return self.planned.calls[self.calls_before :]

    def check(self) -> None:
        """Nothing is reported that is not on record; every event whose `publish` returned is in exactly one state."""
        states = states_of(self.bed, NAME)
        effects = self.bed.effects(NAME, self.stream)
        for outcome in self.outcomes:
            expected = {"applied": "applied", "duplicate": "applied", "parked": "parked", "failed": "failed"}
            assert states[outcome.event_id] == expected[outcome.status.value], (outcome, states)
        for n in self.delivered:
            assert f"{self.stream}#{n}" in states, f"{self.stream}#{n} is in no state"
        if self.is_joined:
            applied = sorted(n for n in (1, 2) if states.get(f"{self.stream}#{n}") == "applied")
            assert [n for _, n in effects] == applied, (effects, states)
        else:
            assert len(self.calls) == len(set(self.calls)), f"bookkeeping trouble ran the handler again: {self.calls}"
        assert active_equals_open_rows(self.bed)

    def finish(self) -> None:
        """Deliver everything again until it is taken, let workers work; every effect is there once, in order."""
        self.planned.heal()
        last = 2 if self.deed in ("park", "drain", "drain and fail") else 1
        for n in range(1, last + 1):
            self.guard.publish(self.event(n))
        quiet(self.bed, self.guard)
        for n in range(1, last + 1):
            (again,) = self.guard.publish(self.event(n))
            assert again.status == "duplicate", again
        wanted = [(self.stream, n) for n in range(1, last + 1)]
        if self.is_joined:
            assert self.bed.effects(NAME, self.stream) == wanted
            assert self.bed.count(self.stream) == last
        else:
            done = [item for item in self.planned.done if item[0] == self.stream]
            assert list(dict.fromkeys(done)) == wanted
            if self.error is None:
                assert done == wanted, "called again, though nobody was told of trouble"
        states = states_of(self.bed, NAME)
        assert [states[f"{self.stream}#{n}"] for n in range(1, last + 1)] == ["applied"] * last
        assert active_equals_open_rows(self.bed)
        health = self.guard.health(NAME)
        assert (health.active_failures, health.parked_events, health.status) == (0, 0, "healthy")
