"""From a handler or an object to a `Projection`: what it takes, how it is called, and whether it fits the guard.

The question "sync or async?" is asked here, once, and so is "does it join the guard's transaction?".
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from ._core.projection import Projection
from ._model import Order
from ._policy import RetryPolicy
from .errors import ConfigurationError, RegistrationError

__all__ = [
    "AsyncHandler",
    "AsyncReset",
    "AsyncStreamReset",
    "EventType",
    "Handler",
    "OrderName",
    "Registration",
    "Reset",
    "StreamReset",
    "check_name",
    "handler_of",
    "make_projection",
    "order_of",
    "predicate_of",
    "type_of",
]

log = logging.getLogger("projection_guard")
EventType = type | str
OrderName = Literal["stream", "none", "global"]
# A handler returns nothing: so a type checker finds an async one that nobody would await, or one with a `yield` in it.
Handler = Callable[[Any], None] | Callable[[Any, Connection], None]
AsyncHandler = (
    Callable[[Any], Awaitable[None]] | Callable[[Any, AsyncConnection], Awaitable[None]] | Callable[[Any], None]
)
Reset = Callable[[Connection], object]
AsyncReset = Callable[[AsyncConnection], Awaitable[object]]
StreamReset = Callable[[Connection, str], object]
AsyncStreamReset = Callable[[AsyncConnection, str], Awaitable[object]]
_TAKEN_BY_HANDLERS: Final = "(event), or (event, connection) to write in the guard's transaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a person asked for when registering a projection. `events_are`: all events of its source are of this class.

    None where that is not known.
    """

    name: str
    handler: Callable[..., object]
    handles: Sequence[EventType] | None
    can_handle: Callable[[object], bool] | None
    retry: RetryPolicy
    order: Order
    timeout_seconds: float
    on_reset: Callable[..., object] | None
    on_reset_stream: Callable[..., object] | None
    is_followed: bool
    events_are: type | None
    partitions: int
    batch: int | None
    tables: Sequence[str]
    applies_again: bool


def order_of(order: str) -> Order:
    """Read an order. Raises `ConfigurationError`."""
    try:
        return Order(order)
    except ValueError:
        choices = ", ".join(repr(choice.value) for choice in Order)
        raise ConfigurationError(f"order= takes one of {choices}, not {order!r}") from None


def check_name(name: object) -> None:
    """Raise `RegistrationError` for what cannot name a projection, such as a handler: then the name was left out."""
    if not isinstance(name, str):
        what = f"the function {getattr(name, '__name__', '?')}" if inspect.isroutine(name) else type(name).__name__
        raise RegistrationError(f'A projection is registered under a name, @guard.projection("Name"), not under {what}')
    if not name or len(name) > 255 or "\0" in name:
        raise RegistrationError("A projection's name has 1 to 255 characters")


def is_async(function: Callable[..., object]) -> bool:
    """Return whether calling this gives something to await."""
    target: object = inspect.unwrap(function)
    while hasattr(target, "func") and not inspect.isfunction(target):
        target = getattr(target, "func", None)
    call: object = getattr(target, "__call__", None)  # noqa: B004  # is it async, not: is it there
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call)


def _yields(function: Callable[..., object]) -> bool:
    """Return whether calling this gives a generator, and does nothing yet."""
    call: object = getattr(function, "__call__", None)  # noqa: B004  # does it yield, not: is it there
    return any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in (function, call))


def make_projection(asked: Registration, *, guard_is_async: bool) -> Projection:
    """Check that a handler fits this guard, and make the projection. Raises `RegistrationError`."""
    check_name(asked.name)
    if _yields(asked.handler):
        raise RegistrationError(
            f"Projection {asked.name!r} has a handler with a yield in it: calling it does nothing; leave the yield out"
        )
    if not isinstance(asked.retry, RetryPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RegistrationError(
            f"Projection {asked.name!r}: retry= takes a RetryPolicy, not {type(asked.retry).__name__}"
        )
    handler_is_async = is_async(asked.handler)
    joins = _parameters(asked.name, asked.handler) == 2
    if handler_is_async and not guard_is_async:
        raise RegistrationError(
            f"Projection {asked.name!r} has an async handler, which a blocking guard cannot await; "
            "use AsyncProjectionGuard"
        )
    if guard_is_async and joins and not handler_is_async:
        raise RegistrationError(
            f"Projection {asked.name!r} has a blocking handler that takes the connection: it would block the loop. "
            "Make it async, or let it take only the event (it then runs in a thread), or use ProjectionGuard"
        )
    if not 0 < asked.timeout_seconds <= 86_400:
        raise RegistrationError(f"Projection {asked.name!r}: timeout= takes seconds above 0, at most a day")
    _check_spread(asked)
    _check_resets(asked, guard_is_async=guard_is_async)
    takes = predicate_of(asked.name, asked.handles, asked.can_handle)
    _check_classes(asked)
    return Projection(
        name=asked.name,
        handler=asked.handler,
        is_async=handler_is_async,
        joins=joins,
        takes=takes,
        types=_types_of(asked.handles),
        is_followed=asked.is_followed,
        partitions=asked.partitions,
        batch=asked.batch,
        tables=tuple(asked.tables),
        applies_again=asked.applies_again,
        retry=asked.retry,
        order=asked.order,
        timeout_seconds=asked.timeout_seconds,
        on_reset=asked.on_reset,
        on_reset_stream=asked.on_reset_stream,
        resets_async=guard_is_async,
    )


def _check_resets(asked: Registration, *, guard_is_async: bool) -> None:
    for what, function, takes in (
        ("on_reset", asked.on_reset, "one parameter, the connection"),
        ("on_reset_stream", asked.on_reset_stream, "two parameters, the connection and the stream's id"),
    ):
        if function is None:
            continue
        if is_async(function) is not guard_is_async:
            needed = "async" if guard_is_async else "a plain function"
            raise RegistrationError(f"Projection {asked.name!r}: {what} has to be {needed} for this guard")
        if _parameters(asked.name, function, what=what, takes=takes) != (1 if what == "on_reset" else 2):
            raise RegistrationError(f"Projection {asked.name!r}: {what} takes {takes}")


def _check_spread(asked: Registration) -> None:
    if not 1 <= asked.partitions <= 1024:
        raise RegistrationError(f"Projection {asked.name!r}: partitions= takes a number from 1 to 1024")
    if asked.partitions > 1 and not asked.is_followed:
        raise RegistrationError(
            f"Projection {asked.name!r}: partitions= divides the work of following a log; give the guard a source="
        )
    if asked.partitions > 1 and asked.order is Order.GLOBAL:
        raise RegistrationError(
            f"Projection {asked.name!r}: order='global' is one line of events; it cannot be divided into partitions"
        )
    if isinstance(asked.tables, str) or any("." in table or not table for table in asked.tables):
        raise RegistrationError(f"Projection {asked.name!r}: tables= takes a list of tables' names, without a schema")
    if asked.batch is not None and not 1 <= asked.batch <= 10_000:
        raise RegistrationError(f"Projection {asked.name!r}: batch= takes a number of events from 1 to 10000, or None")


def _check_classes(asked: Registration) -> None:
    """Refuse a class of which the source makes no event: the projection would pass over all, and be healthy."""
    made = asked.events_are
    if made is None:
        return
    for entry in asked.handles or ():
        if isinstance(entry, type) and not _is_of(made, entry):
            raise RegistrationError(
                f"Projection {asked.name!r} handles the class {entry.__qualname__}, and its source makes a "
                f"{made.__name__} of every event: it would be passed over. Give the source decode=, which makes a "
                f"{entry.__qualname__} of it, or name the type as text, handles=[{entry.__name__!r}]"
            )


def _is_of(made: type, entry: type) -> bool:
    try:
        return issubclass(made, entry)
    except TypeError:  # a protocol, of which only an object can tell
        return True


def _types_of(handles: Sequence[EventType] | None) -> frozenset[str] | None:
    """Return the names of the types that are taken; None where classes are, or all."""
    if handles is None or any(isinstance(entry, type) for entry in handles):
        return None
    return frozenset(str(entry) for entry in handles)


def _parameters(
    name: str, function: Callable[..., object], *, what: str = "handler", takes: str = _TAKEN_BY_HANDLERS
) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"Projection {name!r}: the {what} has no signature that can be read") from error
    needed = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    if needed and needed[0].name in ("self", "cls"):
        raise RegistrationError(
            f"Projection {name!r}: the {what} is a method that does not know its object yet; make the object, and "
            "register that: guard.register(obj)"
        )
    stray = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if not 1 <= len(needed) <= 2 or stray:
        raise RegistrationError(
            f"Projection {name!r}: {what} takes {takes}; this one takes {len(needed) + len(stray)} parameters"
        )
    return len(needed)


def predicate_of(
    name: str, handles: Sequence[EventType] | None, can_handle: Callable[[object], bool] | None
) -> Callable[[object, str], bool]:
    """Return what says whether a projection takes an event: by class (subclasses too), by type's name, or all."""
    if can_handle is not None:
        if is_async(can_handle) or _yields(can_handle):
            raise RegistrationError(f"{name!r} cannot be registered: can_handle(event) is a plain function")
        return lambda event, _: bool(can_handle(event))
    if handles is None:
        return lambda _, __: True
    if isinstance(handles, (str, type)):
        raise RegistrationError(f"Projection {name!r}: handles= takes a list, handles=[{_shown(handles)}]")
    classes = tuple(entry for entry in handles if isinstance(entry, type))
    types = frozenset(entry for entry in handles if isinstance(entry, str))
    if len(classes) + len(types) != len(handles) or not handles:
        raise RegistrationError(
            f"Projection {name!r}: handles= takes a list of event classes or event types' names, at least one"
        )
    by_class = _Instances(name, classes)
    if not types:
        return by_class
    return lambda event, event_type: event_type in types or by_class(event, event_type)


class _Instances:
    """Says whether an event is of one of these classes; what is of one by its type only is passed over, and told."""

    __slots__ = ("_classes", "_name", "_names")

    def __init__(self, name: str, classes: tuple[type, ...]) -> None:
        self._name = name
        self._classes = classes
        self._names = {entry.__name__ for entry in classes}

    def __call__(self, event: object, event_type: str) -> bool:
        if isinstance(event, self._classes):
            return True
        kind = type(event).__name__
        if event_type in self._names and kind != event_type:  # another class of the same name may be meant to pass
            self._names.discard(event_type)  # once
            log.warning(
                "%s passes over events of type %s that are of the class %s: handles= names the class %s. Let the "
                "source's decode= make one, or name the type as text, handles=[%r]",
                self._name,
                event_type,
                kind,
                event_type,
                event_type,
            )
        return False


def _shown(entry: EventType) -> str:
    return repr(entry) if isinstance(entry, str) else entry.__qualname__


def handler_of(projection: object, name: str) -> Callable[..., object]:
    """Return the `handle` method of an object that is registered as a projection."""
    handler = getattr(projection, "handle", None)
    if not callable(handler):
        raise RegistrationError(f"{name!r} cannot be registered: it has no method handle(event)")
    found: Callable[..., object] = handler
    return found


def type_of(projection: object, name: str) -> tuple[Sequence[EventType] | None, Callable[[object], bool] | None]:
    """Return what a registered object says it takes.

    That is `handles()` or `handles`; else `subscribed_to()`, a list of event classes, as buses have it: without their
    subclasses; else `can_handle(event)`; else all.
    """
    handles: object = getattr(projection, "handles", None)
    if callable(handles):
        handles = handles()
    if handles is not None:
        if isinstance(handles, (str, type)) or not isinstance(handles, Iterable):
            raise RegistrationError(f"{name!r} cannot be registered: handles() gives a list of event classes or names")
        return list(cast("Iterable[EventType]", handles)), None
    subscribed_to: object = getattr(projection, "subscribed_to", None)
    if callable(subscribed_to):
        return _only_classes(subscribed_to(), name)
    can_handle: Callable[[object], bool] | None = getattr(projection, "can_handle", None)
    return None, can_handle if callable(can_handle) else None


def _only_classes(subscribed_to: object, name: str) -> tuple[Sequence[EventType], Callable[[object], bool]]:
    entries = list(cast("Iterable[object]", subscribed_to)) if isinstance(subscribed_to, Iterable) else []
    classes = [entry for entry in entries if isinstance(entry, type)]
    if not classes or len(classes) != len(entries):
        raise RegistrationError(
            f"{name!r} cannot be registered: subscribed_to() gives a list of event classes, not empty"
        )
    taken = frozenset(classes)
    return classes, lambda event: type(event) in taken
