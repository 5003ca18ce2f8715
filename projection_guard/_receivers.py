"""Receivers as the application gives them become named ones: a message that waits for one is kept under its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ._alerts import Receiver
from ._core.telling import NamedReceiver
from ._registration import is_async
from .errors import ConfigurationError

__all__ = ["receivers_of"]


def receivers_of(given: Sequence[Receiver], *, guard_is_async: bool) -> list[NamedReceiver]:
    """Name receivers by their `name`, or by what they are. Raises `ConfigurationError` for what this guard cannot call.

    Several of one name are numbered, in the order in which they are given.
    """
    named: list[NamedReceiver] = []
    seen = Counter[str]()
    for receiver in given:
        name = _name_of(receiver)
        seen[name] += 1
        awaited = is_async(receiver)
        if awaited and not guard_is_async:
            raise ConfigurationError(
                f"The alert receiver {name!r} is async, which a blocking guard cannot await; "
                "use AsyncProjectionGuard, or a plain function"
            )
        numbered = name if seen[name] == 1 else f"{name}#{seen[name]}"
        named.append(NamedReceiver(name=numbered, call=receiver, is_async=awaited))
    return named


def _name_of(receiver: Receiver) -> str:
    own = getattr(receiver, "name", None) or getattr(receiver, "__name__", None)
    return str(own or type(receiver).__name__)[:200]
