"""What a process is killed in: one event of each kind, and what brings it to its exact end afterwards.

play = Play(bed, "retried", "joined", journal, place=7, failing=failing, log=None)
play.prepare(guard)              # S7#1 has failed
play.order()                     # for `tests.faults.crasher`, in whose child the retry is made, and which dies of it
play.check_at_rest(returned=False)
play.take_up(guard, returned=False)    # a healthy process: what did not return is asked for again, a worker works

The handlers of all processes write a journal, a file to which each line is appended: `call S7#1`, `done S7#1`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, text
from tenacity import stop_after_attempt, wait_fixed

from projection_guard import RetryPolicy
from projection_guard._io.engines import async_engine_for, engine_for
from tests.bed import Bed, GuardOnBed, Happened, happened, noted
from tests.faults.exactness import Facts, number, of
from tests.flow.acting import make_due, shift
from tests.following.logs import FollowedLog

__all__ = ["KINDS", "LEASE_SECONDS", "Kind", "Play", "company", "lapse", "one_engine"]

LEASE_SECONDS = 30
POLICY = RetryPolicy(wait=wait_fixed(0), stop=stop_after_attempt(3), immediate=0, breaker=None)
Deed = Literal["publish", "work", "catch up", "reset", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way that events go. `last`: how many there are in the stream; `fails`: of what the handler dies at the first.

    `published`: the one that is published. `other_streams` have one event each, behind those of the stream.
    `is_new`: nothing was done before in the process that dies, not even a connection made.
    """

    deed: Deed
    last: int = 1
    published: int = 0
    fails: Literal["", "poison", "transient"] = ""
    is_followed: bool = False
    is_new: bool = False
    other_streams: int = 0
    is_short: bool = True


KINDS: Mapping[str, Kind] = {
    "first": Kind(deed="publish", published=1, is_new=True, is_short=False),
    "applied": Kind(deed="publish", published=1),
    "redelivered": Kind(deed="publish", published=1),
    "transient": Kind(deed="publish", published=1, fails="transient"),
    "poison": Kind(deed="publish", published=1, fails="poison"),
    "parked": Kind(deed="publish", last=2, published=2),
    "retried": Kind(deed="work", is_short=False),
    "drained": Kind(deed="work", last=3, is_short=False),
    "drained alone": Kind(deed="work", is_short=False),
    "exhausted": Kind(deed="work", fails="poison", is_short=False),
    "reset": Kind(deed="reset", last=2, is_short=False),
    "followed": Kind(deed="catch up", is_followed=True, is_short=False),
    "followed fails": Kind(deed="catch up", fails="poison", is_followed=True, is_short=False),
    "followed parks": Kind(deed="catch up", last=2, is_followed=True, is_short=False),
    "batch": Kind(deed="catch up", last=3, other_streams=2, is_followed=True, is_short=False),
    "batch fails": Kind(deed="catch up", last=3, other_streams=2, fails="poison", is_followed=True, is_short=False),
    "replayed": Kind(deed="replay", last=2, is_followed=True, is_short=False),
}


def one_engine(bed: Bed) -> Any:
    """Let all guards of a bed have one engine, made as a guard makes it: what it has compiled once serves them all."""
    engine: Any = async_engine_for(bed.url) if bed.is_async else engine_for(bed.url)
    bed.on_close(engine.dispose)
    bed.url = engine
    return engine


def company(
    bed: Bed,
    handler: str,
    journal: Path,
    failing: set[str],
    log: FollowedLog | None,
    *,
    fails: str = "poison",
    name: str = "P",
) -> GuardOnBed:
    """Make a guard with a projection, as each process that takes part has it."""
    options: dict[str, Any] = {"lease": timedelta(seconds=LEASE_SECONDS), "retry": POLICY}
    guard = bed.guard(**options) if log is None else log.guard(**options)
    note = noted(name)

    def joined(event: Happened, connection: Connection) -> None:
        tell(journal, "call", event)
        note(event, connection)
        finish(event)

    def apart(event: Happened) -> None:
        tell(journal, "call", event)
        finish(event)

    def finish(event: Happened) -> None:
        if event.event_id in failing:
            raise ConnectionError("planned") if fails == "transient" else ValueError("planned")
        tell(journal, "done", event)

    if handler == "joined":
        bed.joined(guard, name, joined, **_clearing(bed))
    else:
        bed.apart(guard, name, apart, **_clearing(bed))
    return guard


def tell(journal: Path, word: str, event: Happened) -> None:
    """Append a line to the journal, in one write: it is whole, or it is not there."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{word} {event.event_id}\n".encode())
    finally:
        os.close(descriptor)


def _clearing(bed: Bed) -> dict[str, Any]:
    def clear(connection: Connection) -> None:
        connection.execute(text("DELETE FROM effects"))
        connection.execute(text("DELETE FROM counted"))

    async def async_clear(connection: Any) -> None:
        await connection.run_sync(clear)

    return {"on_reset": async_clear if bed.is_async else clear}


def lapse(bed: Bed) -> None:
    """Let time pass: all leases have run out, whatever is planned is due."""
    make_due(bed)
    for table in ("projection_streams", "projection_partitions", "projection_replays"):
        shift(bed, table, "lease_expires_at", -30 * 86_400)
    shift(bed, "projection_streams", "drain_after", -30 * 86_400)


class Play:
    """One event, or a few, of stream `S<place>`, and of other streams where the kind has some."""

    def __init__(
        self,
        bed: Bed,
        name: str,
        handler: str,
        journal: Path,
        *,
        place: int,
        failing: set[str],
        log: FollowedLog | None,
    ) -> None:
        self.bed = bed
        self.name = name
        self.kind = KINDS[name]
        self.is_joined = handler == "joined"
        self.journal = journal
        self.failing = failing
        self.log = log
        self.stream = f"S{place}"
        self.first = f"{self.stream}#1"
        self.facts = Facts(bed.engine, self.streams(), journal, is_followed=self.kind.is_followed)

    def streams(self) -> dict[str, int]:
        """Return the streams of this play, and how many events each has."""
        others = {f"{self.stream}{chr(97 + each)}": 1 for each in range(self.kind.other_streams)}
        return {self.stream: self.kind.last, **others}

    # -- before

    def prepare(self, guard: GuardOnBed) -> None:
        """Do what comes before, in a process that lives on."""
        if self.log is not None:
            self._prepare_log(guard)
        elif self.name in ("parked", "retried", "exhausted"):
            self._fail(lambda: guard.publish(happened(self.stream, 1)))
        elif self.name == "redelivered":
            guard.publish(happened(self.stream, 1))
        elif self.name.startswith("drained"):
            guard.pause("P", actor="the test")
            for n in range(1, self.kind.last + 1):
                guard.publish(happened(self.stream, n))
            guard.resume("P", actor="the test")
        elif self.name == "reset":
            for n in (1, 2):
                guard.publish(happened(self.stream, n))
        if self.name == "exhausted":  # one retry is left, and the row's own limit wins
            self.bed.change("UPDATE projection_failures SET max_retries = 1 WHERE resolved_at IS NULL")
        self.facts.begin()

    def _prepare_log(self, guard: GuardOnBed) -> None:
        assert self.log is not None
        if self.name == "followed parks":
            self.log.append(self.stream)
            self._fail(lambda: guard.catch_up("P"))
            self.log.append(self.stream)
            return
        self.log.append(*[stream for stream, last in self.streams().items() for _ in range(last)])
        if self.name == "replayed":
            guard.catch_up("P")

    def _fail(self, call: Callable[[], object]) -> None:
        self.failing.add(self.first)
        call()
        self.failing.discard(self.first)

    def order(self) -> dict[str, Any]:
        """Tell the process that dies what to do."""
        log, replayed = self.log, self.kind.last - 1
        return {
            "deed": self.kind.deed,
            "is_new": self.kind.is_new,
            "is_followed": self.kind.is_followed,
            "fails": self.kind.fails,
            "failing": [self.first] if self.kind.fails else [],
            "stream": self.stream,
            "n": self.kind.published,
            "from_sequence": len(log.appended) - replayed if log is not None else 0,
        }

    # -- after

    def check_at_rest(self, *, returned: bool) -> None:
        """Whoever has died: every event is in one state at most, and in one if `publish` has returned for it."""
        self.facts.check_at_rest(is_joined=self.is_joined, lease_seconds=LEASE_SECONDS)
        if self.kind.deed == "publish" and returned:
            self.facts.check_kept(f"{self.stream}#{self.kind.published}")

    def left(self) -> dict[int, str]:
        """Return the states of the stream's events, by their numbers."""
        return {number(event): state for event, state in self.facts.states().items() if of(event) == self.stream}

    def take_up(self, guard: GuardOnBed, *, returned: bool) -> None:
        """Bring it to its end in a healthy process: what did not return is asked for again, workers make rounds."""
        if self.name == "exhausted":
            self.failing.add(self.first)
        lapse(self.bed)
        if not returned:
            self._ask_again(guard)
        self._work_until_quiet(guard)
        if self.name == "exhausted":
            self._end_by_a_person(guard)
        if self.kind.deed == "reset":
            self.facts.check_cleared()
            for n in (1, 2):
                guard.publish(happened(self.stream, n))
        if not self.kind.is_followed:  # whatever is delivered once more changes nothing
            for stream, last in self.streams().items():
                for n in range(1, last + 1):
                    (again,) = guard.publish(happened(stream, n))
                    assert again.status == "duplicate" or self.kind.deed == "reset", again
        times = 2 if self.kind.deed == "replay" else 1
        self.facts.check_exact(is_joined=self.is_joined, times=times)

    def _ask_again(self, guard: GuardOnBed) -> None:
        match self.kind.deed:
            case "publish":
                guard.publish(happened(self.stream, self.kind.published))
            case "reset":  # the one before may have been done: nobody was told
                guard.reset("P", actor="the test")
            case "replay" if not self.facts.replays():
                guard.replay("P", from_sequence=self.order()["from_sequence"], actor="the test")
            case "replay" | "work" | "catch up":
                pass  # it is on record, or comes again with a worker's next round

    def _work_until_quiet(self, guard: GuardOnBed) -> None:
        if self.kind.deed == "replay" and not self.facts.is_replay_finished():
            self._let_a_worker_replay(guard)

        def is_quiet() -> bool:
            lapse(self.bed)
            guard.work()
            return not self.facts.is_anything_waiting()

        self.bed.wait_until(is_quiet)

    def _let_a_worker_replay(self, guard: GuardOnBed) -> None:
        worker = guard.real.worker(poll_seconds=0.02)

        async def start() -> None:
            worker.start()

        self.bed.run(start()) if self.bed.is_async else worker.start()
        try:
            self.bed.wait_until(self.facts.is_replay_finished)
        finally:
            self.bed.run(worker.stop())

    def _end_by_a_person(self, guard: GuardOnBed) -> None:
        self.facts.check_exhausted(self.first, most_calls=2)
        self.failing.discard(self.first)
        (failure,) = guard.failures("P").items
        outcome = guard.resolve(failure.id, "retry", actor="the test")
        assert outcome.status == "applied", outcome
