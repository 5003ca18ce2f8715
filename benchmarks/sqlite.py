"""The joined handler on SQLite, in a file in WAL mode with the default `synchronous`."""

from __future__ import annotations

from sqlalchemy import create_engine

from ._bed import Run, prepare
from ._report import Row
from .joined import async_variants, blocking_variants, rows_of

__all__ = ["on_sqlite"]


def on_sqlite(run: Run) -> list[Row]:
    """Measure blocking, and through aiosqlite."""
    file = run.folder / "benchmark.db"
    prepare(f"sqlite:///{file}")
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    engine.dispose()
    if mode != "wal":
        raise RuntimeError(f"the database is not in WAL mode after guard.migrate(), but in {mode}")
    with blocking_variants(f"sqlite:///{file}") as variants:
        rows = rows_of("sqlite", "SQLite WAL, blocking", variants, run, target=2.4)
    with async_variants(f"sqlite+aiosqlite:///{file}") as variants:
        rows += rows_of("sqlite", "SQLite WAL, aiosqlite", variants, run, target=None, per_round=100)
    return rows
