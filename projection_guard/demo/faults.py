"""What goes wrong in the demo: a read model that is away, poison events, a bug that is fixed, a moment's hiccup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from .store import DocumentChanged

Handler = Callable[[DocumentChanged, Connection], None]


@dataclass
class Faults:
    """Switches, turned by the demo's script while it runs."""

    folders_away: bool = False
    bug_in_documents: bool = False
    poison: set[str] = field(default_factory=set[str])
    hiccups: set[str] = field(default_factory=set[str])

    def outage(self, handler: Handler) -> Handler:
        """Fail whatever the event is, while the read model is away, and once on an event that meets a hiccup."""

        def with_outage(event: DocumentChanged, connection: Connection) -> None:
            if self.folders_away:
                raise RuntimeError("the read model of folders is away")
            if event.event_id in self.hiccups:
                self.hiccups.discard(event.event_id)
                raise TimeoutError("the read model of folders did not answer in time")
            handler(event, connection)

        return with_outage

    def bug(self, handler: Handler) -> Handler:
        """Fail on documents whose name has no dot: nobody had thought of them."""

        def with_bug(event: DocumentChanged, connection: Connection) -> None:
            handler(event, connection)
            if self.bug_in_documents and "." not in event.stream_id.rsplit("/", 1)[-1]:
                raise IndexError("this document's name has no extension")

        return with_bug

    def poisoned(self, handler: Handler) -> Handler:
        """Fail on some events until somebody does something about them, and on those that cannot be true."""

        def with_poison(event: DocumentChanged, connection: Connection) -> None:
            if event.event_id in self.poison:
                raise ValueError("this event cannot be understood")
            if event.added < 0:
                raise ValueError(f"a change cannot have added {event.added} lines")
            handler(event, connection)

        return with_poison
