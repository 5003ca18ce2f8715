"""How instances of a class are taken apart into fields and put together again, without running its `__init__`.

Validators and `__post_init__` may change what they are given; an event that happened must come back as it was. So
fields are set as they were stored. Libraries are recognised by the marks they leave on a class; none is imported.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from .errors import CodecError

__all__ = ["Fields", "fields_of", "named_in"]

_MISSING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Takes instances of one class apart, and puts them together."""

    take_apart: Callable[[object], Mapping[str, object]]
    put_together: Callable[[dict[str, object]], object]


def fields_of(kind: type[Any]) -> Fields | None:
    """Return how a class's instances are made of fields; None where that cannot be told."""
    if dataclasses.is_dataclass(kind):
        return _attributes(kind, _dataclass_defaults(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return _attributes(kind, _attrs_defaults(kind))
    if hasattr(kind, "__pydantic_fields__") and hasattr(kind, "model_construct"):
        return _pydantic(kind)
    if hasattr(kind, "_fields") and issubclass(kind, tuple):
        return _named_tuple(kind)
    return None


Default = Callable[[], object]


def _dataclass_defaults(kind: Any) -> dict[str, Default | None]:
    for name, field in kind.__dataclass_fields__.items():
        if "InitVar" in str(field.type):
            raise CodecError(f"{kind.__qualname__}.{name} is an InitVar, which an instance does not keep; use a field")
    defaults: dict[str, Default | None] = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory
        else:
            defaults[field.name] = None if field.default is dataclasses.MISSING else _constant(field.default)
    return defaults


def _constant(value: object) -> Default:
    return lambda: value


def _attrs_defaults(kind: Any) -> dict[str, Default | None]:
    defaults: dict[str, Default | None] = {}
    for attribute in kind.__attrs_attrs__:
        default = attribute.default
        if type(default).__name__ == "Factory":
            defaults[attribute.name] = None if default.takes_self else default.factory
        else:
            defaults[attribute.name] = None if repr(default) == "NOTHING" else _constant(default)
    return defaults


def _complete(kind: type, stored: dict[str, object], defaults: Mapping[str, Default | None]) -> dict[str, object]:
    """Fill in fields that were added since with their defaults; refuse what the class does not know."""
    unknown = [name for name in stored if name not in defaults]
    if unknown:
        raise CodecError(f"{kind.__qualname__} has no field {unknown[0]} any more; keep it, or register a decode=")
    for name, default in defaults.items():
        if name not in stored:
            if default is None:
                raise CodecError(f"{kind.__qualname__}.{name} is not in what is stored, and has no default")
            stored[name] = default()
    return stored


def _attributes(kind: type[object], defaults: Mapping[str, Default | None]) -> Fields:
    def take_apart(instance: object) -> Mapping[str, object]:
        values = {name: getattr(instance, name, _MISSING) for name in defaults}
        return {name: value for name, value in values.items() if value is not _MISSING}

    def put_together(stored: dict[str, object]) -> object:
        instance: object = object.__new__(kind)
        for name, value in _complete(kind, stored, defaults).items():
            object.__setattr__(instance, name, value)
        return instance

    return Fields(take_apart=take_apart, put_together=put_together)


def _named_tuple(kind: Any) -> Fields:
    names: tuple[str, ...] = kind._fields
    given: dict[str, object] = kind._field_defaults
    defaults = {name: _constant(given[name]) if name in given else None for name in names}

    def take_apart(instance: Any) -> Mapping[str, object]:
        return dict(zip(names, instance, strict=True))

    def put_together(stored: dict[str, object]) -> object:
        values = _complete(kind, stored, defaults)
        made: object = typing.cast("Any", tuple).__new__(kind, [values[name] for name in names])
        return made

    return Fields(take_apart=take_apart, put_together=put_together)


def _pydantic(kind: Any) -> Fields:
    """Pydantic v2 compares fields, extras and private attributes; `model_construct` would leave the last two out."""
    known: Mapping[str, Any] = kind.__pydantic_fields__
    defaults: dict[str, Default | None] = {
        name: None if field.is_required() else partial(field.get_default, call_default_factory=True)
        for name, field in known.items()
    }

    def take_apart(instance: Any) -> Mapping[str, object]:
        beside = {
            "$extra": instance.__pydantic_extra__,
            "$private": instance.__pydantic_private__,
            "$set": sorted(instance.__pydantic_fields_set__),
        }
        fields = {name: getattr(instance, name) for name in known}
        return fields | {mark: part for mark, part in beside.items() if part}

    def put_together(stored: dict[str, object]) -> object:
        extra, private = stored.pop("$extra", None), stored.pop("$private", None)
        fields_set = stored.pop("$set", [])
        instance = kind.__new__(kind)
        allows_extra = kind.model_config.get("extra") == "allow"
        object.__setattr__(instance, "__dict__", _complete(kind, stored, defaults))
        object.__setattr__(instance, "__pydantic_fields_set__", set(typing.cast("list[str]", fields_set)))
        object.__setattr__(instance, "__pydantic_extra__", extra or ({} if allows_extra else None))
        object.__setattr__(instance, "__pydantic_private__", private)
        return typing.cast("object", instance)

    return Fields(take_apart=take_apart, put_together=put_together)


def named_in(kind: type[Any]) -> Iterator[type]:
    """Name the classes that a class's type hints mention and that need to be known with it."""
    if issubclass(kind, Enum):
        return
    try:
        hints = typing.get_type_hints(kind)
    except Exception:  # a name that is only there for type checkers: what it stands for is registered by hand
        return
    for hint in hints.values():
        yield from _classes_in(hint)


def _classes_in(hint: object) -> Iterator[type]:
    for argument in typing.get_args(hint):
        yield from _classes_in(argument)
    if isinstance(hint, type):
        kind: type[object] = hint
        if issubclass(kind, Enum) or fields_of(kind) is not None:
            yield kind
