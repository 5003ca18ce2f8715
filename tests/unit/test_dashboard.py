"""What pages are made of, without a server: links, words for times and numbers, charts, tracebacks, forms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projection_guard._core.describing import describe
from projection_guard._dashboard import charts, rendering, tracebacks, wording
from projection_guard._dashboard.failures import FailuresQuery
from projection_guard._dashboard.forms import read_form, read_query
from projection_guard._dashboard.links import Links, segment, text_of
from projection_guard._dashboard.notes import NOTES
from projection_guard._dashboard.places import PLACES
from projection_guard._http.messages import Request
from projection_guard._http.problems import Problem
from tests.fuzz.settings import few

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


@few(100)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_segment_of_a_path_and_comes_back(text: str) -> None:
    """What a name is written as has no character that a server or a proxy decodes, joins or refuses."""
    written = segment(text)
    assert text_of(written) == text
    assert written
    assert set(written) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
    assert written.strip(".")


@pytest.mark.parametrize("given_segment", ["~", "~4", "~ZZ", "~41", "a b", "ü", "..", "~FF", "~e4"])
def test_a_segment_that_nobody_wrote_is_no_text(given_segment: str) -> None:
    """One address leads to a page, not several: what could have been written plainly is refused, and what is broken."""
    assert text_of(given_segment) in ("", None)
    assert (text_of(given_segment) == "") == (given_segment == "~")


@pytest.mark.parametrize("place", ["/dashboard/", "/a/b/dashboard/", "/x/dashboard/"])
@pytest.mark.parametrize("path", ["", "failures", "projections/A", "projections/A~2FB/streams/s", "assets"])
def test_a_link_leads_to_the_same_page_wherever_the_dashboard_is_mounted(place: str, path: str) -> None:
    """A browser resolves it against the address that it knows, whatever the server was told of that."""
    links = Links(path=path, query=(("state", "exhausted"),))
    page = f"https://host.example{place}{path}?state=exhausted"
    assert urljoin(page, links.to("projections", "a/b", "streams", "")) == (
        f"https://host.example{place}projections/a~2Fb/streams/~"
    )
    assert urljoin(page, links.root) == f"https://host.example{place}"
    assert urlsplit(urljoin(page, links.here(page=2))).query == "state=exhausted&page=2"
    assert urljoin(page, links.here(state=None)) == f"https://host.example{place}{path}"


def test_no_two_pages_have_one_address() -> None:
    """What a path leads to does not depend on the order in which pages are told, but for names in it."""
    fixed = [(place.method, place.path) for place in PLACES]
    assert len(fixed) == len(set(fixed))
    for place in PLACES:
        path = place.path.replace("{", "").replace("}", "")
        first = next(
            other for other in PLACES if other.method == place.method and Links.matched(other.path, path) is not None
        )
        assert first is place, f"{place.path} is hidden by {first.path}"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.0004, "less than 1 ms"),
        (0.25, "250 ms"),
        (3.21, "3.2 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (7_325, "2 h 2 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_a_span_is_told_by_its_two_biggest_units(seconds: float, told: str) -> None:
    """Short enough for a column of a table, exact enough to compare."""
    assert wording.span(seconds) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "just now"), (-2, "now"), (42, "42 s ago"), (-42, "in 42 s"), (3_700, "1 h ago"), (-90_000, "in 1 d")],
)
def test_a_moment_is_told_from_now(seconds: float, told: str) -> None:
    """Past or to come, by its biggest unit."""
    assert wording.ago(NOW - timedelta(seconds=seconds), NOW) == told


def test_rates_and_numbers_are_told_in_the_size_that_they_have() -> None:
    """A slow rate is told by the minute; what nobody has counted is no zero."""
    assert [wording.rate(each) for each in (None, 0.0, 0.05, 2.25, 1234.0)] == [
        "\u2013",
        "0/s",
        "3.0/min",
        "2.2/s",
        "1\u202f234/s",
    ]
    assert wording.plural(1, "failure") == "1 failure"
    assert wording.plural(12_000, "failure") == "12\u202f000 failures"
    assert wording.shortened("a" * 30, 10) == "a" * 9 + "…"
    assert wording.shortened("first\nsecond", 10) == "first"


def test_a_point_that_nobody_has_kept_is_a_gap_in_the_line() -> None:
    """Not a zero: a worker that was away says nothing of how many events there were."""
    drawn = charts.sparkline([1.0, 2.0, None, 4.0, 2.0])
    assert drawn.line.count("M") == 2
    assert charts.sparkline([None, None]).is_empty
    assert charts.sparkline([None, 3.0]).line.count("L") == 1


@few(100)
@example([5e-324])
@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1e12, allow_nan=False)), min_size=1, max_size=60),
)
def test_a_chart_stays_in_its_box_and_its_scale_is_round(values: list[float | None]) -> None:
    """Whatever the figures: every point is within, and the scale has a handful of rows."""
    times = [NOW + timedelta(minutes=number) for number in range(len(values))]
    drawn = charts.chart(values, times, told=lambda value: f"{value:g}")
    if drawn.is_empty:
        assert all(value is None for value in values)
        return
    left, top, right, bottom = drawn.plot
    points = drawn.line.replace("M", " L").split("L")
    for point in filter(str.strip, points):
        x, y = map(float, point.split())
        assert left - 0.1 <= x <= right + 0.1
        assert top - 0.1 <= y <= bottom + 0.1
    assert 2 <= len(drawn.rows) <= 6
    assert len(drawn.hints) == sum(value is not None for value in values)


def _raises() -> None:
    int("x")


def _raises_another() -> None:
    try:
        _raises()
    except ValueError as error:
        raise KeyError("y") from error


def test_a_traceback_is_opened_at_the_line_of_the_application() -> None:
    """The deepest call in its own code, not ours and not Python's; what the error came of is told behind it."""
    with pytest.raises(KeyError) as caught:
        _raises_another()
    text = describe(caught.value).traceback
    assert text is not None
    found = tracebacks.read(text)
    assert found.where is not None
    assert found.where.function == "_raises_another"
    assert found.where.code == 'raise KeyError("y") from error'
    assert "in _raises\n" in found.after
    assert "\n".join(part for part in (found.before, found.here, found.after) if part) == text


@pytest.mark.parametrize("text", ["", "ValueError", '  File "x", line', "no frames\n  at all"])
def test_a_traceback_that_is_none_is_told_as_it_is(text: str) -> None:
    """Somebody else may have written it."""
    found = tracebacks.read(text)
    assert found.where is None
    assert found.after == text


def _posted(body: bytes, media_type: str = "application/x-www-form-urlencoded") -> Request:
    return Request(
        method="POST",
        path="/",
        host="h",
        path_parameters={},
        query=(),
        headers={"content-type": media_type},
        body=body,
    )


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"state=exhausted&state=parked", "application/x-www-form-urlencoded", 422),
        (b"unheard=of", "application/x-www-form-urlencoded", 422),
        (b"state=none", "application/x-www-form-urlencoded", 422),
        (b"stream=%00", "application/x-www-form-urlencoded", 422),
        (b"stream=%ff", "application/x-www-form-urlencoded", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % number for number in range(60)), "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 415),
    ],
)
def test_a_form_that_no_page_sends_is_refused(body: bytes, media_type: str, status: int) -> None:
    """With the field's name where it is one field's fault."""
    with pytest.raises(Problem) as caught:
        read_form(_posted(body, media_type), FailuresQuery)
    assert caught.value.status == status


def test_an_empty_field_says_nothing() -> None:
    """A browser sends all fields of a form, those that nobody has filled in, too; its times have no zone."""
    asked = read_query((("projection", ""), ("state", "exhausted"), ("failed_from", "2026-11-26T08:00")), FailuresQuery)
    assert asked.projection is None
    assert asked.state == "exhausted"
    assert asked.failed_from == datetime(2026, 11, 26, 8, 0, tzinfo=UTC)


def test_files_of_another_version_are_not_kept_for_ever() -> None:
    """Behind a balancer two versions answer while one takes over from the other."""
    now = rendering.asset(f"assets/{rendering.version()}/app.css")
    then = rendering.asset("assets/0/app.css")
    assert now is not None
    assert then is not None
    assert "immutable" in now.headers["Cache-Control"]
    assert then.headers["Cache-Control"] == "no-store"
    assert rendering.asset(f"assets/{rendering.version()}/../links.py") is None
    assert rendering.asset(f"assets/{rendering.version()}/htmx.LICENSE.txt") is None


def test_every_word_that_an_address_may_bring_is_one_of_ours() -> None:
    """Nobody can put words into the page's mouth by a link: an unknown one says nothing."""
    assert NOTES.get("<script>") is None
    assert all(note.text and note.tone in ("", "good", "bad", "warn") for note in NOTES.values())
