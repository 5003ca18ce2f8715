"""The faults of a run, each a function that does its harm and returns when it is done or under way."""

from __future__ import annotations

import logging
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import psycopg

from tests.chaos.guards import LEASE_SECONDS
from tests.chaos.places import Place
from tests.chaos.processes import Program, Programs, faketime, wait_for
from tests.faults.proxy import COMMIT, EVERY, REQUEST, Message, Which

__all__ = ["Faults"]

log = logging.getLogger("chaos")
_FILLED_SECONDS: Final = 1.0


class Faults:
    """Does harm at random, by a seed; the same seed chooses the same faults, not the same moments."""

    def __init__(
        self,
        place: Place,
        programs: Programs,
        *,
        seed: int,
        only: Collection[str],
        recovered: Callable[[float], None],
    ) -> None:
        self._place, self._programs = place, programs
        self._random = random.Random(seed)
        self._recovered = recovered
        self._later = ThreadPoolExecutor(8)
        self._stopping = threading.Event()
        self._under_way: list[Future[None]] = []
        self.done: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}
        self.error: Exception | None = None
        self._kinds = {name: kind for name, kind in self._available().items() if not only or name in only}

    def _available(self) -> Mapping[str, tuple[int, Callable[[], bool]]]:
        """Name what can be done here, with its weight."""
        kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill": (6, self._kill),
            "stop": (3, self._stop),
            "stop after reading": (4, self._stop_after_reading),
            "terminate": (2, self._terminate),
        }
        if self._place.is_sqlite:
            self.left_out["clock"] = "SQLite has no clock but that of each process: all have to agree"
        elif faketime() is not None:
            kinds["clock"] = (2, self._clock)
        else:
            self.left_out["clock"] = "no libfaketime on this machine"
        if self._place.disk is not None:
            kinds["disk full"] = (1, self._disk_full)
        else:
            self.left_out["disk full"] = "nobody may mount a small file system here"
        if self._place.cluster is not None:
            kinds["backends"] = (2, self._backends)
            kinds["restart immediate"] = (1, lambda: self._restart(signal.SIGQUIT))
            kinds["postmaster kill"] = (1, lambda: self._restart(signal.SIGKILL))
        if self._place.proxy is not None:
            kinds["cut"] = (2, lambda: self._at_the_proxy("cut"))
            kinds["delay"] = (1, lambda: self._at_the_proxy("delay"))
            kinds["blackhole"] = (1, lambda: self._at_the_proxy("blackhole"))
            kinds["commit swallowed"] = (3, lambda: self._at_the_proxy("commit"))
            kinds["reply swallowed"] = (3, lambda: self._at_the_proxy("reply"))
        else:
            self.left_out["cut, delay, blackhole, commit swallowed, reply swallowed"] = "there is no proxy in this way"
        return kinds

    def run(
        self, until: float, gap_seconds: float, *, or_until: float = 0.0, lacks: Callable[[], bool] = lambda: False
    ) -> None:
        """Do one after the other, each kind once before any comes again by chance; then undo what lasts.

        Where nothing is to be done it waits for the end. While a kind was never done, or the run `lacks` what they are
        to bring about, it goes on `or_until` then: on a machine that has other things to do a server takes its time to
        come back. `error` is what has kept it from that.
        """
        try:
            self._go_on(until, gap_seconds, max(until, or_until), lacks)
        except Exception as error:
            self.error = error
        finally:
            self.finish()

    def never_done(self, asked_for: Collection[str]) -> list[str]:
        """Return the kinds that were to be done, here or on any machine, and never were."""
        return [name for name in {**dict.fromkeys(asked_for), **self._kinds} if name not in self.done]

    def _go_on(self, until: float, gap_seconds: float, or_until: float, lacks: Callable[[], bool]) -> None:
        first = list(self._kinds)
        self._random.shuffle(first)
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        was_done = True
        while names and not self._stopping.is_set():
            now = time.monotonic()
            if now >= until and (now >= or_until or not (self.never_done([]) or lacks())):
                break
            is_turn = bool(first) and (was_done or len(first) > 1)  # not one alone that cannot be done
            name = first.pop() if is_turn else self._random.choices(names, weights)[0]
            begun, was_done = time.monotonic(), False
            with suppress(psycopg.Error):  # the server is away by another one of them
                was_done = self._kinds[name][1]()
            if was_done:
                self.done[name] += 1
            elif name not in self.done and name not in first:  # not possible just now: it has a turn again
                first.insert(0, name)
            log.info("%s, %.1f s", name, time.monotonic() - begun)
            self._stopping.wait(self._random.uniform(0.3, 1.7) * gap_seconds)
        self._stopping.wait(max(until - time.monotonic(), 0))

    def stop_now(self) -> None:
        """Do no more."""
        self._stopping.set()

    def finish(self) -> None:
        """Wait until all that was begun is over, and let everything through again."""
        for future in self._under_way:
            future.result()
        self._later.shutdown()
        if self._place.proxy is not None:
            self._place.proxy.disarm()

    # -- processes

    def _one_of(self, *roles: str) -> Program | None:
        there = [program for program in self._programs.of(*roles) if not program.is_stopped]
        return self._random.choice(there) if there else None

    def _kill(self) -> bool:
        program = self._one_of("worker", "publisher", "worker", "server")
        if program is not None:
            program.send(signal.SIGKILL)
        return program is not None

    def _terminate(self) -> bool:
        """SIGTERM, and a second one a moment later: if it has not ended by then it ends at once."""
        program = self._one_of("worker", "publisher")
        if program is None:
            return False
        program.send(signal.SIGTERM)
        time.sleep(self._random.uniform(0.0, 0.3))
        if program.is_alive:
            program.send(signal.SIGTERM)
        return True

    def _stop(self) -> bool:
        program = self._one_of("worker", "publisher", "worker")
        if program is None:
            return False
        program.is_stopped = True
        program.send(signal.SIGSTOP)
        self._go_on_later(program, LEASE_SECONDS + self._random.uniform(0.5, 3.0))
        return True

    def _stop_after_reading(self) -> bool:
        """It stands still between reading events and applying them, until its lease has run out."""
        program = self._one_of("worker")
        if program is None or any(other.is_stopped for other in self._programs.of("worker")):
            return False  # somebody has to be there to take over
        program.is_stopped = True
        program.send(signal.SIGUSR1)
        if not wait_for(lambda: program.stands_still or not program.is_alive, within=1.5):
            program.is_stopped = False
            return False
        self._go_on_later(
            program, LEASE_SECONDS + 0.5, until=self._all_are_led
        )  # it was prolonged right before, perhaps
        return True

    def _go_on_later(self, program: Program, seconds: float, until: Callable[[], bool] = lambda: True) -> None:
        process = program.process

        def go_on() -> None:
            threading.Event().wait(seconds)
            wait_for(until, within=15.0)
            if program.process is process:
                program.is_stopped = False
                program.send(signal.SIGCONT)

        self._under_way.append(self._later.submit(go_on))

    def _all_are_led(self) -> bool:
        """Return whether every partition has an owner whose lease lives: others have taken over by then."""
        with suppress(psycopg.Error, sqlite3.Error):
            return self._place.partitions_without_an_owner() == 0
        return False

    def _clock(self) -> bool:
        """The next life of a worker has a clock that is five minutes off."""
        program = self._one_of("worker")
        if program is None:
            return False
        program.skew_seconds = 0 if program.skew_seconds else self._random.choice((300, -300))
        program.send(signal.SIGKILL)
        return program.skew_seconds != 0

    # -- the server

    def _backends(self) -> bool:
        for _ in range(self._random.randint(1, 6)):
            self._place.terminate_all()
            time.sleep(0.1)
        return True

    def _restart(self, number: signal.Signals) -> bool:
        self._recovered(self._place.restart(number))
        return True

    def _disk_full(self) -> bool:
        with self._place.full_disk():
            time.sleep(_FILLED_SECONDS)
        return True

    # -- the link

    def _at_the_proxy(self, what: str) -> bool:
        proxy = self._place.proxy
        assert proxy is not None
        at = self._random.randint(1, 20)
        match what:
            case "cut":
                proxy.cut(at=at, which=EVERY)
            case "commit":
                proxy.cut(at=1 + at // 4, which=COMMIT)
            case "reply":
                proxy.swallow(at=1 + at // 4, which=(REQUEST, COMMIT, _followers_commit())[at % 3])
            case "delay":
                proxy.slow(self._random.uniform(0.01, 0.1))
                time.sleep(1.0)
                proxy.slow(0.0)
                return True
            case _:
                proxy.blackhole()
                time.sleep(LEASE_SECONDS + self._random.uniform(0.0, 2.0))
                proxy.go_away()
                proxy.come_back()
                return True
        return wait_for(lambda: proxy.fault is None or proxy.fault.is_done, within=3.0)


def _followers_commit() -> Which:
    """Return what picks the COMMIT of who has moved the cursors: of all COMMITs not one in fifty is that.

    Another connection's COMMIT that comes in between is taken for it.
    """
    moved = False

    def picks(message: Message) -> bool:
        nonlocal moved
        if "SET cursor" in message.sql:
            moved = True
        elif COMMIT(message):
            is_it, moved = moved, False
            return is_it
        return False

    return picks
