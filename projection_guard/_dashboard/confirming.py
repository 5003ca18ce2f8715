"""What an act will do to a projection, in sentences with counts: they are read before it is done."""

from __future__ import annotations

from dataclasses import dataclass

from .._model import Checkpoint, Health
from .abilities import Act
from .projection import Stands
from .wording import amount, plural

__all__ = [
    "Confirm",
    "pause_does",
    "rebuild_beside_does",
    "rebuild_does",
    "replay_does",
    "reset_does",
    "resume_does",
    "verify_does",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """A page on which an act is confirmed. `does`: what comes of it; `why_not`: it cannot be done.

    `does_beside` is what comes of a rebuild beside the live read model, `why_not_beside` why there can be none;
    `stream_id` is a stream that the form is to name.
    """

    stands: Stands
    act: Act
    does: tuple[str, ...]
    why_not: str | None
    does_beside: tuple[str, ...] = ()
    why_not_beside: str | None = None
    stream_id: str | None = None


def pause_does(stands: Stands) -> tuple[str, ...]:
    """Say what a pause does."""
    waits = (
        "Its events wait in the log, where they are."
        if stands.projection.is_followed
        else "Events that arrive are parked, in their order."
    )
    stops = f"Its handler is not called any more: no new events, no retries{_of_failures(stands)}."
    return (
        f"{stops} What is running now runs to its end first.",
        f"{waits} Nothing is lost, and nothing is given up.",
        "It stays so until somebody resumes it. Other projections go on.",
    )


def _of_failures(stands: Stands) -> str:
    count = stands.health.active_failures
    return f" of its {plural(count, 'open failure')}" if count else ""


def resume_does(stands: Stands) -> tuple[str, ...]:
    """Say what a resumption does."""
    health = stands.health
    waiting = (
        f"for the {plural(health.lag_events, 'event')} waiting now" if health.lag_events else "and nothing waits now"
    )
    return (
        f"Its handler is called again, in order, {waiting}.",
        "Retries that came due meanwhile are made now.",
    )


def reset_does(stands: Stands, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Say what a reset does."""
    health, projection = stands.health, stands.projection
    at = checkpoint.last_event_sequence
    where = f" from event {amount(at)}" if at is not None else ""
    clears = (
        "Its on_reset is called, which is to clear the read model, in the same transaction."
        if projection.on_reset is not None
        else "It has no on_reset: the read model stays as it is, and what is applied again is applied on top of that."
    )
    after = (
        f"Then its events are applied again from the first one to {_end(stands)}; until then the read model is "
        "incomplete."
        if projection.is_followed
        else "Events that were pushed before do not come again by themselves: publish again what it is to have."
    )
    applied = plural(checkpoint.events_processed, "applied event")
    return (
        f"The checkpoint is set back{where} to the beginning. What is known of {applied} is forgotten.",
        f"{_open(health)} end here{_tainted(stands)}.",
        clears,
        after,
        "There is no undo.",
    )


def _open(health: Health) -> str:
    return f"{plural(health.active_failures, 'open failure')} and {plural(health.parked_events, 'parked event')}"


def _tainted(stands: Stands) -> str:
    count = stands.health.tainted_streams
    return f", and {plural(count, 'stream is', 'streams are')} not tainted any more" if count else ""


def _end(stands: Stands) -> str:
    return f"the end of the log, event {amount(stands.lag.head)} now" if stands.lag.head else "the end of the log"


def replay_does(stands: Stands, first_open: int | None, stream_id: str | None) -> tuple[str, ...]:
    """Say what a replay does, by what it is asked for."""
    if stream_id is not None:
        return _replay_of_stream(stands, stream_id)
    health = stands.health
    begins = f"event {amount(stands.lag.cursor + 1)}"
    if first_open is not None:
        begins = (
            f"event {amount(first_open)}, the first of {plural(health.active_failures, 'failed', 'failed')} and "
            f"{plural(health.parked_events, 'parked event')}"
        )
    again = f"With one it applies again, on purpose, what is in it{_past(stands)}"
    return (
        f"Without a range it begins at {begins}, and goes to {_end(stands)}.",
        f"{again}, and settles the failures and parked events there. The checkpoint never moves back.",
        _STANDS_STILL,
    )


_STANDS_STILL = (
    "Meanwhile the projection stands still for all else: new events wait in the log, and no retry is made. It goes on "
    "by itself at the end. The job can rest, and be cancelled."
)


def _past(stands: Stands) -> str:
    return f", up to where it is now: event {amount(stands.lag.cursor)}" if stands.lag.cursor else ""


def _replay_of_stream(stands: Stands, stream_id: str) -> tuple[str, ...]:
    clears = (
        "Its on_reset_stream clears first what the read model has of the stream."
        if stands.projection.on_reset_stream is not None
        else "It has no on_reset_stream: the events are applied on top of what the read model has of the stream. A "
        "handler that sets values mends it so; one that counts would count twice."
    )
    applied = f"All events of stream {stream_id!r} are applied again from its beginning, those that were skipped too"
    return (
        f"{applied}, up to where the projection is. Its failures and parked events are settled, and its taint ends.",
        clears,
        _STANDS_STILL,
    )


def rebuild_does(stands: Stands) -> tuple[str, ...]:
    """Say what a rebuild in place does."""
    clears = (
        "Its on_reset clears the read model: until the end it is incomplete for everybody who reads it."
        if stands.projection.on_reset is not None
        else "It has no on_reset: the events are applied again on top of what the read model has."
    )
    applied = f"All events are applied again, from the first one to {_end(stands)}."
    return (
        clears,
        f"{applied} The {_open(stands.health)} of now end.",
        _STANDS_STILL,
        "There is no undo. Cancelled, it stops where it is, with a part of the read model.",
    )


def rebuild_beside_does(stands: Stands) -> tuple[str, ...]:
    """Say what a rebuild beside the live read model does."""
    tables = ", ".join(stands.projection.tables)
    exchanged = "At the end both are compared, and exchanged in one transaction: nobody sees half of it."
    return (
        f"A second copy of {tables} is filled with all events up to {_end(stands)}, while the live one goes on.",
        f"{exchanged} In what they differed is shown with the job.",
        "Where more events fail than may, the job fails, and the live read model is as it was. Cancelled, too.",
    )


def verify_does(stands: Stands) -> tuple[str, ...]:
    """Say what a verification does."""
    tables = ", ".join(stands.projection.tables)
    made = f"A copy of {tables} is made from the log alone{_past(stands)}, compared with the live one, and dropped."
    return (
        f"{made} Nothing of the live one is touched.",
        "The projection goes on meanwhile; it stands still only for the last stretch and the comparison.",
        "The handler is called again for it: what that does elsewhere than in these tables, it does again.",
    )
