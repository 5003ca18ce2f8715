"""Events that are kept encrypted, by a cipher that the application brings: the library has no cryptography of its own.

What is stored in an event's place is an object that names the key and holds the ciphertext; ids, types and streams stay
readable, for the guard works by them. Rows from before decode as they are.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from ._codec import SEALED, JsonCodec
from ._model import Json
from .errors import CodecError, KeysUnavailable

__all__ = [
    "Cipher",
    "EncryptedCodec",
    "EventCodec",
    "Place",
    "Sealed",
    "decode_at",
    "encode_at",
    "plain_codec",
    "plain_of",
]

_KEY: Final = "key"


class EventCodec(Protocol):
    """Turns an event into JSON, and back into an equal event."""

    def encode(self, event: object) -> Json:
        """Return JSON for an event. Raises `CodecError`."""
        ...

    def decode(self, data: Json) -> object:
        """Return an event equal to the one that was encoded. Raises `CodecError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place that an event is kept for. It does not change while it is kept: parked, failed, or healing."""

    projection: str
    event_id: str
    event_type: str
    stream_id: str | None

    def __bytes__(self) -> bytes:
        """Return it as associated data: what was encrypted for one place then opens in no other."""
        return json.dumps([self.projection, self.event_id, self.event_type, self.stream_id]).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a cipher made, and the name of the key by which it opens again. Names of keys are no secrets."""

    key_id: str
    data: bytes = field(repr=False)


class Cipher(Protocol):
    """Encrypts and decrypts. It is called in a transaction, and in an async guard on the loop: it has its keys at hand.

    `ConnectionError` or `TimeoutError` from it mean that its keys cannot be reached now: everything is tried again
    later. Any other error means that there is no way: for an event on record that is a failure that waits for a person.
    """

    def encrypt(self, plain: bytes, place: Place) -> Sealed:
        """Encrypt with the key of today, or of this stream."""
        ...

    def decrypt(self, sealed: Sealed, place: Place) -> bytes:
        """Return what was encrypted. Raises anything where the key is gone or does not open it."""
        ...


class Kept(Protocol):
    """What holds a kept event: a `Failure`, a `Parked` or an `Amendment`."""

    @property
    def projection_name(self) -> str:
        """Return the projection's name."""
        ...

    @property
    def event_id(self) -> str:
        """Return the event's id."""
        ...

    @property
    def event_type(self) -> str:
        """Return the event's type."""
        ...

    @property
    def stream_id(self) -> str | None:
        """Return the event's stream."""
        ...

    @property
    def event_payload(self) -> Json:
        """Return the event as it is stored."""
        ...


class EncryptedCodec:
    """Keeps events encrypted: `EncryptedCodec(cipher)`, or `EncryptedCodec(cipher, inner)` for a codec of your own.

    `accepts_plain`: rows from before encryption decode; say False once none is left, so that nobody who can write into
    the tables slips in a plain one.
    """

    def __init__(self, cipher: Cipher, inner: EventCodec | None = None, *, accepts_plain: bool = True) -> None:
        self._cipher = cipher
        self._inner: EventCodec = JsonCodec() if inner is None else inner
        self._accepts_plain = accepts_plain

    @property
    def register(self) -> Callable[..., None]:
        """Make classes known to the codec inside, as `JsonCodec.register` does."""
        known: Callable[..., None] = cast("Any", self._inner).register
        return known

    @property
    def knows(self) -> Callable[[type], bool]:
        """Ask the codec inside whether there is a way back to an event of a class."""
        known: Callable[[type], bool] = cast("Any", self._inner).knows
        return known

    @property
    def plain(self) -> EventCodec:
        """The codec inside, of which this encrypts what it makes."""
        return self._inner

    def encode_at(self, event: object, place: Place) -> Json:
        """Return an event encrypted for its place. Raises `CodecError`; `KeysUnavailable` for keys out of reach."""
        plain = json.dumps(self._inner.encode(event), separators=(",", ":"), ensure_ascii=False).encode()
        try:
            sealed = self._cipher.encrypt(plain, place)
        except (ConnectionError, TimeoutError) as error:
            raise _out_of_reach(place) from error
        except Exception as error:
            raise CodecError(f"event {place.event_id!r} could not be encrypted ({type(error).__name__})") from error
        return {SEALED: b64encode(sealed.data).decode("ascii"), _KEY: sealed.key_id}

    def decode_at(self, data: Json, place: Place) -> object:
        """Return the event that was encrypted for a place. Raises as `encode_at` does; the message names the key."""
        return self._inner.decode(self._opened(data, place))

    def plain_of(self, kept: Kept) -> Json:
        """Return the readable JSON of a failure's or a parked event's payload, for a person who may see it."""
        place = Place(
            projection=kept.projection_name,
            event_id=kept.event_id,
            event_type=kept.event_type,
            stream_id=kept.stream_id,
        )
        return self._opened(kept.event_payload, place)

    def _opened(self, data: Json, place: Place) -> Json:
        if not isinstance(data, dict) or SEALED not in data:
            if self._accepts_plain or data is None:
                return data
            raise CodecError(f"event {place.event_id!r} is kept unencrypted, which accepts_plain=False refuses")
        key_id = str(data.get(_KEY))
        try:
            sealed = Sealed(key_id=key_id, data=b64decode(str(data[SEALED]), validate=True))
            opened: Json = json.loads(self._cipher.decrypt(sealed, place))
        except (ConnectionError, TimeoutError) as error:
            raise _out_of_reach(place) from error
        except Exception as error:
            raise CodecError(
                f"event {place.event_id!r} is encrypted with the key {key_id!r}, which does not open it: the key is "
                f"gone or another one, or the record was changed ({type(error).__name__})"
            ) from error
        return opened


def encode_at(codec: EventCodec | EncryptedCodec, event: object, place: Place) -> Json:
    """Return what is stored of an event in a place."""
    return codec.encode_at(event, place) if isinstance(codec, EncryptedCodec) else codec.encode(event)


def decode_at(codec: EventCodec | EncryptedCodec, data: Json, place: Place) -> object:
    """Return the event that is stored in a place."""
    return codec.decode_at(data, place) if isinstance(codec, EncryptedCodec) else codec.decode(data)


def plain_codec(codec: EventCodec | EncryptedCodec) -> EventCodec:
    """Return what turns events into JSON that a person can read, and back."""
    return codec.plain if isinstance(codec, EncryptedCodec) else codec


def plain_of(codec: EventCodec | EncryptedCodec, kept: Kept) -> Json:
    """Return the readable JSON of a kept event. Raises `CodecError` where it does not open, `KeysUnavailable`."""
    if isinstance(codec, EncryptedCodec):
        return codec.plain_of(kept)
    if isinstance(kept.event_payload, dict) and SEALED in kept.event_payload:
        raise CodecError("What is stored is encrypted; give the guard an EncryptedCodec that has the key")
    return kept.event_payload


def _out_of_reach(place: Place) -> KeysUnavailable:
    return KeysUnavailable(
        f"{place.projection}: event {place.event_id!r} waits, for the keys of its encryption cannot be reached; "
        "deliver it again once they can"
    )
