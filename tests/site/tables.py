"""The page of the tables, written from the SQLAlchemy models: docstrings, columns, and what a column says of itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Column, Index, Table
from sqlalchemy.dialects import registry
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex

from projection_guard._tables.base import Model

__all__ = ["ALIKE", "page", "undescribed"]

CONTRACT: Final = ("projection_failures", "projection_checkpoints", "projection_health_metrics")
POSTGRESQL: Final[Dialect] = registry.load("postgresql")()
# What a column of this name means in every table that does not say otherwise.
ALIKE: Final = {
    "projection_name": "The projection's name, as it was registered.",
    "event_id": "The event's id, as the mapping reads it.",
    "event_type": "The event's type, as the mapping reads it.",
    "event_sequence": "The event's position in the log; null where it has none.",
    "stream_id": "The event's stream; null where it has none.",
    "event_payload": "The event as the codec wrote it: plain JSON, or sealed where it is encrypted.",
    "error_type": "The class of the error, with its module.",
    "error_message": "The error's text, shortened where it is very long.",
    "error_traceback": "The traceback, shortened where it is very long.",
    "fingerprint": "Alike for errors of one type from one place: what failures are grouped by.",
    "lease_owner": "A token of whoever has the row in hand; null: nobody has.",
    "lease_expires_at": "Until when nobody else takes it over.",
    "request_id": "What `acting_for` was given: over HTTP, the request's `X-Request-ID`.",
    "actor": "Who asked for it.",
    "note": "What that person wrote beside it.",
    "created_at": "When the row was first written.",
    "updated_at": "When the row was last written.",
    "started_at": "When it began.",
    "finished_at": "When it ended, whatever came of it; null until then.",
}
HEAD: Final = """\
# Tables

*Written by `make reference`, and compared by a test: edit the models in `projection_guard/_tables` instead.*

What `guard.migrate()` or `projection-guard db upgrade` creates, in the schema that the guard was given. The first three
tables are a contract with people's dashboards: these columns, no more, no fewer. The others may gain columns between
releases; read them through the library, the [command line](../cli.md) or the [routes](routes.md) where you can. All
times are UTC, types those on PostgreSQL. [Migrations](../migrations.md) says how the tables come about,
[security](../security.md) which roles need which of them.

Never write to them: the counters, the gates and the failures change together. Reading is safe at any time.
"""


def page() -> str:
    """Return the page: the contract first, then the others by name."""
    models = {str(mapper.local_table): mapper.class_ for mapper in Model.registry.mappers}
    names = [*CONTRACT, *sorted(models.keys() - set(CONTRACT))]
    return "\n".join([HEAD, *(_table(models[name]) for name in names)])


def undescribed() -> list[str]:
    """Return the columns of which nothing is said."""
    return [
        f"{table}.{column.name}"
        for table in Model.metadata.tables.values()
        for column in table.columns
        if not column.doc and column.name not in ALIKE
    ]


def _table(model: type[Model]) -> str:
    table = model.__table__
    assert isinstance(table, Table)
    rows = [
        f"| `{column.name}` | {_kind(column)} | {column.doc or ALIKE.get(column.name, '')} |"
        for column in table.columns
    ]
    lines = [
        f"## `{table.name}`\n",
        f"{inspect.getdoc(model)}\n",
        "| column | type | what it says |",
        "|---|---|---|",
        *rows,
        "",
    ]
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    if indexes:
        lines += ["Indexes:\n", *_indexes(indexes), ""]
    return "\n".join(lines)


def _kind(column: Column[object]) -> str:
    kind = column.type.compile(dialect=POSTGRESQL).lower()
    words = [kind]
    if column.primary_key:
        words.append("primary key")
    elif column.nullable:
        words.append("null")
    return ", ".join(words)


def _indexes(indexes: list[Index]) -> Iterator[str]:
    for index in indexes:
        written = " ".join(str(CreateIndex(index).compile(dialect=POSTGRESQL)).split())
        found = re.fullmatch(r"CREATE (UNIQUE )?INDEX \S+ ON \S+ \((.*?)\)( WHERE .*)?", written)
        assert found, written
        unique, columns, where = found.groups()
        only = f", only `{where.strip()}`" if where else ""
        yield f"- `{index.name}`: {'unique, ' if unique else ''}`{columns}`{only}"
