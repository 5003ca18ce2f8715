"""What a rebuild beside tells of the rows that differ: which ones, by their primary keys, and never what they hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Uuid,
    insert,
)

from tests.bed import Bed, Happened
from tests.following.logs import FollowedLog

metadata = MetaData()
balances = Table("balances", metadata, Column("stream", String(50), primary_key=True), Column("total", Integer))
lines = Table(
    "lines",
    metadata,
    Column("stream", String(50), primary_key=True),
    Column("Line no", Integer, primary_key=True),
    Column("note", String(50)),
    Column("who", String(50)),
)
journal = Table("journal", metadata, Column("stream", String(50)), Column("n", Integer))
typed = Table(
    "typed",
    metadata,
    Column("id", Uuid(), primary_key=True),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("amount", Numeric(10, 2), primary_key=True),
    Column("raw", LargeBinary(), primary_key=True),
)

Body = Callable[[Happened, Connection], None]


def compared(bed: Bed, streams: list[str], before: Body, after: Body, *tables: str) -> list[Any]:
    """Fill tables by one handler, rebuild them beside by another one, and return the samples."""
    turns = iter([before, after])
    body = next(turns)

    def handle(event: Happened, connection: Connection) -> None:
        body(event, connection)

    metadata.create_all(bed.engine)
    log = FollowedLog(bed)
    log.append(*streams)
    guard = log.guard()
    bed.joined(guard, "P", handle, tables=list(tables))
    guard.catch_up("P")
    body = next(turns)
    job = guard.rebuild("P", into="next", actor="alice")
    assert (job.status, job.error) == ("completed", None)
    return [each["sample"] for each in job.compared]


def test_rows_that_differ_are_told_by_their_keys(bed: Bed) -> None:
    """What both have differs in named columns; what one has alone is named; values are not told."""

    def before(event: Happened, connection: Connection) -> None:
        noted = {"stream": event.stream_id, "Line no": event.n, "note": "old secret", "who": "w"}
        if event.stream_id != "C":
            connection.execute(insert(lines).values(noted))

    def after(event: Happened, connection: Connection) -> None:
        note = "old secret" if event.event_id == "A#1" else "new secret"
        noted = {"stream": event.stream_id, "Line no": event.n, "note": note, "who": None if event.n == 2 else "w"}
        if event.stream_id != "B":
            connection.execute(insert(lines).values(noted))

    (sample,) = compared(bed, ["A", "A", "B", "C"], before, after, "lines")
    assert sample == {
        "key": ["stream", "Line no"],
        "only_before": [["B", "1"]],
        "only_after": [["C", "1"]],
        "changed": [{"key": ["A", "2"], "columns": ["note", "who"]}],
        "none_because": None,
    }
    assert "secret" not in str(bed.value("SELECT compared FROM projection_replays"))


def test_ten_rows_of_each_kind_at_most(blocking_bed: Bed) -> None:
    """The first ones by their keys; tables that are alike have no sample, and one without a key says so."""
    streams = [f"S{n:02}" for n in range(36)]

    def filled(total: int, low: int, high: int) -> Body:
        def body(event: Happened, connection: Connection) -> None:
            connection.execute(insert(lines).values({"stream": event.stream_id, "Line no": event.n}))
            connection.execute(insert(journal).values(stream=event.stream_id, n=total))
            if low <= int(event.stream_id[1:]) < high:
                connection.execute(insert(balances).values(stream=event.stream_id, total=total))

        return body

    sample, alike, keyless = compared(
        blocking_bed, streams, filled(1, 0, 24), filled(2, 12, 36), "balances", "lines", "journal"
    )
    assert [key for (key,) in sample["only_before"]] == [f"S{n:02}" for n in range(10)]
    assert [key for (key,) in sample["only_after"]] == [f"S{n:02}" for n in range(24, 34)]
    assert [row["key"] for row in sample["changed"]] == [[f"S{n:02}"] for n in range(12, 22)]
    assert {*map(str, (row["columns"] for row in sample["changed"]))} == {"['total']"}
    assert alike is None
    assert (keyless["key"], keyless["none_because"]) == ([], "the table has no primary key")


def test_keys_of_any_type_are_told_as_text(blocking_bed: Bed) -> None:
    """JSON has no dates, decimals, UUIDs or bytes; a long key is cut."""
    key = UUID("12345678-1234-5678-1234-567812345678")

    def filled(raw: bytes) -> Body:
        def body(event: Happened, connection: Connection) -> None:
            at = datetime(2026, 3, 1, 12, tzinfo=UTC)
            connection.execute(insert(typed).values(id=key, at=at, amount=Decimal("1.50"), raw=raw))

        return body

    (sample,) = compared(blocking_bed, ["A"], filled(b"\x01\xff"), filled(b"\x02" * 1000), "typed")
    ((told_id, told_at, told_amount, told_raw),) = sample["only_before"]
    assert UUID(told_id) == key
    assert told_at.startswith("2026-03-01 ")
    assert (Decimal(told_amount), told_raw) == (Decimal("1.5"), "01ff")
    assert sample["only_after"][0][3] == "02" * 100
    assert all(isinstance(value, str) for value in sample["only_before"][0])
