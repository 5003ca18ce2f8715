"""A cipher for tests: AES-GCM with keys by name, and events with something in them that nobody may see."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from projection_guard import Place, Sealed

__all__ = ["SECRET", "Keyring", "Told", "told"]

SECRET = "canary-of-an-event-4711"


@dataclass(frozen=True)
class Told:
    """An event with a secret."""

    event_id: str
    stream_id: str
    sequence: int | None
    n: int
    secret: str = SECRET


def told(stream: str, n: int) -> Told:
    """Make the n-th event of a stream."""
    return Told(event_id=f"{stream}#{n}", stream_id=stream, sequence=None, n=n)


class Keyring:
    """Encrypts with one key for all, or with one for each stream; keys can be taken away."""

    def __init__(self, *names: str, per_stream: bool = False) -> None:
        self.keys = {name: AESGCM.generate_key(256) for name in names}
        self.current = names[-1] if names else ""
        self.per_stream = per_stream
        self.is_reachable = True
        self.away: set[str] = set()

    def encrypt(self, plain: bytes, place: Place) -> Sealed:
        """Encrypt for a place."""
        self._reach()
        name = f"stream {place.stream_id}" if self.per_stream else self.current
        if self.per_stream:
            self.keys.setdefault(name, AESGCM.generate_key(256))
        nonce = os.urandom(12)
        return Sealed(key_id=name, data=nonce + AESGCM(self.keys[name]).encrypt(nonce, plain, bytes(place)))

    def decrypt(self, sealed: Sealed, place: Place) -> bytes:
        """Open what was encrypted for a place."""
        self._reach()
        if sealed.key_id in self.away:
            raise TimeoutError("no answer about this key")
        return AESGCM(self.keys[sealed.key_id]).decrypt(sealed.data[:12], sealed.data[12:], bytes(place))

    def _reach(self) -> None:
        if not self.is_reachable:
            raise ConnectionError("no way to the keys")
