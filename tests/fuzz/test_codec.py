"""Any event comes back equal; whatever stands in the database is an event or a `CodecError`, and imports nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from projection_guard import CodecError, JsonCodec
from projection_guard._codec_values import SPECIAL
from tests.fuzz.settings import few


class Colour(Enum):
    RED = "r"
    GREEN = ("g", 1)


class Access(Flag):
    READ = auto()
    WRITE = auto()


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass(frozen=True)
class Box:
    content: Any
    note: str = ""


@attrs.frozen
class Crate:
    content: Any


class Parcel(BaseModel):
    content: Any


CODEC = JsonCodec()
CODEC.register(Box, Crate, Parcel, Pair, Colour, Access)

hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.complex_numbers(allow_nan=False),
    st.sampled_from([*Colour, *Access, Access(0), Access.READ | Access.WRITE]),
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.dictionaries(st.text(max_size=8) | hashable, inner, max_size=4),
        st.builds(Box, inner, st.text()),
        st.builds(Crate, inner),
        st.builds(lambda content: Parcel.model_construct(content=content), inner),
        st.builds(Pair, inner, inner),
    )


values = st.recursive(hashable, _containers, max_leaves=12)


@few(60)
@given(st.builds(Box, values, st.text()))
def test_any_nested_event_comes_back_equal(event: Box) -> None:
    """Through the text that a database keeps, which has no NUL and no half of a surrogate pair in it."""
    text = json.dumps(CODEC.encode(event), allow_nan=False)
    assert "\\u0000" not in text
    back = CODEC.decode(json.loads(text))
    assert back == event
    assert type(back) is Box


@pytest.mark.parametrize("number", [2**2000, -(10**5000), 7 ** (10**5)], ids=["601 digits", "negative", "84510 digits"])
def test_a_number_that_python_does_not_write_out_comes_back(number: int) -> None:
    """It refuses to turn a very long one into digits, or to read them."""
    assert CODEC.decode(json.loads(json.dumps(CODEC.encode(Box(number))))) == Box(number)


MARKS = [*SPECIAL, "$class", "$enum", "$dict", "$tuple", "$set", "$frozenset", "$flag", "$int", "$unknown"]
TAGS = ["Box", "Crate", "Parcel", "Pair", "Colour", "Access", "os.system", "builtins.eval", "antigravity", "RED"]
ODD = ["1e999999999999999999", "Europe", "../../etc", "inf"]
words = st.sampled_from(TAGS) | st.text(max_size=6) | st.sampled_from(ODD)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words


def _documents(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    tagged = st.builds(lambda tag, data: {"$class": tag, "data": data}, words, inner)
    fields = st.dictionaries(
        st.sampled_from(["content", "note", "first", "second", "$extra", "$set", "$private"]), inner
    )
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(words, inner, max_size=3),
        st.builds(lambda mark, data: {mark: data}, st.sampled_from(MARKS), inner),
        tagged,
        st.builds(lambda tag, data: {"$class": tag, "data": data}, st.sampled_from(TAGS), fields),
    )


documents = st.recursive(scalars, _documents, max_leaves=10)


@few(150)
@example({"$decimal": "no number"})
@example({"$datetime": ["2026-01-01T00:00:00", "Europe", 0]})
@example({"$set": [{"$decimal": "sNaN"}]})
@given(documents)
def test_whatever_is_stored_is_an_event_or_a_codec_error(document: Any) -> None:
    """Never another exception."""
    try:
        CODEC.decode(document)
    except CodecError:
        return


@pytest.mark.parametrize("form", ["list", "dict", "$tuple", "$class"])
@pytest.mark.parametrize("depth", [100, 20_000])
def test_deep_nesting_is_a_codec_error(form: str, depth: int) -> None:
    """Or an event, as deep as it may be."""
    document: Any = None
    for _ in range(depth):
        match form:
            case "list":
                document = [document]
            case "$class":
                document = {"$class": "Crate", "data": {"content": document}}
            case _:
                document = {form if form.startswith("$") else "n": [document] if form.startswith("$") else document}
    if depth == 100:
        CODEC.decode(document)
        return
    with pytest.raises(CodecError):
        CODEC.decode(document)


@few(50)
@given(
    st.sampled_from(["antigravity", "this", "turtledemo", "idlelib.idle"]),
    st.sampled_from(["", ".x", ":y", ".__init__"]),
)
def test_a_name_that_is_stored_is_never_imported(module: str, rest: str) -> None:
    """Classes are those that somebody registered."""
    before = set(sys.modules)
    documents: list[Any] = [{"$class": module + rest, "data": {}}, {"$enum": [module + rest, "RED"]}]
    for document in documents:
        with pytest.raises(CodecError):
            CODEC.decode(document)
    assert set(sys.modules) == before


def test_a_way_back_that_raises_anything_is_a_codec_error() -> None:
    """Also one that somebody registered."""

    class Odd:
        pass

    def decode(data: object) -> Odd:
        raise ZeroDivisionError

    codec = JsonCodec()
    codec.register(Odd, encode=lambda _: 1, decode=decode)
    with pytest.raises(CodecError, match="ZeroDivisionError"):
        codec.decode(codec.encode(Odd()))
