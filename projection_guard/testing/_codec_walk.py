"""What the codec suite looks at: JSON as a database keeps it, variations of it, and another process."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from typing import cast

from .._codec_values import is_plain_text
from .._model import Json

__all__ = ["as_stored", "in_another_process", "variations", "why_not_json", "with_texts"]

_CHILD = """
import importlib, json, os, sys
sys.path[:] = json.loads(os.environ["PROJECTION_GUARD_PATH"])
module, _, name = sys.argv[1].partition(":")
suite = importlib.import_module(module)
for step in name.split("."):
    suite = getattr(suite, step)
suite = suite()
stored, events, codec = json.load(sys.stdin), list(suite.events()), suite.codec()
wrong = [
    f"Stored by another process was {event!r:.300}, back came {back!r:.300}"
    for event, back in zip(events, map(codec.decode, stored), strict=True)
    if not (type(back) is type(event) and back == event)
]
print("\\n" + json.dumps({"wrong": wrong, "stored": [suite.codec().encode(event) for event in events]}))
"""
_LONGEST_CHILD_SECONDS = 120


def as_stored(encoded: Json) -> Json:
    """Return what a database gives back of JSON. Raises `TypeError` or `ValueError` for what is none."""
    return cast("Json", json.loads(json.dumps(encoded, allow_nan=False)))


def why_not_json(value: object, at: str = "it") -> str | None:
    """Return what a JSON column would refuse or change, and where; None where there is nothing."""
    if value is None or type(value) in (bool, int):
        return None
    if type(value) is float:
        return None if math.isfinite(value) else f"{at} is the number {value!r}"
    if type(value) is str:
        return None if is_plain_text(value) else f"{at} is a text with NUL or half a character"
    if type(value) is list:
        items = cast("list[object]", value)
        return next(filter(None, (why_not_json(item, f"{at}[{place}]") for place, item in enumerate(items))), None)
    if type(value) is dict:
        pairs = cast("dict[object, object]", value)
        for key, item in pairs.items():
            if type(key) is not str or not is_plain_text(key):
                return f"{at} has the key {key!r}"
            if why := why_not_json(item, f"{at}[{key!r}]"):
                return why
        return None
    return f"{at} is a {type(value).__qualname__}"


def with_texts(data: Json, change: Callable[[str], str]) -> Json:
    """Return JSON with every text changed."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, list):
        return [with_texts(item, change) for item in data]
    if isinstance(data, dict):
        return {change(key): with_texts(item, change) for key, item in data.items()}
    return data


def variations(data: Json) -> Generator[Json]:
    """Yield JSON that somebody has spoilt in one place: something is gone, is too much, or is of another kind."""
    for other in (None, True, -1, 1.5, "", "spoilt", [], [None], {}, {"spoilt": 1}, {"$spoilt": 1}):
        if other != data:
            yield cast("Json", other)
    if isinstance(data, list):
        for place, item in enumerate(data):
            yield [*data[:place], *data[place + 1 :]]
            for changed in variations(item):
                yield [*data[:place], changed, *data[place + 1 :]]
        yield [*data, "spoilt"]
    elif isinstance(data, dict):
        for key, item in data.items():
            yield {name: kept for name, kept in data.items() if name != key}
            for changed in variations(item):
                yield {name: changed if name == key else kept for name, kept in data.items()}
        yield {**data, "spoilt": 1}


def in_another_process(suite: type, stored: Sequence[Json]) -> list[Json]:
    """Let another process read what is stored, and return what it stores of the same events.

    It imports the suite by its module and name, and makes its `codec()` and `events()` there.
    """
    __tracebackhide__ = True
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, f"{suite.__module__}:{suite.__qualname__}"],
        input=json.dumps(stored),
        env={**os.environ, "PROJECTION_GUARD_PATH": json.dumps(sys.path), "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_CHILD_SECONDS,
    )
    if done.returncode != 0:
        raise AssertionError(f"Another process could not read or store the events:\n{done.stderr[-3000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["wrong"]:
        raise AssertionError("\n".join(told["wrong"]))
    return cast("list[Json]", told["stored"])
