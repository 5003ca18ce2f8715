"""The shipped suite for codecs: ours passes it, and each wrong one is found out by the tests that are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from projection_guard import EventCodec, JsonCodec
from projection_guard.testing.codec_conformance import CodecConformance
from tests.testing.wrong_codecs import WRONG, Noted, Wrong, plain_codec
from tests.unit import codec_events


class TestJsonCodec(CodecConformance):
    """With an event of every kind."""

    def codec(self) -> JsonCodec:
        made = JsonCodec()
        made.register(codec_events.Base, codec_events.Moved, codec_events.Renamed, codec_events.Point, Noted)
        return made

    def events(self) -> Sequence[object]:
        return codec_events.all_events()

    def event_with(self, value: object) -> object:
        return Noted(event_id="1", note=value)


class TestPlainCodec(CodecConformance):
    """The good one of which the wrong ones are made."""

    test_another_process_reads_it = None  # type: ignore[assignment]  # ours is tried there, and a wrong one

    def codec(self) -> EventCodec:
        return plain_codec()

    def events(self) -> Sequence[object]:
        return [Noted(event_id="1", note="text"), Noted(event_id="2", note=[1, 2.5, {"key": None}])]

    def event_with(self, value: object) -> object:
        return Noted(event_id="1", note=value)


CASES = [pytest.param(wrong, name, id=f"{wrong.__name__}: {name}") for wrong in WRONG for name in wrong.fails]
TESTS = {name for name in dir(CodecConformance) if name.startswith("test_")}


@pytest.mark.parametrize(("wrong", "name"), CASES)
def test_a_wrong_codec_is_found_out(wrong: type[Wrong], name: str) -> None:
    """By the test whose rule it breaks, which says what it did."""
    suite = wrong()
    test: Callable[..., None] = getattr(suite, f"test_{name}")
    with pytest.raises(AssertionError, match=r"\w{3,}"):
        _call_with_each(test)


def _call_with_each(test: Callable[..., None]) -> None:
    """Call a test as pytest would, with one parameter after the other where it has them."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    if not marks:
        test()
    for value in marks[0].args[1] if marks else ():
        test(value)


def test_every_rule_has_a_codec_that_breaks_it() -> None:
    """A test that no codec can fail would prove nothing."""
    assert {f"test_{name}" for wrong in WRONG for name in wrong.fails} == TESTS


class Bare(CodecConformance):
    """What an author has to write, and no more."""

    def codec(self) -> EventCodec:
        return plain_codec()

    def events(self) -> Sequence[object]:
        return [Noted(event_id="1", note="text")]


def test_what_cannot_be_tested_is_skipped_by_name() -> None:
    """The sentence says which method is missing."""
    with pytest.raises(pytest.skip.Exception, match=r"event_with\(value\) is not implemented"):
        Bare().test_a_large_event_comes_back()
