"""What both guards do with samples, once, as coroutines: the course of one projection, or of all."""

from __future__ import annotations

from collections.abc import Sequence

from ._history import History, Span, laid_out, span_of
from ._on_log import Registered
from ._store import history

__all__ = ["OnHistory"]


class OnHistory:
    """What charts are drawn from."""

    def __init__(self, service: Registered) -> None:
        self._service = service

    async def of(self, name: str, *, hours: float, points: int) -> History:
        """Read one projection's history. Raises `UnknownProjection`, `InvalidArgument`."""
        self._service.named(name)
        (found,) = await self._read([name], span_of(hours, points))
        return found

    async def of_each(self, names: Sequence[str] | None, *, hours: float, points: int) -> tuple[History, ...]:
        """Read the histories of some projections, or of all, in one query. Raises `InvalidArgument`."""
        wanted = self._service.projections if names is None else names
        return await self._read(list(wanted), span_of(hours, points))

    async def _read(self, names: Sequence[str], span: Span) -> tuple[History, ...]:
        await self._service.open(names)
        found = await self._service.read(lambda connection: history.sampled(connection, names, span))
        return tuple(
            History(
                projection_name=name,
                bucket_seconds=60 * span.bucket_minutes,
                points=laid_out(span, found[name].minute, found[name].buckets) if name in found else (),
            )
            for name in names
        )
