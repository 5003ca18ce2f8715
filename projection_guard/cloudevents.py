"""CloudEvents, of both APIs of their SDK: how one that failed comes back from the database.

`EventMapping` reads CloudEvents by itself: id and source together are the event's id, the extension `partitionkey`, or
else `subject`, its stream. What is stored of one is its attributes and its data, by the SDK's public methods, under a
name that both major versions of the SDK share: what 1.x stored comes back under 2.x.

    cloudevents.register(guard.codec)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, Protocol, cast

from .errors import CodecError

__all__ = ["classes", "register"]

# The name that is stored, and where the class is: in the SDK's 2.x, or else in its 1.x.
_HTTP: Final = "cloudevents.http.CloudEvent"
_PYDANTIC: Final = "cloudevents.pydantic.CloudEvent"
_KNOWN: Final[Mapping[str, Sequence[str]]] = {
    "cloudevents.CloudEvent": ("cloudevents.core.v1.event",),
    "cloudevents.v03.CloudEvent": ("cloudevents.core.v03.event",),
    _HTTP: ("cloudevents.v1.http", "cloudevents.http"),
    _PYDANTIC: ("cloudevents.v1.pydantic", "cloudevents.pydantic"),
}


class Registers(Protocol):
    """A codec to which classes are made known: `JsonCodec`, or one that encrypts what such a one makes."""

    @property
    def register(self) -> Callable[..., None]:
        """Make a class known."""
        ...


def register(codec: object, *subclasses: type) -> None:
    """Let a codec bring CloudEvents back: equal in attributes and data, of the same class; also your subclasses.

    `codec` is `guard.codec`, as long as that is a `JsonCodec` or an `EncryptedCodec` around one. Raises `ImportError`
    where the SDK is not installed, and `CodecError` for a codec that cannot be told, or for what is no subclass.
    """
    if not callable(getattr(codec, "register", None)):
        raise CodecError(f"CloudEvents are registered with a JsonCodec; {type(codec).__name__} has no register()")
    known = classes()
    told = cast("Registers", codec)
    for name, kind in known.items():
        if name == _PYDANTIC:
            told.register(kind, name=name)  # a model: the codec knows what it is made of
        else:
            told.register(kind, name=name, encode=_parts, decode=_maker(kind))
    for kind in subclasses:
        if not issubclass(kind, tuple(known.values())):
            raise CodecError(f"{kind.__qualname__} is no CloudEvent of the SDK; register it with codec.register(...)")
        if _PYDANTIC in known and issubclass(kind, known[_PYDANTIC]):
            told.register(kind)
        else:
            told.register(kind, encode=_parts, decode=_maker(kind))


def classes() -> Mapping[str, type]:
    """Return the SDK's classes of events that are installed, by the names under which they are stored."""
    found = {name: kind for name, places in _KNOWN.items() if (kind := _first(places)) is not None}
    if not found:
        raise ImportError(
            "projection_guard.cloudevents needs the CloudEvents SDK; pip install 'projection-guard[cloudevents]'"
        )
    return found


def _first(places: Sequence[str]) -> type | None:
    for place in places:
        with suppress(ImportError, _feature_not_installed()):
            return cast("type", import_module(place).CloudEvent)
    return None


def _feature_not_installed() -> type[Exception]:
    """Return what the SDK raises where Pydantic is missing: an error of its own, and no ImportError."""
    for place in ("cloudevents.v1.exceptions", "cloudevents.exceptions"):
        with suppress(ImportError):
            return cast("type[Exception]", import_module(place).PydanticFeatureNotInstalled)
    return ImportError


def _parts(event: Any) -> dict[str, object]:
    """Take an event apart."""
    return {"attributes": dict(event.get_attributes()), "data": event.get_data()}


def _maker(kind: Any) -> Callable[[dict[str, Any]], object]:
    """Return what puts an event together again; what its constructor adds by itself was not there."""

    def made(parts: dict[str, Any]) -> object:
        attributes: dict[str, object] = parts["attributes"]
        event = kind(dict(attributes), parts["data"])
        there: Any = event if hasattr(event, "__delitem__") else event.get_attributes()
        for added in [name for name in event.get_attributes() if name not in attributes]:
            del there[added]
        return event

    return made
