"""What one worker does, blocking or async: looks what is due, gives each projection a lane of its own, keeps the books.

It is one coroutine; `Hands` of `_lanes` give it lanes and a clock it can be woken from, and `_worker` lets it run.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from ._acting import act_for_nobody
from ._core.context import NOTIFY_EVERY_SECONDS
from ._core.following import Follower
from ._jobs import Job, jobs_due
from ._lanes import Hands
from ._on_alerts import AlertTask
from ._on_workers import SignsOfLife
from ._records import WorkerKind
from ._service import Service
from ._wording import type_name, words_of

__all__ = ["Pulse", "Shift"]

log = logging.getLogger("projection_guard")
_PRUNE_EVERY_SECONDS: Final = 600.0
_LONGEST_PAUSE_AFTER_ERRORS_SECONDS: Final = 30.0
_HOLE_PAUSE_SECONDS: Final = 0.05
_RAREST_JUDGEMENT_SECONDS: Final = 10.0
"""A judgement counts what is exhausted or parked. Of very many it takes up to a twentieth of the worker's time."""


@dataclass(slots=True)
class Pulse:
    """How a worker is, by the process's monotonic clock, which its coordinator sets: 0.0 where that did not happen yet.

    `turned_at`: it last went round, whatever came of it. `looked_at`: it last looked for work and could.
    """

    turned_at: float = 0.0
    looked_at: float = 0.0
    errors_in_a_row: int = 0


class Shift:
    """The coordinator: looks what is due, hands each projection to a lane, keeps the books."""

    def __init__(
        self, service: Service, hands: Hands, pulse: Pulse, *, kind: WorkerKind, poll_seconds: float, batch: int
    ) -> None:
        self._service = service
        self._hands = hands
        self._pulse = pulse
        self._life = SignsOfLife(service, kind)
        self._poll_seconds = poll_seconds
        self._batch = batch
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._followers: dict[str, Follower] = {}
        self._following: set[str] = set()
        self._follow_again: set[str] = set()
        self._jobs_in_hand: set[UUID] = set()
        self._alerting: set[str] = set()
        self._prune_at = time.monotonic() + 5.0
        self._judge_at = 0.0

    async def run(self) -> None:
        act_for_nobody()
        async with self._service.on_log.listening(self._look_twice):
            await self._run()

    def _look_twice(self) -> None:
        """Look at once, and again for what the publisher said nothing of, since it was too soon to notify again."""
        self._hands.ring_in(0.0)
        self._hands.ring_in(1.25 * NOTIFY_EVERY_SECONDS)

    async def _run(self) -> None:
        pulse = self._pulse
        while not self._hands.is_stopping:
            pulse.turned_at = time.monotonic()
            try:
                await self._look()
                pulse.looked_at, pulse.errors_in_a_row = time.monotonic(), 0
                pause = self._poll_seconds
            except Exception as error:
                pulse.errors_in_a_row += 1
                pause = min(self._poll_seconds * 2.0**pulse.errors_in_a_row, _LONGEST_PAUSE_AFTER_ERRORS_SECONDS)
                log.warning("the worker could not look for work (%s); again in %.0f s", type(error).__name__, pause)
            await self._rest(pause)
        await self._life.stopping()

    async def _rest(self, seconds: float) -> None:
        """Wait until something is due or the time is over, and give signs of life meanwhile."""
        end = time.monotonic() + seconds
        while not await self._hands.wait(min(end - time.monotonic(), self._life.next_in())):
            self._pulse.turned_at = time.monotonic()
            if time.monotonic() >= end:
                return
            with suppress(Exception):  # looking comes next, and says what is wrong
                await self._life.show()

    async def _look(self) -> None:
        await self._service.open()
        await self._life.show()
        await self._follow()
        await self._jobs()
        await self._alerts()
        for name in await self._service.names_with_work():
            if name in self._busy:
                self._again.add(name)
            else:
                self._busy.add(name)
                try:
                    self._hands.spawn(partial(self._lane, name))
                except BaseException:  # no thread is to be had just now
                    self._busy.discard(name)
                    raise
        await self._service.keep_books()
        now = time.monotonic()
        if now >= self._judge_at:
            await self._service.store_judgements()
            spent = time.monotonic() - now
            self._judge_at = now + min(20 * spent, _RAREST_JUDGEMENT_SECONDS)
        if now >= self._prune_at:
            pruned = await self._service.prune()
            self._prune_at = now + (1.0 if pruned.has_more else _PRUNE_EVERY_SECONDS)

    async def _follow(self) -> None:
        """Let each followed projection be followed in a lane of its own."""
        for name in await self._service.on_log.followed():
            if name not in self._followers:
                self._followers[name] = self._service.on_log.follower(name)
            self._follow_again.add(name)
            if name in self._following:  # looked at after that: its lane looks there last
                continue
            self._follow_again.discard(name)
            self._following.add(name)
            try:
                self._hands.spawn(partial(self._follow_lane, name))
            except BaseException:  # no thread is to be had just now
                self._following.discard(name)
                raise

    async def _jobs(self) -> None:
        """Take up replays and bulk actions that nobody runs, each in a lane of its own."""
        for job in await jobs_due(self._service):
            if job.id not in self._jobs_in_hand:
                self._jobs_in_hand.add(job.id)
                try:
                    self._hands.spawn(partial(self._job_lane, job))
                except BaseException:
                    self._jobs_in_hand.discard(job.id)
                    raise

    async def _alerts(self) -> None:
        """Look at what people may have to be told, and give receivers their messages, each in a lane of its own."""
        try:
            due = await self._service.on_alerts.due()
        except Exception as error:
            log.warning("alerts could not be looked after: %s", type_name(error))
            return
        for task in due:
            if task.name not in self._alerting:
                self._alerting.add(task.name)
                try:
                    self._hands.spawn(partial(self._alert_lane, task))
                except BaseException:
                    self._alerting.discard(task.name)
                    raise

    async def _alert_lane(self, task: AlertTask) -> None:
        try:
            await task.run(stops=lambda: self._hands.is_stopping)
        except Exception as error:
            log.warning(
                "alerts%s met %s: %s", f" for {task.name}" if task.name else "", type_name(error), words_of(error)
            )
        finally:
            self._alerting.discard(task.name)

    async def _job_lane(self, job: Job) -> None:
        try:
            await job.run(stops=lambda: self._hands.is_stopping)
        except Exception as error:
            log.warning("%s %s met %s: %s", job.what, job.id, type(error).__name__, words_of(error))
        finally:
            self._jobs_in_hand.discard(job.id)

    async def _follow_lane(self, name: str) -> None:
        pause: float | None = None
        try:
            turn = await self._followers[name].follow(stops=lambda: self._hands.is_stopping)
            pause = _HOLE_PAUSE_SECONDS if turn.waits is not None else None
        except Exception as error:
            log.warning("%s: following met %s: %s", name, type(error).__name__, words_of(error))
        finally:
            self._following.discard(name)
        if name in self._follow_again:
            self._follow_again.discard(name)
            pause = 0.0
        if pause is not None:
            self._hands.ring_in(pause)

    async def leave(self) -> None:
        """Give up what is followed, so that others go on at once; where that cannot be done the leases end."""
        await self._life.end()
        for name, follower in self._followers.items():
            try:
                await follower.leave()
            except Exception as error:
                log.warning("%s: following was not given up (%s)", name, type(error).__name__)

    async def _lane(self, name: str) -> None:
        has_more = False
        try:
            done = await self._service.work_on(name, batch=self._batch, stops=lambda: self._hands.is_stopping)
            has_more = done.has_more
        except Exception as error:
            log.warning("%s: the worker met %s; it goes on: %s", name, type(error).__name__, words_of(error))
        finally:
            self._busy.discard(name)
        if has_more or name in self._again:
            self._again.discard(name)
            self._hands.ring_in(0.0)
