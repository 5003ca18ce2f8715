"""An event comes back equal and of the same class, in another process too."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import InitVar, dataclass
from datetime import datetime, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from projection_guard import CodecError, JsonCodec
from tests.fuzz.settings import few
from tests.unit import codec_events as events

ROOT = Path(__file__).parents[2]


def codec() -> JsonCodec:
    """A codec that knows the events of these tests."""
    made = JsonCodec()
    made.register(events.Base, events.Moved, events.Renamed, events.Point)
    return made


def there_and_back(value: object, made: JsonCodec | None = None) -> object:
    """Through JSON text as a database keeps it."""
    made = made or codec()
    text = json.dumps(made.encode(value), allow_nan=False)
    assert "\\u0000" not in text
    return made.decode(json.loads(text))


@pytest.mark.parametrize("event", events.all_events(), ids=lambda event: type(event).__name__)
def test_an_event_comes_back_equal_and_of_its_class(event: object) -> None:
    """Whatever is in it."""
    back = there_and_back(event)
    assert back == event
    assert type(back) is type(event)


def as_mysql_stores_it(data: Any) -> Any:
    """Sort the keys of all objects by their length, and then by their letters."""
    if isinstance(data, list):
        return [as_mysql_stores_it(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {key: as_mysql_stores_it(data[key]) for key in sorted(data, key=lambda key: (len(key), key))}


@pytest.mark.parametrize("event", events.all_events(), ids=lambda event: type(event).__name__)
def test_the_order_of_keys_in_the_database_says_nothing(event: object) -> None:
    """MySQL keeps none: `data` comes before `$class` there."""
    back = codec().decode(as_mysql_stores_it(json.loads(json.dumps(codec().encode(event)))))
    assert (type(back), back) == (type(event), event)


def test_fields_that_do_not_count_for_equality_come_back_too() -> None:
    """Those that `__post_init__` computes as well, without running it."""
    back = there_and_back(events.ordered())
    assert isinstance(back, events.Ordered)
    assert (back.computed, back.local.fold, type(back.level)) == (3, 1, events.Level)


def test_a_fresh_interpreter_brings_the_same_event_back() -> None:
    """Nothing of this process is needed but the classes."""
    stored = json.dumps([codec().encode(event) for event in events.all_events()])
    script = (
        "import json, sys; from tests.unit.test_codec import codec; from tests.unit.codec_events import all_events\n"
        "made = codec(); print([made.decode(data) for data in json.loads(sys.stdin.read())] == all_events())"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=stored, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert done.stdout == "True\n", done.stderr


plain = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=())) | st.floats()
special = st.binary() | st.uuids() | st.datetimes(timezones=st.none() | st.timezones()) | st.timedeltas() | st.dates()
keys = st.text(st.sampled_from("$abdict\0")) | st.integers() | st.booleans()
values = st.recursive(
    plain | special | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner),
    max_leaves=20,
)


def same(left: Any, right: Any) -> bool:
    """Equal, of the same type, all the way down; NaN is NaN, and 0.0 is not -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (left == right and str(left) == str(right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(a, b) for a, b in zip(left.values(), right.values(), strict=True))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


@few(100)
@given(st.dictionaries(keys, values))
def test_any_dict_comes_back_as_it_was(event: dict[object, object]) -> None:
    """Also one that looks like the codec's own marks."""
    assert same(there_and_back(event), event)


def test_plain_values_stay_readable() -> None:
    """An operator can read `event_payload`."""
    event = {"event_id": "1", "amount": 3.5, "lines": [{"sku": "x", "qty": 2}]}
    assert codec().encode(event) == event


@dataclass
class Before:
    """Two classes of one name follow."""

    a: int


def test_a_field_added_since_is_filled_by_its_default_and_a_lost_one_is_refused() -> None:
    """The sentence names class and field."""
    made = codec()
    stored = made.encode(events.Money(Decimal(1)))
    assert isinstance(stored, dict)
    data = stored["data"]
    assert isinstance(data, dict)
    del data["currency"]
    assert made.decode(stored) == events.Money(Decimal(1), "EUR")
    with pytest.raises(CodecError, match="Money has no field gone"):
        made.decode({**stored, "data": {**data, "gone": 1}})
    with pytest.raises(CodecError, match=r"Money\.amount"):
        made.decode({**stored, "data": {}})


def test_what_cannot_come_back_is_refused_with_the_reason() -> None:
    """Never a value in the sentence."""

    class Plain:
        pass

    class Loud(str):
        __slots__ = ()

    made = codec()
    for value in (Plain(), Loud("x"), {"x": Plain()}, [lambda: 1]):
        with pytest.raises(CodecError, match="no way back"):
            made.encode(value)
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(CodecError, match="contains itself"):
        made.encode(circle)

    @dataclass
    class WithInitVar:
        a: InitVar[int]

    with pytest.raises(CodecError, match="InitVar"):
        made.register(WithInitVar)


def test_no_class_is_imported_by_a_name_in_the_database() -> None:
    """An unknown name is an error, whatever it names."""
    for name in ("os.system", "subprocess.Popen", "Nobody"):
        with pytest.raises(CodecError, match="registered"):
            codec().decode({"$class": name, "data": {}})
    with pytest.raises(CodecError):
        codec().decode({"$what": 1})


def test_two_classes_of_one_name_are_told_apart_by_name() -> None:
    """And a renamed class is found by its alias."""
    other = type("Before", (), {"__qualname__": "Before", "__module__": "elsewhere", "__annotations__": {"a": int}})
    second: type = dataclass(other)
    made = codec()
    made.register(Before)
    with pytest.raises(CodecError, match="Two classes are named"):
        made.register(second)
    made.register(second, name="Second", aliases=["Older"])
    assert type(made.decode({"$class": "Older", "data": {"a": 1}})) is second


def test_a_class_with_functions_of_its_own_needs_no_fields() -> None:
    """`encode=` and `decode=` say how."""

    class Odd:
        def __init__(self, n: int) -> None:
            self.n = n

    made = codec()
    made.register(Odd, encode=lambda odd: odd.n, decode=Odd)
    back = there_and_back(Odd(4), made)
    assert isinstance(back, Odd)
    assert back.n == 4


@pytest.mark.parametrize("stored", [{"$decimal": "x"}, {"$datetime": ["2026-01-01T00:00:00", "", 0]}], ids=str)
def test_what_is_no_value_is_a_codec_error(stored: Any) -> None:
    """`decimal` and `zoneinfo` have errors of roots of their own."""
    with pytest.raises(CodecError, match="no event of this codec"):
        codec().decode(stored)


def test_lists_in_lists_without_end_are_a_codec_error() -> None:
    """The stack is not the worker's to lose."""
    stored: Any = []
    for _ in range(100_000):
        stored = [stored]
    with pytest.raises(CodecError, match="RecursionError"):
        codec().decode(stored)


class Strange:
    """Nothing that the codec knows by itself."""


def test_what_was_said_of_a_class_stands_when_it_is_named_again() -> None:
    """`handles=` names the classes that it is given: that takes away neither the name nor the way of one before."""
    codec = JsonCodec()
    codec.register(Strange, name="Strange-1", encode=lambda _: {"n": 1}, decode=lambda _: Strange())
    codec.register(Strange)
    assert codec.knows(Strange)
    assert codec.encode(Strange()) == {"$class": "Strange-1", "data": {"n": 1}}


class Zone(tzinfo):
    """A zone with an offset; one with a summer has none without a date."""

    def __init__(self, *, has_summer: bool = False) -> None:
        self.has_summer = has_summer

    def utcoffset(self, moment: datetime | None, /) -> timedelta | None:
        return None if moment is None and self.has_summer else timedelta(hours=5, minutes=30)

    def dst(self, moment: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None, /) -> str | None:
        return None


def test_a_zone_that_has_one_offset_is_an_offset() -> None:
    """Pydantic and dateutil have zones of their own for what they read; others, with a summer, have to be named."""
    codec = JsonCodec()
    moments: list[datetime | time] = [
        datetime(2026, 1, 2, 3, tzinfo=Zone()),
        TypeAdapter(datetime).validate_json('"2026-01-02T03:04:05Z"'),
        TypeAdapter(datetime).validate_json('"2026-01-02T03:04:05.5-03:00"'),
        time(3, 4, tzinfo=Zone()),
    ]
    for moment in moments:
        back = codec.decode(codec.encode({"at": moment}))
        assert back == {"at": moment}
        assert cast("Any", back)["at"].utcoffset() == moment.utcoffset()
    for refused in (datetime(2026, 1, 2, tzinfo=Zone(has_summer=True)), time(3, 4, tzinfo=Zone(has_summer=True))):
        with pytest.raises(CodecError, match="zone"):
            codec.encode({"at": refused})
