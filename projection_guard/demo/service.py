"""The demo's service: where it keeps what it writes, and the four projections that its guard has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from projection_guard import ProjectionGuard
from projection_guard.demo import read_models as rm
from projection_guard.demo.faults import Faults
from projection_guard.demo.store import DocumentChanged


@dataclass(frozen=True)
class Place:
    """A database, and the file of the feed beside it."""

    url: str
    feed: Path


def register(guard: ProjectionGuard, faults: Faults, feed: rm.Feed) -> None:
    """Register the four projections."""
    takes = [DocumentChanged]
    guard.projection("Documents", handles=takes, on_reset=rm.clear_documents)(faults.bug(rm.apply_document))
    guard.projection("Authors", handles=takes, on_reset=rm.clear_authors)(faults.poisoned(rm.apply_author))
    guard.projection("Folders", handles=takes, on_reset=rm.clear_folders)(faults.outage(rm.apply_folder))
    guard.projection("Feed", handles=takes)(feed.tell)
