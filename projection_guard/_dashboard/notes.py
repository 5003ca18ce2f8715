"""What a page says was done just now. A word in its address stands for it, so nobody can put words into our mouth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["NOTES", "Note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is said, and how: `good`, `bad`, or neither."""

    text: str
    tone: str = ""


NOTES: Final = {
    "retried": Note(
        text="The event was tried again and applied. What waits behind it follows in its order.", tone="good"
    ),
    "failed-again": Note(text="The event was tried again, and failed again. The newest attempt is below.", tone="bad"),
    "duplicate": Note(text="There was nothing left to do: the event had been applied meanwhile."),
    "parked": Note(text="The event was not tried: its projection is paused, held or replayed. It stays as it is."),
    "skipped": Note(text="The event was skipped: its effect is missing from the read model."),
    "fixed": Note(
        text="The failure was ended as mended by hand. What waits behind it follows in its order.", tone="good"
    ),
    "untainted": Note(text="The taint has ended: what was skipped there counts as mended by hand.", tone="good"),
    "not-tainted": Note(text="There was no taint to end."),
    "paused": Note(text="The projection is paused. Events wait in their order and nothing is lost; resume it below."),
    "resumed": Note(text="The projection goes on.", tone="good"),
    "reset": Note(text="The projection was set back to the beginning, and its failures and parked events were ended."),
    "begun": Note(text="The job is on record. A worker takes it up; this page follows it."),
    "job-paused": Note(text="The job is to rest where it is. Let it go on by the button below."),
    "job-resumed": Note(text="The job is to go on where it was."),
    "job-cancelled": Note(text="The job ends where it is; what it has done stays done."),
    "confirmed": Note(text="The action is on record. A worker takes it up; this page follows it."),
    "more-than-seen": Note(
        text="More failures are like that than when you decided. Look at the number, and confirm.", tone="warn"
    ),
    "bulk-cancelled": Note(text="The action ends where it is; what it has done stays done."),
    "amended": Note(text="The amended event was applied. The original stays on record below.", tone="good"),
    "amended-failed": Note(text="The amended event failed again. The original stays on record below.", tone="bad"),
    "unamended": Note(text="The amendment was withdrawn: the original is tried from now on."),
    "not-amended": Note(text="There was no amendment to withdraw: the original is tried."),
}
