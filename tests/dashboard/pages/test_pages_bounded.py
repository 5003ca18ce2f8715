"""However much there is to show, a page asks a bounded number of statements and has a bounded size."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event, text

from tests.bed import happened
from tests.dashboard.pages.visiting import Visitor
from tests.http.stage import Stage

PAGES = (
    "projections/P",
    "projections/P/streams?show=blocked",
    "projections/P/streams?show=tainted",
    "projections/P/streams?show=parked",
    "projections/P/streams/S1",
    "projections/P/pause",
    "projections/P/reset",
    "jobs",
    "audit",
)
MOST_STATEMENTS = 20


@contextmanager
def counting() -> Generator[list[str]]:
    """Collect the statements that the process sends, the server's among them."""
    seen: list[str] = []
    lock = threading.Lock()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        with lock:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_pages_of_much_ask_as_few_statements_as_pages_of_little(stage: Stage, visitor: Visitor) -> None:
    """Lists end after a page; counts are the database's."""
    stage.handler.failing.update(f"S{number}#1" for number in range(60))
    for number in range(60):
        for n in range(1, 4):
            stage.guard.publish(happened(f"S{number}", n))
    stage.bed.change("UPDATE projection_streams SET tainted = :yes, tainted_reason = 'r'", yes=True)
    stage.bed.past_the_library(_many_deeds)
    for path in PAGES:
        visitor.sees(path)  # what is asked once only, was
        with counting() as seen:
            page = visitor.sees(path)
        assert len(seen) <= MOST_STATEMENTS, (path, len(seen))
        assert page.status == 200
    assert visitor.asks("projections/P/streams?show=blocked").text.count('<tr id="stream-') == 25


def _many_deeds(connection: Any) -> None:
    statement = text(
        "INSERT INTO projection_audit_log (at, action_id, actor, action, projection_name, note, details) "
        "VALUES (CURRENT_TIMESTAMP, :id, 'Olga', 'pause', 'P', :note, '{}')"
    )
    connection.execute(statement, [{"note": "n" * 2000, "id": f"{number:032x}"} for number in range(2000)])
