"""Four read models, the projections that keep them, and the same four folded straight from the log, in plain code.

Three are in the application's database and written through the guard's transaction: none of them is idempotent (they
count), so an event applied twice, or out of order, would show. The feed is elsewhere: its handler takes the event only.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, delete, insert, select, update

from .store import DocumentChanged

metadata = MetaData()
documents = Table(
    "documents",
    metadata,
    Column("path", String(255), primary_key=True),
    Column("versions", Integer),
    Column("lines", Integer),
    Column("last_author", String(255)),
    Column("trail", Integer),  # depends on the order: versions applied in another order leave another number
)
authors = Table(
    "authors",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("changes", Integer),
    Column("lines", Integer),
)
folders = Table("folders", metadata, Column("name", String(255), primary_key=True), Column("changes", Integer))


def folder_of(event: DocumentChanged) -> str:
    """Return the folder at the top that a document lies in."""
    return event.stream_id.split("/")[0] if "/" in event.stream_id else "."


def next_trail(trail: int, event: DocumentChanged) -> int:
    """Return a number that depends on all events of a document and on their order."""
    return (trail * 31 + event.stream_version) % 1_000_003


def apply_document(event: DocumentChanged, connection: Connection) -> None:
    """Keep one row per document."""
    row = connection.execute(select(documents).where(documents.c.path == event.stream_id)).one_or_none()
    lines = event.added - event.removed
    if row is None:
        connection.execute(
            insert(documents).values(
                path=event.stream_id, versions=1, lines=lines, last_author=event.author, trail=next_trail(0, event)
            )
        )
        return
    connection.execute(
        update(documents)
        .where(documents.c.path == event.stream_id)
        .values(
            versions=row.versions + 1,
            lines=row.lines + lines,
            last_author=event.author,
            trail=next_trail(row.trail, event),
        )
    )


def apply_author(event: DocumentChanged, connection: Connection) -> None:
    """Count what each author did."""
    changed = connection.execute(
        update(authors)
        .where(authors.c.name == event.author)
        .values(changes=authors.c.changes + 1, lines=authors.c.lines + event.added)
    )
    if changed.rowcount == 0:
        connection.execute(insert(authors).values(name=event.author, changes=1, lines=event.added))


def apply_folder(event: DocumentChanged, connection: Connection) -> None:
    """Count changes by folder."""
    name = folder_of(event)
    changed = connection.execute(update(folders).where(folders.c.name == name).values(changes=folders.c.changes + 1))
    if changed.rowcount == 0:
        connection.execute(insert(folders).values(name=name, changes=1))


def clear_documents(connection: Connection) -> None:
    """Empty the read model of documents (what a reset calls)."""
    connection.execute(delete(documents))


def clear_authors(connection: Connection) -> None:
    """Empty the read model of authors."""
    connection.execute(delete(authors))


def clear_folders(connection: Connection) -> None:
    """Empty the read model of folders."""
    connection.execute(delete(folders))


class Feed:
    """A feed in a file of its own, as a search index would be: idempotent, because it is called at least once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS feed (event_id TEXT PRIMARY KEY, line TEXT)")
        connection.close()

    def tell(self, event: DocumentChanged) -> None:
        """Add a line for an event, once."""
        connection = sqlite3.connect(self._path, timeout=30)
        with connection:
            line = f"{event.author} changed {event.stream_id}"
            connection.execute("INSERT OR IGNORE INTO feed VALUES (?, ?)", (event.event_id, line))
        connection.close()

    def told(self) -> set[str]:
        """Name the events that were told."""
        connection = sqlite3.connect(self._path)
        told = {row[0] for row in connection.execute("SELECT event_id FROM feed")}
        connection.close()
        return told


def differences(engine: Engine, feed: Feed, log: Iterable[DocumentChanged]) -> list[str]:
    """Compare each read model with one folded straight from the log; say where they differ."""
    by_path: dict[str, tuple[int, int, str, int]] = {}
    by_author: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    by_folder: dict[str, int] = defaultdict(int)
    ids: set[str] = set()
    for event in log:
        versions, lines, _, trail = by_path.get(event.stream_id, (0, 0, "", 0))
        lines += event.added - event.removed
        by_path[event.stream_id] = (versions + 1, lines, event.author, next_trail(trail, event))
        changes, added = by_author[event.author]
        by_author[event.author] = (changes + 1, added + event.added)
        by_folder[folder_of(event)] += 1
        ids.add(event.event_id)
    with engine.connect() as connection:
        found_documents = {row.path: tuple(row)[1:] for row in connection.execute(select(documents))}
        found_authors = {row.name: tuple(row)[1:] for row in connection.execute(select(authors))}
        found_folders = {row.name: row.changes for row in connection.execute(select(folders))}
    return [
        *_differing("documents", by_path, found_documents),
        *_differing("authors", by_author, found_authors),
        *_differing("folders", by_folder, found_folders),
        *_differing("feed", dict.fromkeys(ids, 1), dict.fromkeys(feed.told(), 1)),
    ]


def _differing(name: str, expected: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    keys = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    return [f"{name}: {key!r} is {found.get(key)!r}, the log says {expected.get(key)!r}" for key in keys]
