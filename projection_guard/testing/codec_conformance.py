"""What an author of an event codec runs against it: the contract of `EventCodec`, one test for each of its rules.

    class TestMyCodec(CodecConformance):
        def codec(self): ...
        def events(self): ...

docs/testing.md has an example that runs. Not imported by `projection_guard.testing` itself, since it needs pytest.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

try:
    import pytest
except ImportError as error:
    raise ImportError(
        f"projection_guard.testing.codec_conformance needs {error.name}: pip install 'projection-guard[test]'"
    ) from error

from .._encryption import EventCodec
from .._model import Json
from ..errors import CodecError
from ._codec_refusals import CodecRefusals
from ._codec_walk import as_stored, in_another_process, why_not_json
from ._source_walk import expect

__all__ = ["CodecConformance"]

_TEXTS = {
    "accents, one and two characters": "\u00e9 e\u0301",
    "beyond the 16 bits of old": "\U0001f600 \U00010348",
    "right to left, invisible, private": "\u202e\u05d0\u200b\ufeff\ue000",
    "controls": "\x01\t\n\r\x1f\x7f\x85\u2028",
    "quotes and backslashes": "\"'\\ \\u0041 \\\\u0000 {}[]$%s",
    "numbers as text": "1e400 -0 NaN null",
    "NUL": "a\0b",
    "half of a pair": "\ud800 \udfff",
    "nothing": "",
}
_LARGE = 1_000_000
_DEPTHS = (10, 50, 200, 100_000)
_THREADS = 4


class CodecConformance(CodecRefusals):
    """Subclass it as `Test...`, say which codec and which events, and pytest finds the rest.

    A test that needs the optional `event_with` is skipped without it, and names it.
    """

    def test_it_is_a_codec_by_its_methods(self) -> None:
        """`encode` and `decode` are there, and neither is async."""
        codec = self.codec()
        for name in ("encode", "decode"):
            expect(callable(getattr(codec, name, None)), f"A codec has the method {name}; {codec!r} has none")
        encoded: object = codec.encode(self._events()[0])
        expect(not hasattr(encoded, "__await__"), "encode() is async, and the guard does not await it")

    def test_an_equal_event_comes_back(self) -> None:
        """Of the same class, equal in both directions, from the JSON as a database keeps it."""
        for event in self._events():
            _expect_equal(event, self._there_and_back(self.codec(), event))

    def test_what_is_stored_is_json(self) -> None:
        """Dicts with text as keys, lists, text, finite numbers, bool and None; no NUL, and no half characters."""
        for event in self._events():
            why = why_not_json(self.codec().encode(event))
            expect(why is None, f"{type(event).__qualname__} was encoded to what no database's JSON takes: {why}")

    def test_encoding_again_gives_the_same(self) -> None:
        """By one object and by another one; an event that came back is stored as it was."""
        for event in self._events():
            first, codec = self.codec().encode(event), self.codec()
            for again in (codec.encode(event), codec.encode(event), codec.encode(codec.decode(as_stored(first)))):
                expect(again == first, f"{type(event).__qualname__} was encoded to {first}, and again to {again}")

    def test_neither_side_is_changed(self) -> None:
        """An event is as it was after encoding, and what is stored after decoding; they share nothing."""
        for event in self._events():
            codec, was = self.codec(), deepcopy(event)
            stored = as_stored(codec.encode(event))
            _expect_equal(was, event)
            kept = deepcopy(stored)
            codec.decode(stored)
            expect(stored == kept, f"decode() changed what it was given: {kept} is {stored} now")

    def test_another_object_reads_it(self) -> None:
        """What one codec has stored, one that has never encoded anything reads: nothing is kept between them."""
        stored = [as_stored(self.codec().encode(event)) for event in self._events()]
        for event, data in zip(self._events(), stored, strict=True):
            _expect_equal(event, self.codec().decode(data))

    def test_another_process_reads_it(self) -> None:
        """And the other way round: nothing depends on addresses, hashes or what was imported first."""
        stored = [self.codec().encode(event) for event in self._events()]
        for event, data in zip(self._events(), in_another_process(type(self), stored), strict=True):
            _expect_equal(event, self.codec().decode(data))

    def test_threads_do_not_disturb_each_other(self) -> None:
        """One codec serves all threads of a process."""
        codec, events = self.codec(), self._events() * 10

        def back(event: object) -> object:
            return self._there_and_back(codec, event)

        with ThreadPoolExecutor(_THREADS) as pool:
            for event, came_back in zip(events, pool.map(back, events), strict=True):
                _expect_equal(event, came_back)

    @pytest.mark.parametrize("text", _TEXTS.values(), ids=_TEXTS)
    def test_any_text_comes_back(self, text: str) -> None:
        """Or is refused with `CodecError`, which leaves it to the author; what comes back is never another text."""
        event = self.event_with(text)
        try:
            encoded = self.codec().encode(event)
        except CodecError:
            return
        why = why_not_json(encoded)
        expect(why is None, f"{text!r} was encoded to what no database's JSON takes: {why}")
        _expect_equal(event, self.codec().decode(as_stored(encoded)))

    def test_a_large_event_comes_back(self) -> None:
        """A million characters, too."""
        event = self.event_with("0123456789" * (_LARGE // 10))
        came_back = self._there_and_back(self.codec(), event)
        expect(type(came_back) is type(event) and came_back == event, "An event with a million characters was changed")

    @pytest.mark.parametrize("depth", _DEPTHS)
    def test_a_deep_event_comes_back_or_is_refused(self, depth: int) -> None:
        """With `CodecError`, never by exhausting the stack."""
        value: list[object] = []
        for _ in range(depth):
            value = [value]
        event = self.event_with(value)
        try:
            encoded = self.codec().encode(event)
        except CodecError:
            return
        except RecursionError:
            raise AssertionError(
                f"An event nested {depth} deep exhausted the stack; refuse it with CodecError"
            ) from None
        try:
            came_back = self.codec().decode(as_stored(encoded))
        except RecursionError:
            raise AssertionError(f"An event nested {depth} deep was stored, and cannot be read again") from None
        _expect_equal(event, came_back)

    def _there_and_back(self, codec: EventCodec, event: object) -> object:
        encoded = codec.encode(event)
        try:
            stored: Json = as_stored(encoded)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"encode() of {type(event).__qualname__} returned what is no JSON: {error}") from None
        return codec.decode(json.loads(json.dumps(stored)))


def _expect_equal(event: object, came_back: object) -> None:
    __tracebackhide__ = True
    expect(
        type(came_back) is type(event),
        f"A {type(event).__qualname__} was stored, and a {type(came_back).__qualname__} came back",
    )
    expect(bool(came_back == event and event == came_back), f"Stored was {event!r:.500}, back came {came_back!r:.500}")
