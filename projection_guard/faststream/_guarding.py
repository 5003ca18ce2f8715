"""`Guarding`: the middleware that settles a message with its broker by what became of its event in the guard."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, Final, Literal, Protocol, TypeVar, get_type_hints

from faststream import BaseMiddleware
from faststream.message import StreamMessage

from .._async_guard import AsyncGuarded, AsyncProjectionGuard
from .._desk import begin_own_worker, service_of
from .._model import Order
from .._notices import Notice, NoticeKind
from .._service import Service
from ..errors import ConfigurationError, EventError, ProjectionGuardError, RegistrationError
from ._answering import acknowledge, give_back, reject
from ._beginning import begin_with
from ._fields import in_hand, is_in_hand
from ._rabbit import keep_in_line
from ._settings import broker_of, check, check_channels, check_together, verify

__all__ = ["Guarding", "Unreadable"]

log = logging.getLogger("projection_guard")
G = TypeVar("G", bound=AsyncGuarded[Any])
Unreadable = Literal["reject", "hold"] | Callable[[StreamMessage[Any], Exception], Awaitable[object]]
"""What is done with a message that is no event: see `Guarding`."""
_NOT_AN_EVENT: Final = (ValueError, TypeError, LookupError)
_READERS: Final = ("contextlib", "msgspec", "pydantic")
_LONGEST_GOODBYE_SECONDS: Final = 1.0
_PLAIN: Final = (object, dict, list, str, int, float, bool, bytes)


class Subscriber(Protocol):
    """A subscriber of any FastStream broker, or of a router."""

    def __call__(self, func: Callable[..., Any], /) -> object:
        """Take a handler."""
        ...


class _NotAnEvent(Exception):
    """The message was read, and says nothing that the guard could keep or order."""


class _NotTaken(Exception):
    """The guard did not take the event, for whatever reason: it says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attached:
    """A subscriber, and what receives from it; held, so that it stays the one of its id."""

    subscriber: Subscriber
    what: str
    is_ordered: bool


class Guarding:
    """Brings the messages of FastStream subscribers to projections; give it to the broker as a middleware.

    A message is acknowledged when its event was applied, is a duplicate, or is on record as failed or parked: all of
    these are durable. Where the guard's database did not take it, or anything else was in the way, it is given back and
    comes again after `retry_seconds`. Cancelled, it is given back at once and comes again; what was committed by then
    is recognised as a duplicate.

    `unreadable` says what becomes of a message that is no event (it cannot be decoded, or has no id, type or stream):
    "reject" gives it up to the broker's dead letters, "hold" gives it back again and again, so that everything behind
    it waits for a person; a function `await f(message, error)` may keep it elsewhere, and the message is acknowledged
    when it returns. By default it is rejected, and a subscriber where that would lose it is refused. Each is logged as
    an error and told to observers as `unreadable`.
    """

    def __init__(
        self,
        guard: AsyncProjectionGuard,
        *,
        retry_seconds: float = 2.0,
        unreadable: Unreadable | None = None,
    ) -> None:
        if not isinstance(guard, AsyncProjectionGuard):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"Guarding takes an AsyncProjectionGuard, not {type(guard).__name__}: FastStream runs on asyncio"
            )
        if not 0 < retry_seconds <= 3600:
            raise ConfigurationError(
                f"Guarding(retry_seconds=...) takes seconds above 0, at most an hour, not {retry_seconds!r}"
            )
        if unreadable not in (None, "reject", "hold") and not callable(unreadable):
            raise ConfigurationError("Guarding(unreadable=...) takes 'reject', 'hold', or an async function")
        self._guard = guard
        self._service: Service = service_of(guard)
        self.retry_seconds = retry_seconds
        self.unreadable: Unreadable | None = unreadable
        self._attached: dict[int, _Attached] = {}
        self._verified: set[int] = set()

    # -- registering

    def on(self, *subscribers: Subscriber, event: object = None) -> Callable[[G], G]:
        """Let a guarded projection take what these subscribers receive; several are the partitions of one.

        FastStream decodes the body into `event`, by default the annotation of the handler's first parameter. Raises
        `RegistrationError` where a setting of a subscriber would lose messages, or break the order of streams.
        """

        def attach(guarded: G) -> G:
            if not isinstance(guarded, AsyncGuarded):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise RegistrationError("Guarding.on(...) goes above @guard.projection(...), on what that returns")
            projection = self._service.named(guarded.name)
            kind = _first_hint(guarded) if event is None else event

            async def bring(body: object) -> object:
                return await self._service.apply(guarded.name, body)

            self._attach(guarded.name, subscribers, kind, bring, lambda: [projection.name], projection.order)
            return guarded

        return attach

    def all_on(self, *subscribers: Subscriber, event: object = None) -> None:
        """Let every projection of the guard take what these subscribers receive; `event` is what the body is read as.

        The message is acknowledged when all of them have it. Raises `RegistrationError` as `on` does.
        """
        orders = {each.order for each in self._service.projections.values()} or {Order.STREAM}
        strictest = next(order for order in (Order.GLOBAL, Order.STREAM, Order.NONE) if order in orders)
        self._attach(
            "all projections",
            subscribers,
            event,
            self._service.publish,
            lambda: list(self._service.projections),
            strictest,
        )

    def _attach(
        self,
        what: str,
        subscribers: tuple[Subscriber, ...],
        kind: object,
        bring: Callable[[object], Awaitable[object]],
        names: Callable[[], list[str]],
        order: Order,
    ) -> None:
        if not subscribers:
            raise RegistrationError(f"{what}: name at least one subscriber that it is to receive from")
        if order is Order.GLOBAL and len(subscribers) > 1:
            raise RegistrationError(
                f"{what}: order='global' is one line of events; it cannot be received by {len(subscribers)} subscribers"
            )
        is_ordered = order is not Order.NONE
        for subscriber in subscribers:
            if id(subscriber) in self._attached:
                raise RegistrationError(
                    f"{what}: its subscriber is {self._attached[id(subscriber)].what}'s already; give each one of its "
                    "own, or let all projections share one with guarding.all_on(...)"
                )
            check(subscriber, what, is_ordered=is_ordered, unreadable=self.unreadable)
        check_together(subscribers, what)
        kept = [each.subscriber for each in self._attached.values() if is_ordered or each.is_ordered]
        check_channels(subscribers, what, kept, is_ordered=is_ordered)
        self._learn(what, kind)
        for subscriber in subscribers:
            self._attached[id(subscriber)] = _Attached(subscriber=subscriber, what=what, is_ordered=is_ordered)
            if broker_of(subscriber) == "rabbit":
                keep_in_line(subscriber, is_ordered=is_ordered)
            begin_with(subscriber, lambda: begin_own_worker(self._guard))
            subscriber(self._receiver(what, kind, bring, names))

    def _learn(self, what: str, kind: object) -> None:
        """Make sure that there is a way back to what the body is read as: else no message of it could be kept."""
        codec = self._service.context.codec
        knows, register = getattr(codec, "knows", None), getattr(codec, "register", None)
        if not isinstance(kind, type) or kind in _PLAIN or knows is None or knows(kind):
            return
        try:
            if register is not None:
                register(kind)
        except ValueError as error:
            raise RegistrationError(f"{what}: {error}") from error

    def _receiver(
        self,
        what: str,
        kind: object,
        bring: Callable[[object], Awaitable[object]],
        names: Callable[[], list[str]],
    ) -> Callable[..., Awaitable[None]]:
        async def receive(event: Any) -> None:
            if not is_in_hand():
                raise ConfigurationError(
                    f"{what}: a message came past the middleware and is not acknowledged; "
                    "give the broker middlewares=[guarding]"
                )
            try:
                self._check(event, names())
                await bring(event)
            except _NotAnEvent:
                raise
            except Exception as error:  # also an EventError: the event was read just now, so it is not at fault
                raise _NotTaken(_said(error)) from error

        receive.__annotations__ = {"return": None} if kind is None else {"event": kind, "return": None}
        receive.__name__ = receive.__qualname__ = "".join(c if c.isalnum() else "_" for c in what)
        return receive

    def _check(self, event: object, names: list[str]) -> None:
        """Raise `_NotAnEvent` where an event lacks its id, its type, or the stream that orders it."""
        try:
            record = self._service.mapping.read(event)
            for name in names:
                projection = self._service.named(name)
                if projection.takes(event, record.event_type):
                    projection.ticket(record)
        except EventError as error:
            raise _NotAnEvent(str(error)) from error

    # -- receiving

    def __call__(self, msg: Any, /, *, context: Any) -> BaseMiddleware[Any, Any]:
        """Make the middleware of one message: FastStream calls this."""
        return _Settling(self, msg, context)

    def guards(self, subscriber: object) -> bool:
        """Return whether what this subscriber receives is brought to projections."""
        return id(subscriber) in self._attached

    async def receive(
        self, subscriber: object, message: StreamMessage[Any], call_next: Callable[[Any], Awaitable[object]]
    ) -> None:
        """Bring one message, and settle it. Raises nothing but a cancellation, or what ends the process."""
        attached = self._attached[id(subscriber)]
        what = attached.what
        try:
            with in_hand(message):
                await self._bring(attached, message, call_next)
        except asyncio.CancelledError:
            with suppress(Exception):
                async with asyncio.timeout(_LONGEST_GOODBYE_SECONDS):
                    await give_back(message, None)
            raise
        except _NotAnEvent as error:
            await self._settle_unreadable(what, message, error)
        except Exception as error:
            await self._hold(what, message, str(error) if isinstance(error, _NotTaken) else _said(error))
        else:
            await self._told(what, lambda: acknowledge(message))

    async def _bring(
        self, attached: _Attached, message: StreamMessage[Any], call_next: Callable[[Any], Awaitable[object]]
    ) -> None:
        if id(attached.subscriber) not in self._verified:
            await verify(attached.subscriber, attached.what, is_ordered=attached.is_ordered, unreadable=self.unreadable)
            self._verified.add(id(attached.subscriber))
        try:
            await message.decode()
        except ProjectionGuardError:
            raise
        except _NOT_AN_EVENT as error:  # what a decoder raises
            raise _NotAnEvent(f"it cannot be decoded ({type(error).__name__})") from error
        try:
            await call_next(message)
        except ProjectionGuardError:
            raise
        except _NOT_AN_EVENT as error:
            if not _is_of_the_body(error):
                raise
            raise _NotAnEvent(f"it cannot be decoded ({type(error).__name__})") from error

    async def _settle_unreadable(self, what: str, message: StreamMessage[Any], error: _NotAnEvent) -> None:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        told = Notice(
            kind=NoticeKind.UNREADABLE,
            projection=what,
            event_id=message.message_id,
            error_type=type(cause).__name__,
        )
        self._service.context.tell([told])
        log.warning("%s: message %s is no event: %s", what, message.message_id, error)
        if self.unreadable == "hold":
            await self._hold(what, message, "it waits for a person")
        elif callable(self.unreadable):
            try:
                await self.unreadable(message, cause)
            except Exception as refused:
                await self._hold(what, message, f"what is to keep it raised {type(refused).__name__}")
            else:
                await self._told(what, lambda: acknowledge(message))
        else:
            await self._told(what, lambda: reject(message))

    async def _hold(self, what: str, message: StreamMessage[Any], why: str) -> None:
        log.warning(
            "%s: message %s was not taken and comes again in %s s: %s",
            what,
            message.message_id,
            self.retry_seconds,
            why,
        )
        await self._told(what, lambda: give_back(message, self.retry_seconds))

    async def _told(self, what: str, tell: Callable[[], Awaitable[object]]) -> None:
        """Tell the broker; where it is away it brings the message again by itself."""
        try:
            await tell()
        except Exception as error:
            log.warning(
                "%s: the broker could not be told of a message (%s): it comes again", what, type(error).__name__
            )


class _Settling(BaseMiddleware[Any, Any]):
    """The middleware around one message."""

    def __init__(self, guarding: Guarding, msg: Any, context: Any) -> None:
        super().__init__(msg, context=context)
        self._guarding = guarding

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]) -> Any:
        """Bring the message to its projection, if its subscriber is a guarded one."""
        subscriber: object = self.context.get_local("handler_")
        if not self._guarding.guards(subscriber):
            return await call_next(msg)
        return await self._guarding.receive(subscriber, msg, call_next)


def _is_of_the_body(error: Exception) -> bool:
    """Return whether it was raised in reading the body as its class, and not by a dependency or another middleware."""
    frames = (str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in walk_tb(error.__traceback__))
    return [name for name in frames if name not in _READERS][-1:] == ["fast_depends"]


def _said(error: Exception) -> str:
    """Say what was in the way: our own sentences, of others only their class, for they may hold values."""
    return f"{type(error).__name__}: {error}" if isinstance(error, ProjectionGuardError) else type(error).__name__


def _first_hint(guarded: AsyncGuarded[Any]) -> object:
    """Return how the handler's first parameter is annotated; None where it is not."""
    handler: Callable[..., object] = guarded.handler
    function = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    try:
        hints = get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
    except Exception as error:
        raise RegistrationError(
            f"{guarded.name}: the annotations of its handler cannot be read ({type(error).__name__}); "
            "say what a message's body is with guarding.on(..., event=...)"
        ) from error
    return hints.get(parameters[0])
