"""What happened, told to observers after it was committed: one frozen value, plain callables, no base class."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID

from ._wording import without_values

__all__ = ["Notice", "NoticeKind", "Observer", "log_notice", "tell"]

log = logging.getLogger("projection_guard")


class NoticeKind(StrEnum):
    """The kinds of notices."""

    FAILED = "failed"
    """A handler failed, for the first time with this event."""
    RETRIED = "retried"
    """A retry failed; the next one is planned."""
    EXHAUSTED = "exhausted"
    """No retry is planned any more: a person has to look."""
    HEALED = "healed"
    """A retry succeeded."""
    PARKED = "parked"
    """An event waits its turn."""
    DRAINED = "drained"
    """A parked event has left the line."""
    RESOLVED = "resolved"
    """A person, a replay or a reset ended a failure."""
    TAINTED = "tainted"
    """A stream's read model may be wrong: order may have been broken, or an event was skipped."""
    UNTAINTED = "untainted"
    """A person ended a stream's taint: its read model was mended."""
    STATUS_CHANGED = "status_changed"
    """The health's status is another one: `before`, `after`."""
    HELD = "held"
    """The breaker took a row of failures for an outage."""
    RELEASED = "released"
    """The outage is over."""
    PAUSED = "paused"
    """A person paused the projection."""
    RESUMED = "resumed"
    """A person let it go on."""
    RESET = "reset"
    """It was set back to the beginning."""
    REPLAYED = "replayed"
    """A replay or rebuild has come to its end."""
    REPLAY_STOPPED = "replay_stopped"
    """A replay or rebuild has ended before: cancelled or failed, as `after` says."""
    VERIFIED = "verified"
    """A read model was compared with the log; `after` says what it was found to be: alike, or drifted."""
    FENCED = "fenced"
    """A follower came too late with what it had in hand: its partitions had been taken over, or begun anew."""
    UNREADABLE = "unreadable"
    """A broker's message is no event: `event_id` is the message's, `projection` may name several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened to a projection, and is committed. Never carries an event's payload.

    `error` is what the handler raised, as it is, for an observer that reports errors: what it says may hold values.
    """

    kind: NoticeKind
    projection: str
    event_id: str | None = None
    event_type: str | None = None
    stream_id: str | None = None
    failure_id: UUID | None = None
    attempts: int = 0
    error_type: str | None = None
    fingerprint: str | None = None
    next_retry_seconds: float | None = None
    before: str | None = None
    after: str | None = None
    actor: str | None = None
    error: Exception | None = field(default=None, repr=False, compare=False)


Observer = Callable[[Notice], object]

_LEVELS = {
    NoticeKind.EXHAUSTED: logging.ERROR,
    NoticeKind.HELD: logging.ERROR,
    NoticeKind.UNREADABLE: logging.ERROR,
    NoticeKind.FAILED: logging.WARNING,
    NoticeKind.TAINTED: logging.WARNING,
    NoticeKind.HEALED: logging.INFO,
    NoticeKind.RELEASED: logging.INFO,
    NoticeKind.RESOLVED: logging.INFO,
    NoticeKind.UNTAINTED: logging.INFO,
    NoticeKind.PAUSED: logging.INFO,
    NoticeKind.RESUMED: logging.INFO,
    NoticeKind.RESET: logging.INFO,
    NoticeKind.REPLAYED: logging.INFO,
    NoticeKind.REPLAY_STOPPED: logging.WARNING,
    NoticeKind.FENCED: logging.INFO,
}


_WORSE: Final = ("healthy", "degraded", "critical", "offline")


def _level(notice: Notice) -> int:
    if notice.kind is NoticeKind.VERIFIED:
        return logging.WARNING if notice.after == "drifted" else logging.INFO
    if notice.kind is NoticeKind.STATUS_CHANGED and notice.before in _WORSE and notice.after in _WORSE:
        is_better = _WORSE.index(notice.after) < _WORSE.index(notice.before)
        return logging.INFO if is_better else logging.WARNING
    return _LEVELS.get(notice.kind, logging.DEBUG)


_FACTS: Final = tuple(name for name in Notice.__slots__ if name not in ("kind", "projection", "error"))


def log_notice(notice: Notice) -> None:
    """Log a notice: one line, its facts also in `extra`, with the frames of the error where there is one.

    Of the error itself its type is logged: what it says is the application's, and may hold values of an event.
    """
    level = _level(notice)
    if not log.isEnabledFor(level):
        return
    known = {name: _plain(value) for name in _FACTS if (value := getattr(notice, name)) not in (None, 0)}
    told = ", ".join(f"{name}={value}" for name, value in known.items())
    log.log(
        level,
        "%s: %s (%s)",
        notice.projection,
        notice.kind.value,
        told,
        extra={"notice": notice.kind.value, "projection": notice.projection, **known},
        exc_info=None if notice.error is None else without_values(notice.error),
    )


def _plain(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value


def tell(observers: Sequence[Observer], notices: Sequence[Notice]) -> None:
    """Tell every observer; one that raises is logged and disturbs nobody."""
    for notice in notices:
        for observer in observers:
            try:
                observer(notice)
            except Exception as error:
                log.warning("an observer raised %s on a %r notice", type(error).__name__, notice.kind.value)
