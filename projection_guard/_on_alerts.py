"""What both guards do with alerts, once, as coroutines: looking, giving messages to receivers, a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol
from uuid import uuid4

from sqlalchemy import Connection

from ._alert_rules import Standing
from ._alerts import Alert, AlertKind, AlertPolicy, OpenAlert, TestedReceiver
from ._core import telling, watching
from ._core.context import transact
from ._core.rounds import Round
from ._core.telling import NamedReceiver
from ._core.watching import LOOK_EVERY_SECONDS
from ._on_log import Registered
from ._store import alerts, messages, reading
from ._store.alerts import WORKERS, Place
from .errors import ConfigurationError

__all__ = ["AlertTask", "OnAlerts"]

ASK_EVERY_SECONDS = 1.0
"""How often a worker asks what is due; whether it is, the database's clock says for all of them."""


class Runs(Protocol):
    """Does it, until it `stops`."""

    def __call__(self, *, stops: Callable[[], bool]) -> Coroutine[object, None, object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTask:
    """Something to be done for alerts in a lane of its own: to look, or to give a receiver what is due for it."""

    name: str
    run: Runs


class OnAlerts:
    """The alerts of one guard; one without a policy has none."""

    def __init__(self, service: Registered, policy: AlertPolicy | None, receivers: Sequence[NamedReceiver]) -> None:
        self._service = service
        self._policy = policy
        self._receivers = {receiver.name: receiver for receiver in receivers}
        self._ask_at = 0.0
        self._made_looks: frozenset[str] = frozenset()

    def _subjects(self) -> list[str]:
        """Name what is looked at here. Without its log nothing could be said of a projection's lag."""
        return [*sorted(self._service.runnable()), WORKERS]

    def forget_threads(self) -> None:
        """In a child of fork: no call is under way here."""
        self._receivers = {
            name: replace(receiver, in_call=threading.Lock()) for name, receiver in self._receivers.items()
        }

    async def due(self) -> list[AlertTask]:
        """Name what is due, asked at most once a second."""
        now = time.monotonic()
        if self._policy is None or now < self._ask_at:
            return []
        self._ask_at = now + ASK_EVERY_SECONDS
        policy = self._policy
        is_look_due, receivers = await self._due()
        tasks = [
            AlertTask(name=name, run=partial(telling.give, self._service.context, policy, self._receivers[name]))
            for name in receivers
        ]
        return [AlertTask(name="", run=self._look_in_lane), *tasks] if is_look_due else tasks

    async def _due(self) -> tuple[bool, list[str]]:
        def ask(connection: Connection) -> tuple[bool, list[str]]:
            is_look_due = bool(alerts.due_looks(connection, self._subjects(), LOOK_EVERY_SECONDS))
            return is_look_due, messages.receivers_due(connection, list(self._receivers))

        await self._make_looks()
        return await self._service.read(ask)

    async def _make_looks(self) -> None:
        missing = set(self._subjects()) - self._made_looks
        if missing:
            what = "alerts: first contact"
            make = partial(alerts.make_looks, subjects=sorted(missing))
            await transact(self._service.context, make, what=what)
            self._made_looks = self._made_looks | missing

    async def _look_in_lane(self, *, stops: Callable[[], bool]) -> None:
        del stops
        if await self.look():
            self._ask_at = 0.0
            self._service.context.wake(0.0)

    async def look(self) -> list[Alert]:
        """Look at what nobody has looked at for 5 s; return what is told."""
        if self._policy is None:
            return []
        await self._service.open()
        await self._make_looks()
        due = await self._service.read(
            partial(alerts.due_looks, subjects=self._subjects(), every_seconds=LOOK_EVERY_SECONDS)
        )
        if not due:
            return []
        lags = await self._service.lags([name for name in due if name != WORKERS])
        return await watching.look(self._service.context, self._policy, list(self._receivers), due, lags)

    async def run_once(self) -> Round:
        """Look if it is time to, and give every receiver what is due for it."""
        if self._policy is None:
            return Round()
        await self.look()
        works: list[Coroutine[object, None, int]] = [
            telling.give(self._service.context, self._policy, receiver, stops=lambda: False)
            for receiver in self._receivers.values()
        ]
        told = 0
        for result in await self._service.context.io.all(works):
            if isinstance(result, Exception):
                raise result
            told += result
        return Round(told=told)

    async def open_alerts(self) -> tuple[OpenAlert, ...]:
        """Read what people were told of and is not over."""
        await self._service.open(())
        return tuple(await self._service.read(alerts.open_alerts))

    async def test(self) -> tuple[TestedReceiver, ...]:
        """Give every receiver a test message now. Raises `ConfigurationError` where there are none."""
        if self._policy is None or not self._receivers:
            raise ConfigurationError(
                "There is nobody to send a test alert to: make the guard with alerts=AlertPolicy(to=[...])"
            )
        await self._service.open(())
        now = await self._service.read(reading.now)
        standing = Standing(incident=uuid4(), level=1, since=now)
        place = Place(subject="", kind=AlertKind.TEST)
        alert = watching.composed(place, AlertKind.TEST, "firing", {}, standing, now)
        works = [self._try(self._policy, receiver, alert) for receiver in self._receivers.values()]
        results = await self._service.context.io.all(works)
        return tuple(result for result in results if isinstance(result, TestedReceiver))

    async def _try(self, policy: AlertPolicy, receiver: NamedReceiver, alert: Alert) -> TestedReceiver:
        try:
            await telling.give_now(self._service.context, policy, receiver, alert)
        except Exception as error:
            return TestedReceiver(name=receiver.name, error=telling.said(error))
        return TestedReceiver(name=receiver.name, error=None)
