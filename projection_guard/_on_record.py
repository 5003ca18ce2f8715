"""The projections that a database knows, for whoever looks at them without their handlers: the command line.

What the application registers is taken from there; of the others there is only what is on record. Neither is met for
the first time by this: no row is made, no mode is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ._core.projection import Projection
from ._model import Order
from ._policy import RetryPolicy
from ._service import Service
from ._store import diagnosing
from ._store.diagnosing import Known
from .errors import ConfigurationError

__all__ = ["OnRecord", "on_record"]

_TIMEOUT_SECONDS: Final = 60.0
"""How long calls of a handler that is not known here are waited for: what `timeout=` is by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRecord:
    """What was found. `service` has the projections that are on record, with the handlers of those registered here.

    `detached` are the names of those that are not registered; `unrecorded` of those that are and have no record yet.
    """

    service: Service
    known: Mapping[str, Known]
    detached: frozenset[str]
    unrecorded: tuple[str, ...]


async def on_record(service: Service) -> OnRecord:
    """Look which projections the database knows. Raises `SchemaError`, `StoreUnavailable`."""
    await service.check_schema()
    known = {each.name: each for each in await service.beside(()).read(diagnosing.known)}
    registered = service.projections
    found = [_as_on_record(each, registered.get(name)) for name, each in known.items()]
    return OnRecord(
        service=service.beside(found),
        known=known,
        detached=frozenset(known.keys() - registered.keys()),
        unrecorded=tuple(name for name in registered if name not in known),
    )


def _as_on_record(known: Known, registered: Projection | None) -> Projection:
    """Return a projection in the order and mode in which it has been running until now."""
    if registered is None:
        return _detached(known)
    return replace(registered, order=Order(known.order), is_followed=registered.is_followed and known.is_followed)


def _detached(known: Known) -> Projection:
    def refuse(*_: object) -> None:
        raise ConfigurationError(f"Projection {known.name!r} is not registered here: there is no handler to call")

    return Projection(
        name=known.name,
        handler=refuse,
        is_async=False,
        joins=False,
        takes=lambda _, __: False,
        types=frozenset(),
        is_followed=False,
        partitions=1,
        batch=None,
        tables=(),
        retry=RetryPolicy(),
        order=Order(known.order),
        timeout_seconds=_TIMEOUT_SECONDS,
        on_reset=None,
        on_reset_stream=None,
        resets_async=False,
    )
