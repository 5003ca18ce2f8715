"""However much there is of everything, a page takes as many statements as ever, and so many bytes at most."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import insert

from projection_guard._dashboard.links import segment
from projection_guard._dashboard.place import Place
from projection_guard._dashboard.places import PLACES
from projection_guard._tables import ProjectionFailure, ProjectionStream
from projection_guard.testing import PostgresServer
from tests.dashboard.crowd import crowded, opened
from tests.dashboard.rows import BULK_ID, FAILURE_ID, JOB_ID, Size
from tests.turns import IS_EVERY

FEW = Size(projections=20, failures=1_000, parked=500, jobs=60, audited=500, attempts=60, workers=3, samples=100)
MANY = Size(
    projections=200,
    failures=100_000,
    parked=50_000,
    jobs=500,
    audited=5_000,
    attempts=1_000,
    workers=50,
    samples=9_800,
)
MOST_STATEMENTS = 20
MOST_READINGS_OF_THE_LOG = 17
MOST_BYTES = 200_000
MOST_BYTES_OF_THE_LONGEST_NAMES = 1_000_000
OF_LONG_TEXTS = {"failure": 450_000, "edit": 500_000}
"""Pages of one event and its error, all of whose characters become four in HTML."""
STANDS_FOR = {
    "failure_id": str(UUID(FAILURE_ID)),
    "bulk_id": str(UUID(BULK_ID)),
    "job_id": str(UUID(JOB_ID)),
    "name": "P1",
    "stream": "s1",
}
CRITERIA: tuple[dict[str, str], ...] = (
    {},
    {"projection": "P1"},
    {"error_type": "Error1"},
    {"state": "exhausted"},
    {"state": "parked"},
    {"state": "resolved"},
)
ASKED: dict[str, tuple[dict[str, str], ...]] = {
    "overview": ({}, {"search": "P1"}, {"status": "offline"}, {"page": "2"}),
    "failures": (
        *({"by": by, **each} for by in ("cause", "event") for each in CRITERIA),
        {"search": "s1"},
        {"search": "nothing"},
    ),
    "projection": ({}, {"hours": "168"}),
    "streams": (*({"show": tab} for tab in ("blocked", "tainted", "parked", "skipped")), {"stream": "s1"}),
    "audit": ({}, {"projection": "P1"}, {"actor": "alice"}, {"failure": STANDS_FOR["failure_id"]}),
    "jobs": ({}, {"projection": "P1"}),
    **{f"choose_{strategy}": ({"state": "exhausted"},) for strategy in ("retry", "skip", "manual_fix")},
}


def pages(stands_for: Mapping[str, str] = STANDS_FOR) -> Iterator[tuple[Place, str, dict[str, str]]]:
    """Name every page: its place, its path, and what it is asked."""
    for place in PLACES:
        if place.method == "GET":
            path = place.path.format(**stands_for)
            for query in ASKED.get(place.name, ({},)):
                yield place, path, query


@pytest.fixture(params=["sqlite", "postgresql"] if IS_EVERY else ["postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two databases with our tables."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        files = [shutil.copyfile(template, tmp_path / f"{name}.db") for name in ("few", "many")]
        yield f"sqlite:///{files[0]}", f"sqlite:///{files[1]}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    template_there: str = request.getfixturevalue("postgres_template")
    with server.database(template=template_there) as few, server.database(template=template_there) as many:
        yield few, many


@pytest.mark.slow
def test_every_page_is_bounded(urls: tuple[str, str]) -> None:
    """With 200 projections and 100,000 failures each page takes as many statements as with 20 and 1,000."""
    wrong = list[str]()
    with crowded(urls[0], FEW) as few, crowded(urls[1], MANY) as many:
        for crowd in (few, many):
            crowd.look("")  # the first contact with the log
        for place, path, query in pages():
            small, big = few.look(path, query), many.look(path, query)
            named = f"{place.name} {query}"
            if not {small.response.status, big.response.status} <= {200, 303}:
                wrong.append(f"{named}: {small.response.status}, {big.response.status}")
            if len(big.statements) > min(len(small.statements), MOST_STATEMENTS):
                wrong.append(f"{named}: {len(small.statements)} statements, and then {len(big.statements)}")
            if len(big.of_the_log) > MOST_READINGS_OF_THE_LOG:
                wrong.append(f"{named}: {len(big.of_the_log)} readings of the log")
            if len(big.response.body) > OF_LONG_TEXTS.get(place.name, MOST_BYTES):
                wrong.append(f"{named}: {len(big.response.body)} bytes")
            if place.name == "failures" and any("projection_failures.event_payload" in each for each in big.statements):
                wrong.append(f"{named}: reads events that it does not show")
        failure = many.look(f"failures/{STANDS_FOR['failure_id']}").response.body
    assert wrong == []
    assert b"These are the newest" in failure


def long(number: int) -> str:
    """Make a name that is as long as one can be, of characters that are long in a link and in HTML."""
    return f"{number:03}<" + "\u6f22" * 251


def test_the_longest_names_fit(sqlite_url: str) -> None:
    """Names, types and ids of 255 characters, each of them nine in a link, and messages of quotes: pages as ever."""
    names = [long(number) for number in range(60)]
    now = datetime.now(UTC)
    failed = [
        {
            "id": UUID(int=number + 1),
            **{column: long(number) for column in ("event_id", "event_type", "stream_id", "projection_name")},
            "error_type": long(number),
            "error_message": '"' * 10_000,
            "fingerprint": f"print{number}",
            "retry_count": 1,
            "max_retries": 5,
            "failed_at": now,
            "created_at": now,
            "updated_at": now,
        }
        for number in range(60)
    ]
    gates = [
        {
            "projection_name": names[0],
            "stream_id": long(number),
            "epoch": 1,
            "blocked": True,
            "tainted": True,
            "tainted_reason": long(number),
            "touched_at": now,
        }
        for number in range(60)
    ]
    too_long = list[str]()
    with opened(sqlite_url, names) as crowd:
        with crowd.engine.begin() as connection:
            connection.execute(insert(ProjectionFailure), failed)
            connection.execute(insert(ProjectionStream), gates)
        stands_for = {"failure_id": str(UUID(int=1)), "name": segment(names[0]), "stream": segment(names[0])}
        for place, path, query in pages({**STANDS_FOR, **stands_for}):
            if not {"{bulk_id}", "{job_id}"} & set(place.path.split("/")):
                meant = {**query, "projection": names[0]} if "projection" in query else query
                response = crowd.look(path, meant).response
                assert response.status in (200, 303), (place.name, query)
                if len(response.body) > MOST_BYTES_OF_THE_LONGEST_NAMES:
                    too_long.append(f"{place.name} {query}: {len(response.body)} bytes")
    assert too_long == []
