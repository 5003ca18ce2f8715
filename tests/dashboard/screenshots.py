"""Makes the pictures of the dashboard that the README and the docs show: `python -m tests.dashboard.screenshots`.

A document service at half past nine: somebody has uploaded photographs, for which the search index has no reader; mails
go out slowly; a read model is replayed. It is the same each time, but for the date.
"""

from __future__ import annotations

import linecache
import math
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from playwright.sync_api import FloatRect
from sqlalchemy import Connection, delete, insert, literal, text, update

from projection_guard import ProjectionGuard
from projection_guard._dialect import moved
from projection_guard._tables import metadata
from tests.dashboard.browser import PHONE, Browser
from tests.dashboard.scene import Recorded, Scene

__all__ = ["NAMES", "take"]

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
NAMES: Final = ("overview", "failure", "projection", "overview-dark", "overview-phone")
SEARCH: Final = "Search index"
BOTTOM: Final = "document.querySelector('footer').getBoundingClientRect().bottom"
MOST_HIGH: Final = 980
PROJECTIONS: Final = ("Documents", SEARCH, "Mails", "Folders by customer", "Monthly reports", "Audit trail")
_FILE: Final = "/srv/documents/projections/search.py"
_CODE: Final = '''\
READERS = {"pdf": read_pdf, "docx": read_docx, "md": read_text}


def index(event, connection):
    """Keep the words of a document, in the language that it is written in."""
    kind = event.title.rsplit(".", 1)[-1]
    read = READERS[kind]
    connection.execute(words.insert(), read(event))
'''
_PHOTOGRAPHS: Final = ("Roof, north side.heic", "Cellar.heic", "Meter reading.heic", "Façade.heic", "Boiler plate.heic")


class DocumentService(Scene):
    """The service of the pictures."""

    def __init__(self, url: str) -> None:
        code: dict[str, Any] = dict.fromkeys(("read_pdf", "read_docx", "read_text", "words"))
        exec(compile(_CODE, _FILE, "exec"), code)
        linecache.cache[_FILE] = (len(_CODE), None, _CODE.splitlines(keepends=True), _FILE)
        self._index: Callable[[Recorded, Connection], None] = code["index"]
        super().__init__(url, *PROJECTIONS)
        with self.engine.begin() as connection:  # what was done an hour ago is written down now: see `_earlier`
            for (name,) in connection.execute(text(_APPEND_ONLY)).all():
                connection.execute(text(f"DROP TRIGGER {name}"))

    def _handler(self, name: str) -> Any:
        if name == SEARCH:
            return lambda event, connection: self._index(event, connection) if ".heic" in event.title else None
        if name == "Mails":

            def send(event: Recorded, connection: Connection) -> None:
                if event.event_type == "DocumentShared":
                    raise TimeoutError("mail.internal did not answer within 10 s")

            return send
        return super()._handler(name)

    def happen(self) -> None:
        """Let the morning pass."""
        for number in range(60):
            self._append("DocumentUploaded", f"contract-{number % 24 + 1001}", title=f"Contract {number + 1}.pdf")
        self.work()
        for number, title in enumerate(_PHOTOGRAPHS):
            stream = f"inspection-{number + 311}"
            self._append("DocumentUploaded", stream, title=title)
            for _ in range(number % 3):
                self._append("DocumentRenamed", stream, title=title.replace(".heic", ", checked.pdf"))
        self.work()
        self._earlier(9)
        for failure in self.guard.failures(SEARCH).items:
            self.guard.resolve(failure.id, "retry", actor="olga", note="is it a moment's trouble?")
        self._earlier(12)
        for number in range(3):
            self._append("DocumentShared", f"contract-{number + 1003}", title="Contract.pdf")
        self.work()
        self._earlier(2)
        self.guard.pause("Monthly reports", actor="ines", reason="the figures of March are being corrected")
        replay = self.guard.start_replay("Folders by customer", from_sequence=1, actor="olga")
        with self.engine.begin() as connection:
            connection.execute(text(_UNDER_WAY), {"id": replay.id.hex})
            connection.execute(insert(metadata.tables["projection_workers"]), _worker(self.names))
            connection.execute(delete(metadata.tables["projection_samples"]))
            connection.execute(insert(metadata.tables["projection_samples"]), list(_samples()))

    def _append(self, kind: str, stream: str, *, title: str) -> None:
        self.append(
            kind, stream, title=title, event_id=str(uuid5(NAMESPACE_URL, f"{kind} {stream} {title} {self.count}"))
        )
        self.count += 1

    count = 0

    def _earlier(self, minutes: float) -> None:
        """Move what has happened into the past."""
        with self.engine.begin() as connection:
            for table in metadata.tables.values():
                changed = {column: moved(column, literal(-60 * minutes)) for column in table.c if column.name in _TIMES}
                if changed:
                    connection.execute(update(table).values(changed))


_APPEND_ONLY: Final = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'projection_audit_log'"
_TIMES: Final = {"failed_at", "last_retry_at", "attempted_at", "parked_at", "at", "last_failure_at"}
_UNDER_WAY: Final = """UPDATE projection_replays SET status = 'running', started_at = created_at, position = 44,
events_replayed = 44 WHERE replace(id, '-', '') = :id"""


def _worker(names: tuple[str, ...]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "worker_id": "app-1",
        "kind": "service",
        "host": "app-1",
        "process_id": 17,
        "library_version": version("projection-guard"),
        "projections": list(names),
        "started_at": now - timedelta(hours=51),
        "seen_at": now + timedelta(minutes=5),
    }


def _samples() -> Any:
    """What workers have kept of a day: few events at night, and in the end the photographs."""
    this_minute = int(datetime.now(UTC).timestamp() // 60)
    for place, name in enumerate(PROJECTIONS):
        processed = failures = 0
        for back in range(1440, -1, -1):
            day = 1440 - back
            busy = 0.3 + 0.7 * math.sin(math.pi * (back - 390) / 1440) ** 2
            wave = 1 + 0.18 * math.sin(day / 17 + place) + 0.1 * math.sin(day / 5.3 + 2 * place)
            processed += round(60 * (6.5 - 0.4 * place) * busy * wave)
            is_failing = name == SEARCH and back < 23
            failures += int(is_failing and back % 5 == 0)
            late = 60.0 * (23 - back) if is_failing else 0.4 + 0.3 * math.sin(day / 31)
            yield {
                "projection_name": name,
                "minute": this_minute - back,
                "events_processed": processed,
                "total_failures": failures,
                "active_failures": 5 - back // 5 if is_failing else 0,
                "parked_events": 4 - back // 6 if is_failing else 0,
                "lag_seconds": late,
                "lag_events": 9 if is_failing else round(late * 5),
                "avg_processing_time_ms": 3.1 + place + 0.8 * math.sin(day / 41) + (6 * busy if place == 1 else 0),
                "health_status": "degraded" if is_failing else "healthy",
            }


def take(browser: Browser, folder: Path, url: str) -> None:
    """Make all pictures, from a service in this database."""
    service = DocumentService(url)
    service.happen()
    failure = service.failure(SEARCH, "inspection-313")
    pictures: list[tuple[str, str, dict[str, Any]]] = [
        ("overview", "./", {}),
        ("failure", f"failures/{failure.id}", {}),
        ("projection", "projections/Search~20index", {}),
        ("overview-dark", "./", {"color_scheme": "dark"}),
        ("overview-phone", "./", {"width": PHONE}),
    ]
    with service.served(name="Document service") as served:
        for name, at, options in pictures:
            page = browser.visit(served.dashboard, "operator", at=at, **options)
            height = min(page.evaluate(BOTTOM), MOST_HIGH)
            clip: FloatRect = {"x": 0, "y": 0, "width": options.get("width", 1280), "height": height}
            path = folder / f"dashboard-{name}.png"
            page.screenshot(path=path, clip=clip, full_page=True, animations="disabled")
    service.close()


def main() -> int:
    """Make them where the docs show them."""
    IMAGES.mkdir(exist_ok=True)
    browser = Browser()
    if browser.why_not is not None:
        sys.stderr.write(f"{browser.why_not}\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'documents.db'}"
        with ProjectionGuard(url, worker="external") as guard:
            guard.migrate()
        try:
            browser.run(lambda: take(browser, IMAGES, url))
        finally:
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
