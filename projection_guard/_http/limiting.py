"""How often one actor may ask for what is expensive: a moving window, counted by the library `limits`."""

from __future__ import annotations

import logging
import math
import time

from limits import RateLimitItem, parse
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter

from .._io.protocol import IO
from ..errors import ConfigurationError
from .problems import Problem

__all__ = ["Limiter"]

log = logging.getLogger("projection_guard")


class Limiter:
    """Counts what each actor asks of each route.

    `rate` is as `limits` writes it, such as "10/minute"; None is as often as he likes. `storage` is a URI of `limits`:
    "memory://" counts in this process alone, "redis://..." for all of them.
    """

    def __init__(self, rate: str | None, storage: str) -> None:
        try:
            self._item: RateLimitItem | None = None if rate is None else parse(rate)
            self._window = MovingWindowRateLimiter(storage_from_string(storage))
        except Exception as error:
            raise ConfigurationError(
                f"rate_limit= takes a rate such as '10/minute', rate_limit_storage= a URI of the library limits: "
                f"{type(error).__name__}"
            ) from None  # theirs quotes the URI, password and all

    async def count(self, io: IO, route: str, actor: str) -> None:
        """Count one request, off the loop. Raises `Problem` 429, 503."""
        if self._item is not None:
            await io.ask(lambda: self.check(route, actor), is_async=False)

    def check(self, route: str, actor: str) -> None:
        """Count one request; may ask a server. Raises `Problem`: 429, which says when to come again; 503."""
        assert self._item is not None
        try:
            if self._window.hit(self._item, route, actor):
                return
            reset_at = self._window.get_window_stats(self._item, route, actor).reset_time
        except Exception as error:
            log.warning("requests could not be counted: %s", type(error).__name__)
            detail = "How often this was asked for cannot be looked up; ask again shortly"
            raise Problem(status=503, kind="uncounted", detail=detail, headers={"Retry-After": "5"}) from error
        seconds = max(1, math.ceil(reset_at - time.time()))
        raise Problem(
            status=429,
            kind="too-often",
            detail=f"{actor!r} has asked for this too often; again in {seconds} s",
            headers={"Retry-After": str(seconds)},
        )
