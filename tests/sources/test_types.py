"""Which types of events a log shows: a bounded look, more where an index leads there, and never more than was asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, text

from projection_guard import InvalidArgument, SeenTypes, SqlEventSource


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A database with a log: ten events of the types Old to Old, Rare, New to New."""
    made = create_engine(database_url)
    with made.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE log (sequence integer PRIMARY KEY, event_id varchar(20), event_type varchar(20),"
                " stream_id varchar(20))"
            )
        )
        for n in range(10, 110, 10):
            kind = "Old" if n < 50 else "Rare" if n == 50 else "New"
            connection.execute(text(f"INSERT INTO log VALUES ({n}, 'e{n}', '{kind}', 'A')"))
    yield made
    made.dispose()


def test_the_types_at_both_ends_are_seen(engine: Engine) -> None:
    """What is between them is not looked at, and the answer says so."""
    seen = SqlEventSource(engine, "log").types(["Rare", "Typo"], 3)
    assert seen == SeenTypes(found=frozenset({"Old", "New"}), limit=3, is_complete=False)


def test_of_a_log_that_is_no_longer_than_that_all_are_seen(engine: Engine) -> None:
    """Then what is not there is nowhere."""
    seen = SqlEventSource(engine, "log").types(["Rare", "Typo"], 11)
    assert seen == SeenTypes(found=frozenset({"Old", "Rare", "New"}), limit=11, is_complete=True)


@pytest.mark.parametrize(
    ("index", "is_used"), [("(event_type)", True), ("(event_type, event_id)", True), ("(event_id, event_type)", False)]
)
def test_an_index_finds_what_is_asked_for_by_name(engine: Engine, index: str, is_used: bool) -> None:
    """One look each, at what was not seen already."""
    with engine.begin() as connection:
        connection.execute(text(f"CREATE INDEX i ON log {index}"))
    seen = SqlEventSource(engine, "log").types(["Rare", "Typo"], 3)
    assert ("Rare" in seen.found, seen.is_complete) == (is_used, is_used)
    assert "Typo" not in seen.found


def test_no_more_than_the_types_is_read(engine: Engine) -> None:
    """Payloads stay where they are."""
    asked: list[str] = []
    source = SqlEventSource(engine, "log")
    source.head()
    event.listen(engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    source.types(["Typo"], 3)
    assert len(asked) == 2
    assert all(statement.split("FROM")[0].split() == ["SELECT", "log.event_type"] for statement in asked)


def test_an_empty_log_shows_nothing_and_bounds_are_checked(engine: Engine) -> None:
    """As everywhere."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM log"))
    source = SqlEventSource(engine, "log")
    assert source.types(["A"], 3) == SeenTypes(found=frozenset(), limit=3, is_complete=True)
    with pytest.raises(InvalidArgument, match="limit="):
        source.types(["A"], 0)
