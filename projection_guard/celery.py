"""Events that arrive as Celery tasks, with the guarantees of the guard: a task is done once its event is in good hands.

    documents_task = guarded_task(app, guard, "DocumentProjection")
    documents_task.send(event)                          # where events come from

    follow = wake_task(app, guard, "DocumentProjection")       # of a followed projection: `follow.delay()`

A task ends when its event is applied, recorded as failed (the guard's workers retry it), parked, or was applied before.
Where the guard's database is away, or anything else is in the way that is not the event's fault, the message goes back
to the broker. docs/celery.md says what that means for order.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

try:
    from celery import signals
    from celery.exceptions import Reject
except ImportError as error:
    raise ImportError(f"projection_guard.celery needs {error.name}: pip install 'projection-guard[celery]'") from error

from ._desk import begin_own_worker, service_of
from ._encryption import Place, decode_at, encode_at
from ._guard import ProjectionGuard
from ._model import Json
from ._source import partition_of
from .errors import CodecError, ConfigurationError, EventError, ProjectionGuardError, SourceError, StoreUnavailable

__all__ = ["GuardedTask", "guarded_task", "wake_task"]

T = TypeVar("T")
log = logging.getLogger("projection_guard")
_ALWAYS: dict[str, Any] = {
    "acks_late": True,  # the message is the broker's until the guard has the event
    "acks_on_failure_or_timeout": False,  # what cannot be read goes to the queue's dead letters, where it has some
    "acks_on_failure": False,  # the same by Celery 5.7's names: else the application's settings would have the say
    "acks_on_timeout": False,
    "autoretry_for": (),  # an application's base class of tasks would acknowledge what is given back
    "reject_on_worker_lost": True,
    "serializer": "json",
    "max_retries": None,
    "shared": False,  # it is of this guard and this application: another one in the process has its own under that name
}


class CeleryApp(Protocol):
    """An application of Celery's."""

    def task(self, *args: Any, **options: Any) -> Any:
        """Make a task of a function."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedTask:
    """Brings events to one projection. `task` is Celery's own; `queues` are told apart by streams."""

    task: Any
    projection: str
    queues: Sequence[str] = ()
    _guard: ProjectionGuard = field(repr=False)

    def send(self, event: object, **options: Any) -> Any:
        """Send an event to a worker; options are those of Celery's `apply_async`. Returns its `AsyncResult`.

        With `queues`, a stream's events all go to one of them. Raises `EventError`, `CodecError`, and what Celery
        raises where the broker is away.
        """
        record = service_of(self._guard).mapping.read(event)
        if self.queues:
            number = partition_of(record.stream_id or record.event_id, len(self.queues))
            options.setdefault("queue", self.queues[number])
        place = Place(
            projection=self.projection,
            event_id=record.event_id,
            event_type=record.event_type,
            stream_id=record.stream_id,
        )
        payload = encode_at(self._guard.codec, event, place)
        told = {"event_id": record.event_id, "event_type": record.event_type, "stream_id": record.stream_id}
        # Monitors and logs show what `kwargsrepr` says: nothing of what is in an event.
        return self.task.apply_async(kwargs={"event": payload, **told}, **{"kwargsrepr": repr(told), **options})


def guarded_task(
    app: CeleryApp,
    guard: ProjectionGuard,
    projection: str,
    *,
    queues: Sequence[str] = (),
    again_after: float = 5.0,
    **options: Any,
) -> GuardedTask:
    """Make the task that brings events to a projection, where workers and senders both import it.

    `queues`: one stream's events all go to the same one of them; with one worker process for each, its order is that
    in which they were sent. `again_after`: seconds that a worker waits before it gives a message back because the
    guard's database is away, or for whatever else is not the event's fault. Other options are Celery's, such as
    `name`. Raises `ConfigurationError`.
    """
    _check(guard, again_after)

    def apply(
        event: Json, event_id: str = "", event_type: str = "", stream_id: str | None = None
    ) -> dict[str, str | None]:
        place = Place(projection=projection, event_id=event_id, event_type=event_type, stream_id=stream_id)
        read = _or_back(lambda: decode_at(guard.codec, event, place), again_after, StoreUnavailable)
        outcome = _or_back(lambda: guard.apply(projection, read), again_after, Exception)
        return {"status": outcome.status.value, "projection": outcome.projection, "event_id": outcome.event_id}

    task = _task(app, apply, f"projection_guard.apply.{projection}", options)
    return GuardedTask(task=task, projection=projection, queues=tuple(queues), _guard=guard)


def wake_task(
    app: CeleryApp, guard: ProjectionGuard, projection: str, *, again_after: float = 5.0, **options: Any
) -> Any:
    """Make a task that says nothing but that there is something new in the log: it lets the projection catch up.

    The event itself is read in the log, in the log's order, whatever the order and the number of messages: this is how
    to have order with many workers. Raises `ConfigurationError`.
    """
    _check(guard, again_after)

    def wake() -> int:
        return _or_back(lambda: guard.catch_up(projection), again_after, StoreUnavailable, SourceError).applied

    return _task(app, wake, f"projection_guard.wake.{projection}", options)


def _check(guard: object, again_after: float) -> None:
    if not isinstance(guard, ProjectionGuard):
        raise ConfigurationError(f"Celery's workers block: make a ProjectionGuard, not {type(guard).__name__}")
    if not 0 <= again_after <= 600:
        raise ConfigurationError(f"again_after= takes seconds from 0 to 600, not {again_after!r}")
    _begin_and_end_with_its_process(guard)


def _task(app: CeleryApp, function: Callable[..., object], name: str, options: dict[str, Any]) -> Any:
    return app.task(**{**_ALWAYS, "name": name, **options})(function)


def _or_back(work: Callable[[], T], again_after: float, *passing: type[Exception]) -> T:
    """Do it, or give the message back after a while, where what is in the way will pass. Celery then keeps nothing.

    A task that fails is not delivered again: only an event that cannot be read or kept may end so. Retrying by Celery
    would send a new message and acknowledge this one: where the broker is away too, it is lost.
    """
    try:
        return work()
    except (EventError, CodecError):
        raise
    except passing as error:
        said = str(error) if isinstance(error, ProjectionGuardError) else type(error).__name__
        log.warning("a message goes back to its queue in %.0f s: %s", again_after, said)
        with suppress(Exception):  # a soft time limit of Celery's ends the wait, and no more
            time.sleep(random.uniform(again_after / 2, again_after))
        raise Reject(said, requeue=True) from error


def _begin_and_end_with_its_process(guard: ProjectionGuard) -> None:
    """Let the guard's own worker begin with a process that runs tasks, and stop and close the guard when that ends.

    Without it, what failed before would wait for the process's first task.
    """

    def begin(**_: object) -> None:
        begin_own_worker(guard)

    def close(**_: object) -> None:
        guard.close()

    begins: Any = signals.worker_process_init
    ends: Any = signals.worker_process_shutdown
    begins.connect(begin, weak=False, dispatch_uid=f"projection_guard-{id(guard)}")
    ends.connect(close, weak=False, dispatch_uid=f"projection_guard-{id(guard)}")
