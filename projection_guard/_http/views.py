"""What a caller gets to see of the guard's values: texts of errors and events go through the application's hook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .._model import Attempt, Failure, FailureGroup, Json, Replay
from .._records import Amendment, Parked
from . import answers
from .access import Actor, Role

__all__ = ["Redact", "Redacted", "View"]

Redacted = Literal["error_message", "error_traceback", "event_payload"]
"""What an application may leave out of what is shown, by name."""
Redact = Callable[[Redacted, Json], Json]
"""Given what a value is and the value, returns what may be shown of it."""


def _as_it_is(_: Redacted, value: Json) -> Json:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The eyes of one caller. `payloads_for`: from which role on events are shown; None shows them to nobody."""

    actor: Actor | None
    redact: Redact | None
    payloads_for: Role | None

    @property
    def shows_payloads(self) -> bool:
        """True for one to whom the application shows events."""
        if self.actor is None or self.payloads_for is None:
            return False
        return self.payloads_for == "viewer" or self.actor.is_operator

    def shows_whole(self, payload: Json) -> bool:
        """Return whether an event is shown with nothing of it redacted: who edits less would lose the rest."""
        return self.shows_payloads and self._redacted("event_payload", payload) == payload

    def payload(self, payload: Json) -> Json:
        """Return what may be shown of an event; None where that is nothing."""
        return self._redacted("event_payload", payload) if self.shows_payloads else None

    def _redacted(self, what: Redacted, value: Json) -> Json:
        return value if value is None else (self.redact or _as_it_is)(what, value)

    def _text(self, what: Redacted, value: str | None) -> str | None:
        shown = self._redacted(what, value)
        return None if shown is None else str(shown)

    def failure(self, failure: Failure) -> answers.Failure:
        """Show a failure in a list."""
        return answers.Failure.model_validate(self._fields(failure))

    def _fields(self, failure: Failure) -> dict[str, object]:
        fields: dict[str, object] = {
            name: getattr(failure, name) for name in answers.Failure.model_fields if name != "state"
        }
        fields["state"] = _state_of(failure)
        fields["error_message"] = self._text("error_message", failure.error_message) or ""
        return fields

    def failure_detail(
        self, failure: Failure, attempts: Sequence[Attempt], amendment: Amendment | None
    ) -> answers.FailureDetail:
        """Show a failure and its history."""
        sees_traceback = self.actor is not None and self.actor.is_operator
        shows = self.shows_payloads
        return answers.FailureDetail.model_validate(
            {
                **self._fields(failure),
                "attempts": [self._attempt(attempt) for attempt in attempts],
                "error_traceback": self._text("error_traceback", failure.error_traceback) if sees_traceback else None,
                "event_payload": self.payload(failure.event_payload),
                "event_payload_hidden": not shows,
                "amended": amendment is not None,
                "amended_by": None if amendment is None else amendment.amended_by,
                "amended_at": None if amendment is None else amendment.amended_at,
            }
        )

    def _attempt(self, attempt: Attempt) -> answers.Attempt:
        return answers.Attempt(
            number=attempt.number,
            attempted_at=attempt.attempted_at,
            error_type=attempt.error_type,
            error_message=self._text("error_message", attempt.error_message) or "",
            duration_ms=attempt.duration_ms,
        )

    def group(self, group: FailureGroup) -> answers.FailureGroup:
        """Show a group of failures."""
        shown = answers.FailureGroup.model_validate(group)
        message = self._text("error_message", group.error_message) or ""
        return shown.model_copy(update={"error_message": message})

    def parked(self, parked: Parked) -> answers.ParkedEvent:
        """Show a parked event."""
        shows = self.shows_payloads
        hidden = {"event_payload", "event_payload_hidden"}
        fields: dict[str, object] = {
            name: getattr(parked, name) for name in answers.ParkedEvent.model_fields if name not in hidden
        }
        fields["event_payload"] = self.payload(parked.event_payload)
        fields["event_payload_hidden"] = not shows
        return answers.ParkedEvent.model_validate(fields)

    def replay(self, replay: Replay) -> answers.Replay:
        """Show a replay. What it met is told as the text of an error."""
        shown = answers.Replay.model_validate(replay)
        return shown.model_copy(update={"error": self._text("error_message", replay.error)})


def _state_of(failure: Failure) -> str:
    if failure.resolved_at is not None:
        return "resolved"
    return "exhausted" if failure.is_exhausted else "scheduled"
