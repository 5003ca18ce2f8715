"""Through the guard and its database: texts of errors, and cursors that nobody gave out, also over HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tenacity import wait_fixed

from projection_guard import InvalidArgument, RetryPolicy
from projection_guard._core.describing import storable
from tests.bed import Bed, Happened, happened
from tests.flow.acting import with_failure
from tests.following.logs import FollowedLog
from tests.fuzz.settings import few
from tests.http.serving import WAYS, Way
from tests.http.stage import Stage

any_text = st.text(st.characters(exclude_categories=()), max_size=40)


@pytest.mark.parametrize("kind", ["joined", "apart"])
def test_an_error_of_any_text_is_kept(blocking_bed: Bed, kind: str) -> None:
    """With NUL and halves of surrogate pairs in it, and in the event."""
    bed = blocking_bed
    guard, told = bed.guard(retry=RetryPolicy(wait=wait_fixed(3600), breaker=None)), [""]

    def body(event: Happened, *_: object) -> None:
        raise ValueError(told[0])

    (bed.joined if kind == "joined" else bed.apart)(guard, "P", body)
    number = iter(range(10**9))

    @few(8)
    @example("\ud800\0", "\udfff")
    @given(any_text, any_text)
    def keep(text: str, name: str) -> None:
        told[0] = text
        (outcome,) = guard.publish(happened(f"S{next(number)}", 1))
        assert outcome.status == "failed"
        failure = guard.failure(outcome.failure_id)
        assert failure.error_message == storable(text, 10_000)

    keep()


@pytest.fixture
def stage(blocking_bed: Bed, way: Way) -> Iterator[Stage]:
    """A server with one projection, "P"."""
    made = Stage(blocking_bed, way)
    yield made
    made.close()


def packed(parts: object) -> str:
    """Return a cursor of these parts, as the guard writes them."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


MOMENTS = [
    *("0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2026-01-01"),
    *("2026-01-01T00:00:00Z", "infinity", "0001-01-01T00:00:00.000001+00:00"),
]
IDS = ["00000000-0000-0000-0000-000000000000", "{" + "f" * 32 + "}", "urn:uuid:" + "0" * 32]
NUMBERS = ["0", "9223372036854775807", "9223372036854775808", "-1", "1e3", "٣", "10000-01-01"]
parts = st.sampled_from(MOMENTS) | st.sampled_from(IDS) | st.sampled_from(NUMBERS) | any_text
cursors = st.one_of(
    any_text,
    st.text("abcXYZ012-_=", max_size=40),
    st.lists(parts, max_size=4).map(packed),
    st.tuples(st.sampled_from(MOMENTS), st.sampled_from(IDS)).map(lambda pair: packed(list(pair))),
    st.recursive(st.none() | st.integers() | any_text, lambda inner: st.lists(inner, max_size=3)).map(packed),
    st.integers(0, 50_000).map(lambda depth: base64.b64encode(b"[" * depth + b"]" * depth).decode()),
)
DEEP = base64.b64encode(b"[" * 100_000).decode()


def test_any_text_as_a_cursor_is_a_page_or_refused(blocking_bed: Bed) -> None:
    """Never an error of the database's, nor of ours."""
    bed = blocking_bed
    guard, _ = with_failure(bed, happened("A", 2))
    log = FollowedLog(bed)
    following = log.guard()
    bed.joined(following, "F", lambda event, connection: None)
    lists: list[Callable[[str], Any]] = [
        lambda after: guard.failures(after=after),
        lambda after: guard.failure_groups(after=after),
        lambda after: guard.parked("P", after=after),
        lambda after: guard.streams("P", after=after),
        lambda after: guard.audit(after=after),
        lambda after: guard.bulk_actions(after=after),
        lambda after: following.skipped("F", after=after),
        lambda after: following.replays(after=after),
    ]

    @few(25)
    @example(DEEP)
    @given(cursors)
    def ask(after: str) -> None:
        for look in lists:
            with suppress(InvalidArgument):
                look(after)

    ask()


@pytest.mark.parametrize(
    ("way", "database_url"),
    [(WAYS[0], "postgresql"), (WAYS[2], "sqlite")],
    ids=["fastapi", "flask"],
    indirect=["database_url"],
)
def test_any_text_as_a_cursor_over_http(stage: Stage) -> None:
    """A page, or a problem that says so: never a 500."""
    stage.failed("A", parked=1)
    served = stage.serve()
    routes = [
        *("/admin/projections/failures", "/admin/projections/failures/groups", "/admin/projections/audit"),
        *("/admin/projections/P/parked", "/health/projections/P/failures", "/admin/projections/replays"),
    ]

    @few(6)
    @example(DEEP[:30_000])
    @given(cursors)
    def ask(after: str) -> None:
        query = after.encode("utf-8", "surrogatepass")[:30_000]
        for route in routes:
            response = served.viewer.get(route, params={"after": query})
            assert response.status_code in (200, 400, 404, 414, 422), (route, after, response.text)
            assert response.status_code == 200 or response.json()["status"] == response.status_code

    ask()
