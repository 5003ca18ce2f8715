"""The event store: a table in the application's own database, appended to in a real transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, UniqueConstraint, func, insert, select

from .history import Change

metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("event_id", String(80), nullable=False, unique=True),
    Column("event_type", String(80), nullable=False, server_default="DocumentChanged"),
    Column("stream_id", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("author", String(255), nullable=False),
    Column("occurred_at", String(40), nullable=False),
    Column("added", Integer, nullable=False),
    Column("removed", Integer, nullable=False),
    UniqueConstraint("stream_id", "version"),  # two writers cannot both append the n-th event of a document
)


@dataclass(frozen=True)
class DocumentChanged:
    """A document was changed: the one event of this service."""

    event_id: str
    stream_id: str
    sequence: int
    stream_version: int
    author: str
    occurred_at: datetime
    added: int
    removed: int


class EventStore:
    """Appends events, each in a transaction, and reads them again."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        metadata.create_all(engine)

    def append(self, change: Change) -> DocumentChanged:
        """Append the next event of a document."""
        with self._engine.begin() as connection:
            last = select(func.coalesce(func.max(events.c.version), 0)).where(events.c.stream_id == change.path)
            version = connection.execute(last).scalar_one() + 1
            row = {
                "event_id": uuid4().hex,
                "stream_id": change.path,
                "version": version,
                "author": change.author,
                "occurred_at": change.at,
                "added": change.added,
                "removed": change.removed,
            }
            sequence = connection.execute(insert(events).values(row).returning(events.c.sequence)).scalar_one()
        return event_of({**row, "sequence": sequence})

    def read_all(self) -> list[DocumentChanged]:
        """Read the whole log, in its order."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(events).order_by(events.c.sequence)).mappings()
            return [event_of(dict(row)) for row in rows]


def event_of(row: Mapping[str, object]) -> DocumentChanged:
    """Make the event of a row."""
    return DocumentChanged(
        event_id=str(row["event_id"]),
        stream_id=str(row["stream_id"]),
        sequence=int(str(row["sequence"])),
        stream_version=int(str(row["version"])),
        author=str(row["author"]),
        occurred_at=datetime.fromisoformat(str(row["occurred_at"])),
        added=int(str(row["added"])),
        removed=int(str(row["removed"])),
    )
