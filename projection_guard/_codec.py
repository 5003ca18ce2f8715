"""Events to JSON, and back to equal events of the same class, in any process.

Plain JSON values stay as they are, so that people can read what is stored; everything else is an object with one key
that begins with "$" and says what it is. Classes are known because somebody registered them (`handles=` does): none is
ever imported by a name found in the database, and nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, Flag
from typing import Final, cast

from ._codec_classes import Fields, fields_of, named_in
from ._codec_values import SPECIAL, is_plain_number, is_plain_text, special_to_json
from ._model import Json
from .errors import CodecError

__all__ = ["SEALED", "JsonCodec"]

SEALED: Final = "$sealed"
"""The mark of what `EncryptedCodec` stores: to this codec it says nothing."""
_FIRST_OF_TWO: Final = ("$class", SEALED)

_DEEPEST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A registered class: its tag, and how its instances are taken apart and put together."""

    tag: str
    kind: type
    fields: Fields | None
    encode: Callable[[object], object] | None
    decode: Callable[[object], object] | None


class JsonCodec:
    """Turns events into JSON and back.

    Dataclasses, attrs classes, Pydantic v2 models, NamedTuples, enums and dicts are known by themselves; the classes
    that a registered one names in its type hints are registered with it, and so are subclasses. Others need
    `register(cls, encode=..., decode=...)`.
    """

    def __init__(self) -> None:
        self._by_class: dict[type, _Entry] = {}
        self._by_tag: dict[str, _Entry] = {}

    def register(
        self,
        *classes: type,
        name: str | None = None,
        aliases: Iterable[str] = (),
        encode: Callable[..., object] | None = None,
        decode: Callable[..., object] | None = None,
    ) -> None:
        """Make classes known. `name` and `aliases` (former names) go with one class; so do `encode` and `decode`.

        The name of a class without its module is what is stored. Two classes of one name are refused: name one of them.
        """
        if (name or aliases or encode or decode) and len(classes) != 1:
            raise CodecError("register() takes one class where name=, aliases=, encode= or decode= is given")
        if (encode is None) is not (decode is None):
            raise CodecError("register() takes encode= and decode= together")
        for kind in classes:
            is_said = kind in self._by_class and name is None and encode is None  # `handles=` names it once more
            if not is_said:
                self._register(kind, name or kind.__qualname__, encode, decode)
            for alias in aliases:
                self._claim_tag(alias, self._by_class[kind])

    def _register(
        self,
        kind: type,
        tag: str,
        encode: Callable[..., object] | None = None,
        decode: Callable[..., object] | None = None,
    ) -> None:
        if kind in self._by_class and encode is None and self._by_class[kind].tag == tag:
            return
        if kind is dict:
            return
        entry = _Entry(tag=tag, kind=kind, fields=fields_of(kind), encode=encode, decode=decode)
        self._claim_tag(tag, entry)
        self._by_class[kind] = entry
        for named in named_in(kind):
            if self._entry_of(named) is None:
                self._register(named, named.__qualname__)

    def _claim_tag(self, tag: str, entry: _Entry) -> None:
        other = self._by_tag.get(tag)
        if other is not None and other.kind is not entry.kind:
            where = {f"{kind.__module__}.{kind.__qualname__}" for kind in (other.kind, entry.kind)}
            if len(where) > 1:
                raise CodecError(
                    f"Two classes are named {tag!r} ({', '.join(sorted(where))}); "
                    "register one of them with guard.codec.register(cls, name=...)"
                )
        self._by_tag[tag] = entry

    def knows(self, kind: type) -> bool:
        """Return whether there is a way back to an event of this class."""
        if kind is dict:
            return True
        entry = self._entry_of(kind)
        return entry is not None and _can_rebuild(entry)

    def _entry_of(self, kind: type) -> _Entry | None:
        """Return a class's entry; a subclass of a registered one is registered when it is first met."""
        entry = self._by_class.get(kind)
        if entry is None and any(base in self._by_class for base in kind.__mro__[1:]):
            self._register(kind, kind.__qualname__)
            entry = self._by_class[kind]
        return entry

    def _tagged(self, tag: str) -> _Entry:
        entry = self._by_tag.get(tag)
        if entry is None:
            for kind in list(self._by_class):
                for sub in _subclasses(kind):
                    self._entry_of(sub)
            entry = self._by_tag.get(tag)
        if entry is None:
            raise CodecError(
                f"No class named {tag!r} is registered; name it in handles=, or as an alias of its new name"
            )
        return entry

    # -- to JSON

    def encode(self, event: object) -> Json:
        """Return JSON for an event. Raises `CodecError`, which names the class and the field, never a value."""
        return self._to_json(event, 0)

    def _to_json(self, value: object, depth: int) -> Json:
        if depth > _DEEPEST:
            raise CodecError(f"An event is nested deeper than {_DEEPEST} levels, or contains itself")
        kind = type(value)
        if value is None or kind is bool or (kind is int and is_plain_number(cast("int", value))):
            return cast("int | None", value)
        if isinstance(value, str) and kind is str and is_plain_text(value):
            return value
        if kind is list:
            return [self._to_json(item, depth + 1) for item in cast("list[object]", value)]
        if kind is dict:
            return self._dict_to_json(cast("dict[object, object]", value), depth)
        for name, collection in (("$tuple", tuple), ("$set", set), ("$frozenset", frozenset)):
            if kind is collection:
                return {name: [self._to_json(item, depth + 1) for item in cast("Iterable[object]", value)]}
        special = special_to_json(value)
        return self._object_to_json(value, depth) if special is None else special

    def _dict_to_json(self, value: dict[object, object], depth: int) -> Json:
        if all(type(key) is str and is_plain_text(key) and not key.startswith("$") for key in value):
            return {str(key): self._to_json(item, depth + 1) for key, item in value.items()}
        pairs = [[self._to_json(key, depth + 1), self._to_json(item, depth + 1)] for key, item in value.items()]
        return {"$dict": list[Json](pairs)}

    def _object_to_json(self, value: object, depth: int) -> Json:
        kind = type(value)
        entry = self._entry_of(kind)
        if entry is None or not _can_rebuild(entry):
            raise CodecError(
                f"There is no way back to a {kind.__qualname__} from the database; make it a dataclass, a Pydantic or "
                "attrs model and name it in handles=, or call guard.codec.register(cls, encode=..., decode=...)"
            )
        if isinstance(value, Flag) and value.name not in type(value).__members__:  # several at once, or none
            return {"$flag": [entry.tag, self._to_json(value.value, depth + 1)]}
        if isinstance(value, Enum):
            return {"$enum": [entry.tag, value.name]}
        if entry.encode is not None:
            return {"$class": entry.tag, "data": self._to_json(entry.encode(value), depth + 1)}
        assert entry.fields is not None
        data: dict[str, Json] = {}
        for name, field in entry.fields.take_apart(value).items():
            try:
                data[name] = self._to_json(field, depth + 1)
            except CodecError as error:
                raise CodecError(f"{kind.__qualname__}.{name}: {error}") from error
        return {"$class": entry.tag, "data": data}

    # -- from JSON

    def decode(self, data: Json) -> object:
        """Return an event equal to the one that was encoded. Raises `CodecError`."""
        try:
            return self._from_json(data)
        except CodecError:
            raise
        except Exception as error:  # also one of a class's own `decode=`, and of a nesting that has no end
            raise CodecError(f"What is stored is no event of this codec ({type(error).__name__})") from error

    def _from_json(self, data: Json) -> object:
        if isinstance(data, list):
            return [self._from_json(item) for item in data]
        if not isinstance(data, dict):
            return data
        mark = next(iter(data), "")
        if len(data) == 2:  # MySQL sorts keys, by their length
            mark = next((each for each in _FIRST_OF_TWO if each in data), mark)
        if not mark.startswith("$"):
            return {key: self._from_json(item) for key, item in data.items()}
        return self._special_from_json(mark, data)

    def _special_from_json(self, name: str, data: dict[str, Json]) -> object:
        value = data[name]
        if name in SPECIAL:
            return SPECIAL[name](value)
        if name == "$class":
            return self._object_from_json(str(value), data["data"])
        if name == SEALED:
            raise CodecError("What is stored is encrypted; give the guard an EncryptedCodec that has the key")
        if not isinstance(value, list):
            raise CodecError(f"What is stored has the mark {name!r} in a form that this version does not know")
        return self._collection_from_json(name, value)

    def _collection_from_json(self, name: str, value: list[Json]) -> object:
        items = [self._from_json(item) for item in value]
        match name:
            case "$enum":
                tag, member = items
                return self._enum_member(str(tag), str(member))
            case "$flag":
                tag, number = items
                return self._flags(str(tag), number)
            case "$dict":
                return dict(_pairs(items))
            case "$tuple":
                return tuple(items)
            case "$set":
                return set(items)
            case "$frozenset":
                return frozenset(items)
            case _:
                raise CodecError(f"What is stored has the mark {name!r}, which this version does not know")

    def _enum_member(self, tag: str, member: str) -> object:
        kind = self._tagged(tag).kind
        if not issubclass(kind, Enum) or member not in kind.__members__:
            raise CodecError(f"{kind.__qualname__} has no member {member} any more")
        return kind[member]

    def _flags(self, tag: str, number: object) -> object:
        kind = self._tagged(tag).kind
        if not issubclass(kind, Flag):
            raise CodecError(f"{kind.__qualname__} is no Flag any more")
        return kind(number)

    def _object_from_json(self, tag: str, data: Json) -> object:
        entry = self._tagged(tag)
        if entry.decode is not None:
            return entry.decode(self._from_json(data))
        if entry.fields is None or not isinstance(data, dict):
            raise CodecError(f"There is no way back to a {tag} any more; register it with encode= and decode=")
        return entry.fields.put_together({name: self._from_json(item) for name, item in data.items()})


def _can_rebuild(entry: _Entry) -> bool:
    return entry.fields is not None or entry.decode is not None or issubclass(entry.kind, Enum)


def _pairs(items: list[object]) -> Iterator[tuple[object, object]]:
    for pair in items:
        key, value = cast("list[object]", pair)
        yield key, value


def _subclasses(kind: type) -> Iterator[type]:
    subs: list[type] = type.__subclasses__(kind)
    for sub in subs:
        yield sub
        yield from _subclasses(sub)
