"""What one projection is to have done with a log that it follows, in a dozen lines of rules: nothing of the library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tests.bed import Happened

__all__ = ["Model"]

State = Literal["failed", "parked"]


@dataclass
class Model:
    """What one projection is to have done with the log. `at` is how many of its events it has gone past."""

    order: str
    poison: set[str] = field(default_factory=set)
    states: dict[str, State] = field(default_factory=dict)
    effects: list[tuple[str, int]] = field(default_factory=list)
    at: int = 0
    is_paused: bool = False

    def waits(self, event: Happened, log: list[Happened]) -> bool:
        """Return whether something before it is unresolved, in its line."""
        for other in log:
            if other.event_id == event.event_id:
                return False
            if other.event_id in self.states and self.order == "stream" and other.stream_id == event.stream_id:
                return True
        return False

    def attempt(self, event: Happened) -> None:
        """Its handler is called."""
        if event.event_id in self.poison:
            self.states[event.event_id] = "failed"
        else:
            self.states.pop(event.event_id, None)
            self.effects.append((event.stream_id, event.n))

    def take(self, event: Happened, log: list[Happened]) -> None:
        """It is its turn in the log."""
        if self.waits(event, log):
            self.states[event.event_id] = "parked"
        else:
            self.attempt(event)

    def follow(self, log: list[Happened]) -> None:
        """Go to the end of the log; with one line for all, to the first failure."""
        if self.is_paused:
            return
        while self.at < len(log) and not (self.order == "global" and self.states):
            self.take(log[self.at], log)
            self.at += 1

    def work(self, log: list[Happened], *, is_due: bool) -> None:
        """A round: the log, what is due, and what waits behind that; then the rest of the log in the next one."""
        self.follow(log)
        if self.is_paused:
            return
        for event in log:
            state = self.states.get(event.event_id)
            if (state == "failed" and is_due) or (state == "parked" and not self.waits(event, log)):
                self.attempt(event)

    def replay(self, log: list[Happened], first: int, last: int) -> None:
        """Apply a range of what was gone past once more."""
        for event in log[first - 1 : min(last, self.at)]:
            self.take(event, log)

    def forget(self) -> None:
        """Begin at the beginning."""
        self.states, self.effects, self.at = {}, [], 0
