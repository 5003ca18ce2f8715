"""The codec suite's rules of what is refused: names that nobody registered, spoilt JSON, values with no way back."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from .._encryption import EventCodec
from .._model import Json
from ..errors import CodecError
from ._codec_walk import as_stored, variations, with_texts
from ._source_walk import expect

__all__ = ["CodecRefusals"]

_CANARY = "canary-4711"
_DEEP = 100_000


class CodecRefusals(ABC):
    """The author's part, and the rules of what is refused."""

    @abstractmethod
    def codec(self) -> EventCodec:
        """Return a new codec that knows the classes of `events`; it shares nothing with the one before."""

    @abstractmethod
    def events(self) -> Sequence[object]:
        """Return one event or more of each kind, the same ones at each call and in each process."""

    def event_with(self, value: object) -> object:
        """Optional: return an event that holds this value: a text, or lists in lists."""
        del value
        pytest.skip("event_with(value) is not implemented: strange, large and deep values are untested")

    def _events(self) -> list[object]:
        events = list(self.events())
        expect(bool(events), "events() is empty: return one event at least")
        return events

    def test_unknown_names_are_refused(self) -> None:
        """A class's name that nobody registered is a `CodecError`."""
        for stored, event in self._named():
            unknown = _renamed(stored, event, module="no_such_module", name="NoSuchClass")
            _expect_refused(self.codec(), unknown, "names a class that nobody registered")

    def test_nothing_is_imported(self) -> None:
        """A module that is named in the database is not even looked for."""
        for stored, event in self._named():
            name = type(event).__qualname__
            with _bait(name) as module:
                for called in (name, f"{module}.{name}", f"{module}:{name}"):
                    baited = _renamed(stored, event, module=module, name=called)
                    _expect_refused(self.codec(), baited, f"names the module {module}", may_decode=True)
                    says = "decode() imported a module by a name that it found in what is stored"
                    expect(module not in sys.modules, says)

    def _named(self) -> list[tuple[Json, object]]:
        """Return what is stored of the events whose class is named in it, and those events."""
        pairs = [(as_stored(self.codec().encode(event)), event) for event in self._events()]
        named = [pair for pair in pairs if _renamed(*pair, module="other", name="Other") != pair[0]]
        if not named:
            pytest.skip("their classes' names are nowhere in what is stored: whether those are known is untested")
        return named

    def test_spoilt_json_is_refused(self) -> None:
        """With `CodecError`, or taken for some event; it is no other error, whatever stands there."""
        codec = self.codec()
        for event in self._events():
            for spoilt in variations(as_stored(codec.encode(event))):
                _expect_refused(codec, spoilt, None, may_decode=True)

    def test_deep_json_is_refused(self) -> None:
        """Lists in lists in the database do not exhaust the stack."""
        deep: Json = []
        for _ in range(_DEEP):
            deep = [deep]
        _expect_refused(self.codec(), deep, f"is nested {_DEEP} deep")

    def test_what_has_no_way_back_is_refused(self) -> None:
        """When it is encoded, with `CodecError`, which says nothing of the value."""
        strange = _Strange()
        for value in (strange, lambda: strange, object()):
            try:
                encoded = self.codec().encode(value)
            except CodecError as error:
                expect(_CANARY not in str(error), f"The error tells the value: {error}")
            except Exception as error:
                raise AssertionError(f"{_encoding(value)} raised {type(error).__name__}, not CodecError") from error
            else:
                raise AssertionError(f"{_encoding(value)} returned {encoded!r}, from which nothing leads back")


def _renamed(stored: Json, event: object, *, module: str, name: str) -> Json:
    """Return what is stored with the event's class and module called otherwise, wherever their names stand."""
    kind = type(event)
    named = {
        f"{kind.__module__}.{kind.__qualname__}": f"{module}.{name}",
        f"{kind.__module__}:{kind.__qualname__}": f"{module}:{name}",
        kind.__module__: module,
        kind.__qualname__: name,
        kind.__name__: name,
    }
    return with_texts(stored, lambda text: named.get(text, text))


class _Strange:
    """Belongs to nobody."""

    def __init__(self) -> None:
        self.value = _CANARY

    def __repr__(self) -> str:
        return _CANARY


def _encoding(value: object) -> str:
    return f"encode() of a {type(value).__qualname__}"


def _expect_refused(codec: EventCodec, data: Json, what: str | None, *, may_decode: bool = False) -> None:
    """Fail unless decoding raises `CodecError`; `what` says in a word or two what is stored (None: show it)."""
    __tracebackhide__ = True
    try:
        codec.decode(data)
    except CodecError:
        return
    except RecursionError:
        raise AssertionError(f"{_stored(data, what)}: decode() exhausted the stack; raise CodecError") from None
    except Exception as error:
        says = f"{_stored(data, what)}: decode() raised {type(error).__name__}, not CodecError"
        raise AssertionError(says) from error
    if not may_decode:
        raise AssertionError(f"{_stored(data, what)}: decode() took it for an event; raise CodecError")


def _stored(data: Json, what: str | None) -> str:
    return f"What is stored {what}" if what is not None else f"Stored is {data!r:.1000}"


@contextmanager
def _bait(name: str) -> Generator[str]:
    """Put a module where it could be imported, with a class of this name in it."""
    module = f"bait_{uuid4().hex}"
    with TemporaryDirectory(prefix="projection_guard-") as folder:
        code = f"class {name.rpartition('.')[2]}:\n    pass\n"
        (Path(folder) / f"{module}.py").write_text(code, encoding="utf-8")
        sys.path.insert(0, folder)
        try:
            yield module
        finally:
            sys.path.remove(folder)
            sys.modules.pop(module, None)
