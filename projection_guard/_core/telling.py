"""Giving messages to receivers: outside of any transaction, each receiver by itself, with a time limit.

A receiver that fails is called again later and disturbs nobody. At least once: whoever dies between the call and what
is written down after it leaves the message to be given again, with the same id.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Final
from uuid import UUID

from .._alerts import Alert, AlertPolicy, Receiver
from .._io.calling import refuse_undone
from .._io.protocol import Call
from .._store import messages
from .._store.messages import Claimed
from .._wording import type_name
from ..errors import AlertNotDelivered, HandlerTimeout, RegistrationError
from .context import Context, new_token, transact

__all__ = ["NamedReceiver", "give", "give_now", "said"]

log = logging.getLogger("projection_guard")
_LEASE_BEYOND_CALL_SECONDS: Final = 20.0
_NEXT_MESSAGE_SECONDS: Final = 1.0
_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedReceiver:
    """A receiver, by the name under which its messages are kept. `in_call` is held while it is called.

    `taken` is what it took last in this process, even after its time: where that could not be written down, it is not
    given again.
    """

    name: str
    call: Receiver
    is_async: bool
    in_call: threading.Lock = field(default_factory=threading.Lock, compare=False)
    taken: deque[UUID] = field(default_factory=lambda: deque[UUID](maxlen=_REMEMBERED), compare=False)

    def now(self, alert: Alert) -> None:
        """Call it, unless a call from before hangs: threads that hang must not become more and more."""
        if not self.in_call.acquire(blocking=False):
            raise AlertNotDelivered("the call before has not come to its end")
        try:
            self._takes(alert, self.call(alert))
        finally:
            self.in_call.release()

    async def awaited(self, alert: Alert) -> None:
        """Await it."""
        result = self.call(alert)
        self._takes(alert, await result if isawaitable(result) else result)

    def _takes(self, alert: Alert, result: object) -> None:
        refuse_undone(result)
        self.taken.append(alert.id)


async def give(context: Context, policy: AlertPolicy, receiver: NamedReceiver, *, stops: Callable[[], bool]) -> int:
    """Give a receiver what is due for it, until it fails: the rest comes the next time; return how many it took."""
    taken = 0
    while not stops():
        token = new_token()
        lease = policy.timeout_seconds + _LEASE_BEYOND_CALL_SECONDS
        claimed = await _claim(context, receiver, token=token, lease_seconds=lease)
        if claimed is None:
            break
        if not await _give_one(context, policy, receiver, claimed, token=token):
            context.wake(_NEXT_MESSAGE_SECONDS)
            break
        taken += 1
    return taken


async def _claim(context: Context, receiver: NamedReceiver, *, token: str, lease_seconds: float) -> Claimed | None:
    return await transact(
        context,
        lambda connection: messages.claim(connection, receiver.name, token=token, lease_seconds=lease_seconds),
        what="alerts",
    )


async def _give_one(
    context: Context, policy: AlertPolicy, receiver: NamedReceiver, claimed: Claimed, *, token: str
) -> bool:
    try:
        if claimed.alert.id not in receiver.taken:
            await give_now(context, policy, receiver, claimed.alert)
    except Exception as error:
        await _put_off(context, policy, receiver, claimed, error, token=token)
        return False
    await transact(context, lambda connection: messages.done(connection, claimed.id, token=token), what="alerts")
    return True


async def give_now(context: Context, policy: AlertPolicy, receiver: NamedReceiver, alert: Alert) -> None:
    """Call a receiver. Raises what it raises, or `HandlerTimeout`."""
    handler = receiver.awaited if receiver.is_async else receiver.now
    call = Call(handler=handler, is_async=receiver.is_async, timeout_seconds=policy.timeout_seconds, abandonable=True)
    await context.io.call(call, alert)


async def _put_off(
    context: Context, policy: AlertPolicy, receiver: NamedReceiver, claimed: Claimed, error: Exception, *, token: str
) -> None:
    delay = policy.next_attempt_seconds(claimed.attempts)
    goes_on = await transact(
        context,
        lambda connection: messages.failed(
            connection,
            claimed.id,
            token=token,
            delay_seconds=delay,
            gives_up_after_seconds=policy.gives_up_after_seconds,
        ),
        what="alerts",
    )
    if goes_on:
        log.warning("alert receiver %s failed (%s); again in %.0f s", receiver.name, said(error), delay)
        context.wake(delay)
    else:
        log.error(
            "alert receiver %s failed %s times (%s); given up: %s",
            receiver.name,
            claimed.attempts,
            said(error),
            claimed.alert.title,
        )


def said(error: Exception) -> str:
    """Say what went wrong: in full where the words are ours, else by type: others' may hold a token."""
    if isinstance(error, HandlerTimeout):
        return "it did not come to its end within its time"
    return str(error) if isinstance(error, (AlertNotDelivered, RegistrationError)) else type_name(error)
