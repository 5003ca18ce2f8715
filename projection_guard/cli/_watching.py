"""A job that is run here, or by a worker, and watched until it has ended; interrupted, it stays on record."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final, TypeVar

from ..errors import StoreUnavailable
from ._command import Call
from ._exits import Exit, Refused, refusal_of
from ._progress import Progress

__all__ = ["Seen", "watched"]

T = TypeVar("T")
_LOOK_EVERY_SECONDS: Final = 0.5
_DONE_AFTER_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How far a job has come, from 0 to 1, and what there is to say of it."""

    share: float
    note: str


async def watched(
    call: Call,
    title: str,
    *,
    run: Callable[[Callable[[], bool]], Coroutine[object, None, T]],
    look: Callable[[], Coroutine[object, None, Seen]],
    interrupted: str,
) -> T:
    """Run a job beside this and show its progress.

    On Ctrl-C, and where the database goes away, it is left where it is, and `interrupted` is said.
    `run` is given what says whether to stop; it gives the job up then, after what it has in hand.
    """
    is_told_to_stop: list[bool] = []
    under_way = call.beside(run(lambda: bool(is_told_to_stop)))
    look_at = monotonic() + _LOOK_EVERY_SECONDS
    try:
        with Progress(call.screen, title) as progress:
            while not under_way.is_done:
                await call.service.context.io.sleep(_DONE_AFTER_SECONDS)
                if monotonic() >= look_at:
                    with suppress(StoreUnavailable):  # the job itself says so, if it meets it too
                        seen = await look()
                        progress.at(seen.share, seen.note)
                    look_at = monotonic() + _LOOK_EVERY_SECONDS
    finally:
        if not under_way.is_done:
            is_told_to_stop.append(True)
            call.screen.refuse(Refused(kind="interrupted", detail=f"Interrupted. {interrupted}", code=Exit.INTERRUPTED))
            await under_way.ended()
    try:
        return under_way.result
    except StoreUnavailable as error:  # whoever began it again would be refused, and not know why
        met = refusal_of(error)
        raise replace(met, detail=f"{met.detail.rstrip('.')}. {interrupted}") from error
