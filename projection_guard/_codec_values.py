"""The values that JSON has no word for: each is an object with one key that names it."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from ._model import Json
from .errors import CodecError

__all__ = ["SPECIAL", "is_plain_number", "is_plain_text", "special_to_json"]

_PLAIN_BITS: Final = 2_000


def is_plain_number(number: int) -> bool:
    """Return whether any JSON library takes this number: Python itself refuses to write or read very long ones."""
    return number.bit_length() <= _PLAIN_BITS


def is_plain_text(text: str) -> bool:
    """Return whether any database's JSON takes this text: no NUL, no half of a surrogate pair."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _moment_to_json(moment: datetime) -> Json:
    zone = moment.tzinfo
    if isinstance(zone, ZoneInfo) and cast("str | None", zone.key) is not None:  # `ZoneInfo.from_file` leaves it out
        return {"$datetime": [moment.replace(tzinfo=None).isoformat(), zone.key, moment.fold]}
    if zone is None or zone is UTC or type(zone) is timezone:
        return {"$datetime": [moment.isoformat(), None, moment.fold]}
    offset = zone.utcoffset(None)  # of zones that have one all the year: Pydantic's, those of dateutil and pytz for "Z"
    if offset is None:
        raise CodecError(f"a datetime in a {type(zone).__qualname__} zone; use zoneinfo or a fixed offset")
    return {"$datetime": [moment.replace(tzinfo=timezone(offset)).isoformat(), None, moment.fold]}


def _moment_from_json(data: Any) -> datetime:
    text, zone, fold = data
    moment = datetime.fromisoformat(text).replace(fold=fold)
    return moment if zone is None else moment.replace(tzinfo=ZoneInfo(zone))


def _time_to_json(value: time) -> Json:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise CodecError("a time of day in a zone; use a datetime")
    return {"$time": [value.isoformat(), value.fold]}


def _float_to_json(value: float) -> Json:
    return value if math.isfinite(value) else {"$float": repr(value)}


_TO_JSON: Final[dict[type, Callable[[Any], Json]]] = {
    int: lambda value: {"$int": hex(value)},
    float: _float_to_json,
    str: lambda value: {"$text": value.encode("utf-8", "surrogatepass").hex()},
    bytes: lambda value: {"$bytes": b64encode(value).decode()},
    bytearray: lambda value: {"$bytearray": b64encode(value).decode()},
    UUID: lambda value: {"$uuid": str(value)},
    Decimal: lambda value: {"$decimal": str(value)},
    complex: lambda value: {"$complex": [_float_to_json(value.real), _float_to_json(value.imag)]},
    datetime: _moment_to_json,
    date: lambda value: {"$date": value.isoformat()},
    time: _time_to_json,
    timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
}


def special_to_json(value: object) -> Json:
    """Return JSON for a value of a known special type (exactly: a subclass would come back as another); else None."""
    encode = _TO_JSON.get(type(value))
    return None if encode is None else encode(value)


def _number(data: Any) -> float:
    return float(data["$float"]) if isinstance(data, dict) else float(data)  # pyright: ignore[reportUnknownArgumentType]


SPECIAL: Final[dict[str, Callable[[Any], object]]] = {
    "$int": lambda data: int(data, 16),
    "$float": float,
    "$text": lambda data: bytes.fromhex(data).decode("utf-8", "surrogatepass"),
    "$bytes": b64decode,
    "$bytearray": lambda data: bytearray(b64decode(data)),
    "$uuid": UUID,
    "$decimal": Decimal,
    "$complex": lambda data: complex(_number(data[0]), _number(data[1])),
    "$datetime": _moment_from_json,
    "$date": date.fromisoformat,
    "$time": lambda data: time.fromisoformat(data[0]).replace(fold=data[1]),
    "$timedelta": lambda data: timedelta(*data),
}
