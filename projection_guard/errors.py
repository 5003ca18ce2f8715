"""Every error the library raises on purpose.

One root, so that an application can catch all of them; each also inherits the builtin that a caller would
expect. A message names the projection and the event, never the event's payload and never a password.
"""

from __future__ import annotations

from datetime import datetime

__all__ = [
    "AlertNotDelivered",
    "CodecError",
    "ConfigurationError",
    "ConnectionRefusedToHandler",
    "DeliveryInterrupted",
    "EventError",
    "ExecutorLost",
    "FailureBusy",
    "FailureResolved",
    "HandlerCancelled",
    "HandlerDied",
    "HandlerLeftTransactionAborted",
    "HandlerTimeout",
    "InvalidArgument",
    "KeysUnavailable",
    "PermanentFailure",
    "ProjectionGuardError",
    "RebuildRefused",
    "RegistrationError",
    "RetryAfter",
    "SchemaError",
    "SourceError",
    "StoreUnavailable",
    "UnknownBulkAction",
    "UnknownFailure",
    "UnknownProjection",
    "UnknownReplay",
    "WaitTimeout",
]


class ProjectionGuardError(Exception):
    """The root of all errors that this library raises."""


class ConfigurationError(ProjectionGuardError, ValueError):
    """The guard cannot be built or used as it was asked to: a URL, an engine or an option is wrong."""


class RegistrationError(ProjectionGuardError, ValueError):
    """A projection cannot be registered: its name is taken, or its handler does not fit this guard."""


class AlertNotDelivered(ProjectionGuardError, ConnectionError):
    """A receiver did not take an alert: it is given to it again later."""


class InvalidArgument(ProjectionGuardError, ValueError):
    """An argument of a call is out of bounds; nothing was done."""


class EventError(ProjectionGuardError, ValueError):
    """An event lacks something the guard needs; no handler was called for it."""


class CodecError(ProjectionGuardError, ValueError):
    """An event cannot be turned into JSON, or JSON cannot be turned back into an equal event."""


class UnknownProjection(ProjectionGuardError, LookupError):
    """No projection of this name is registered with this guard."""


class UnknownFailure(ProjectionGuardError, LookupError):
    """No failure has this id."""


class UnknownBulkAction(ProjectionGuardError, LookupError):
    """No bulk action has this id."""


class UnknownReplay(ProjectionGuardError, LookupError):
    """No replay has this id."""


class RebuildRefused(ProjectionGuardError, RuntimeError):
    """A rebuild beside the live read model was given up: too many events failed there. The live one is as it was."""


class ExecutorLost(ProjectionGuardError, RuntimeError):
    """The executor of a rebuild has lost its tasks, and cannot go on; the job stays on record where it is."""


class FailureBusy(ProjectionGuardError, RuntimeError):
    """Somebody else is at work on the failure, its stream or its projection right now, or was here first."""


class FailureResolved(ProjectionGuardError, RuntimeError):
    """The failure was resolved already: `resolved_by` whom (None: a retry or a replay), `resolved_at`, and how."""

    def __init__(self, message: str, *, resolved_by: str | None, resolved_at: datetime, resolution_method: str) -> None:
        super().__init__(message)
        self.resolved_by = resolved_by
        self.resolved_at = resolved_at
        self.resolution_method = resolution_method


class SchemaError(ProjectionGuardError, RuntimeError):
    """The guard's tables are missing, half there, foreign, or of another revision than this version needs."""


class StoreUnavailable(ProjectionGuardError, ConnectionError):
    """The guard's database did not take a record of what happened; nothing unrecorded is reported as applied.

    Deliver the event again once the database is back: what was recorded is recognised as a duplicate.
    """


class KeysUnavailable(StoreUnavailable):
    """The keys by which an event is kept encrypted cannot be reached; until they can it is neither kept nor read."""


class DeliveryInterrupted(StoreUnavailable):
    """At least one projection could not take an event, for reasons of the store; the others have theirs.

    `outcomes` holds what was recorded, `errors` maps the name of each projection that was left out to its error.
    """

    def __init__(self, message: str, *, outcomes: tuple[object, ...], errors: dict[str, Exception]) -> None:
        super().__init__(message)
        self.outcomes = outcomes
        self.errors = errors


class SourceError(ProjectionGuardError, RuntimeError):
    """An event source broke its contract, or could not be read; nothing of what it returned was applied."""


class WaitTimeout(ProjectionGuardError, TimeoutError):
    """A projection has not come as far as was waited for in that time; it goes on."""


class HandlerTimeout(ProjectionGuardError, TimeoutError):
    """A handler ran longer than its projection's timeout; its work was undone (joined) or is unknown (apart).

    `is_left_running`: it is an apart one that nobody can end; it goes on in a thread of its own, and its stream is
    tainted.
    """

    def __init__(self, message: str, *, is_left_running: bool = False) -> None:
        super().__init__(message)
        self.is_left_running = is_left_running


class HandlerCancelled(ProjectionGuardError, RuntimeError):
    """A handler let a cancellation or an interruption through that was its own; nobody cancelled the delivery."""


class ConnectionRefusedToHandler(ProjectionGuardError, RuntimeError):
    """A handler tried to commit, roll back or close the guard's own transaction."""


class HandlerDied(ProjectionGuardError, RuntimeError):
    """The process ended, again and again, while a handler was at work on this event."""

    @classmethod
    def after(cls, attempts: int) -> HandlerDied:
        """Say how often it was begun."""
        return cls(f"the process ended {attempts} times while the handler was at work on this event")


class HandlerLeftTransactionAborted(ProjectionGuardError, RuntimeError):
    """A handler swallowed an error of the database, or ended the transaction, and then returned as if all was well."""

    @classmethod
    def after(cls, *, is_lost: bool) -> HandlerLeftTransactionAborted:
        """Say what the guard found when the handler returned."""
        if is_lost:
            return cls(
                "the transaction was gone when the handler returned: the connection was cut, or it was ended inside"
            )
        return cls(
            "the handler swallowed an error of the database and returned; the transaction can only be rolled back. "
            "Let the error through, or wrap the statement in connection.begin_nested()"
        )


class PermanentFailure(ProjectionGuardError):
    """Raise it in a handler to say that trying again is useless: the failure goes to manual intervention at once."""


class RetryAfter(ProjectionGuardError):
    """Raise it in a handler to say when the next attempt makes sense, in seconds from now (0 or more)."""

    def __init__(self, seconds: float, message: str = "the handler asked to be called again later") -> None:
        if not 0 <= seconds < float("inf"):
            raise InvalidArgument(f"RetryAfter takes seconds of 0 or more, not {seconds!r}")
        super().__init__(message)
        self.seconds = seconds
