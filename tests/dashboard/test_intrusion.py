"""What strangers, other sites and odd names come to at the dashboard, and what is left of what somebody wrote."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from flask import Flask, abort, redirect
from sqlalchemy import create_engine, text

import projection_guard.fastapi
import projection_guard.flask
from projection_guard import FailureFilter, ProjectionGuard
from projection_guard._dashboard.links import segment
from projection_guard._dashboard.rendering import HEADERS
from tests.dashboard.test_forms import OWN, sent, shown
from tests.http.stage import Stage

TURNED = "P\u202egnihton\u200b"
"""Read as something else than it is, where nothing is done about it."""


@pytest.mark.parametrize("path", ["%E2%82%AC/", "%00/", "//evil.example/", "%5Cevil.example/", "a%0D%0AX-Evil:1/"])
def test_an_odd_address_leads_nowhere_else(either_stage: Stage, path: str) -> None:
    """To a page that says so, or to a relative address in plain letters: to no other site, and to no error of ours."""
    answer = either_stage.serve().client.get(f"/dashboard/{path}")
    assert answer.status_code in (303, 307, 401, 404)
    assert "x-evil" not in answer.headers
    if answer.status_code == 303:
        assert answer.headers["Location"].isascii()
        assert answer.headers["Location"].startswith("../")
        assert not answer.headers["Location"].startswith("..//")


@pytest.mark.parametrize("query", ["path=x", "self=1", "a=1&a=2", "said=reset&path=x", "said=%3Cb%3E"])
def test_a_query_that_nobody_meant_is_a_page(either_stage: Stage, query: str) -> None:
    """Whatever it is called."""
    assert either_stage.serve().viewer.get(f"/dashboard/?{query}").status_code in (200, 422)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_a_time_beyond_all_calendars_is_refused(stage: Stage, moment: str) -> None:
    """It is the asker's mistake, and no outage of the database."""
    answer = stage.serve().viewer.get("/dashboard/failures", params={"failed_from": moment})
    assert answer.status_code == 422


def test_every_answer_cannot_be_framed_kept_or_guessed_at(either_stage: Stage) -> None:
    """Pages, problems, redirections and files: the policy, no frame, no referrer, no guessing, no cache."""
    served = either_stage.serve()
    page = served.operator.get("/dashboard/")
    style = page.text.partition('rel="stylesheet" href="./')[2].partition('"')[0]
    failure = either_stage.failed()
    answers = [
        page,
        served.client.get("/dashboard/"),
        served.viewer.get("/dashboard/nowhere"),
        served.viewer.get("/dashboard"),
        served.viewer.get("/dashboard/failures?state=none"),
        served.operator.get("/dashboard/", headers={"HX-Request": "true"}),
        served.operator.post(f"/dashboard/failures/{failure.id}/skip"),
        sent(served.operator, f"failures/{failure.id}/skip"),
        served.client.get(f"/dashboard/{style}"),
        served.client.get("/dashboard/assets/old/app.css"),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 303, 422, 200, 403, 303, 200, 200]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == dict(HEADERS)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        kept = "immutable" if answer.request.url.path.endswith(style) else "no-store"
        assert kept in answer.headers["Cache-Control"]
        assert "Set-Cookie" not in answer.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_a_page_takes_only_the_files_it_was_made_with(either_stage: Stage) -> None:
    """A slash that is written as %2F lets a page's links lead above it: what is found there is not run."""
    page = either_stage.serve().viewer.get("/dashboard/projections%2FP").text
    assert page.count('integrity="sha384-') == page.count("<script") + page.count('rel="stylesheet"') == 4


def test_the_head_of_a_page_can_be_asked_for(either_stage: Stage) -> None:
    """As HTTP has it, and as those do who look whether a page is there; it lets in nobody else."""
    served = either_stage.serve()
    head = served.viewer.head("/dashboard/")
    assert (head.status_code, head.content) == (200, b"")
    assert served.client.head("/dashboard/").status_code == 401
    assert served.viewer.head("/dashboard/failures/x/retry").status_code == 405


def test_a_method_in_a_header_or_a_field_is_none(either_stage: Stage) -> None:
    """What is sent by POST is that, and what is sent by GET does nothing."""
    failure = either_stage.failed()
    served = either_stage.serve()
    path = f"failures/{failure.id}/skip"
    served.operator.get(f"/dashboard/{path}", headers={**OWN, "X-HTTP-Method-Override": "POST"})
    served.operator.get(f"/dashboard/{path}?_method=POST", headers=OWN)
    served.operator.head(f"/dashboard/{path}", headers=OWN)
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = served.operator.request(method, f"/dashboard/{path}", headers=OWN)
        assert answer.headers["Allow"]
    assert either_stage.guard.failure(failure.id).resolved_at is None


def test_an_address_that_takes_a_form_says_so(stage: Stage) -> None:
    """With the method that it takes."""
    answer = stage.serve().operator.get(f"/dashboard/failures/{stage.failed().id}/retry")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_what_is_done_with_one_projection_is_not_done_with_another(each_stage: Stage) -> None:
    """Not with one whose name differs by a space either."""
    spaced, blank = each_stage.also("P "), each_stage.also(" ")
    for planned in (each_stage.handler, spaced, blank):
        planned.failing.add("A#1")
    each_stage.failed()
    served = each_stage.serve()
    for name in ("P ", " "):
        page = served.operator.get("/dashboard/failures", params={"projection": name, "by": "event"})
        assert f'href="./projections/{segment(name)}"' in page.text
        assert 'href="./projections/P"' not in page.text
        answer = sent(served.operator, "bulk/skip", {"projection": name, "seen": "1"})
        assert answer.headers["Location"].endswith("said=confirmed")
    each_stage.guard.worker().run_once()
    open_of = {each.projection_name for each in each_stage.guard.failures().items}
    assert open_of == {"P"}


def test_a_note_of_blanks_is_none(stage: Stage) -> None:
    """Who types a space has not said anything, and is not stopped by that."""
    failure = stage.failed()
    served = stage.serve()
    assert sent(served.operator, f"failures/{failure.id}/skip", {"note": "  "}).status_code == 303
    assert sent(served.operator, "projections/P/pause", {"reason": " \n "}).status_code == 303
    assert {entry.note for entry in stage.guard.audit().items} == {None}


def test_an_action_for_what_no_form_takes_has_a_page(either_stage: Stage) -> None:
    """Code may propose one for the stream without a name, or one with a space."""
    guard = either_stage.guard
    served = either_stage.serve()
    for stream in ("", " A"):
        action = guard.propose_bulk("retry", where=FailureFilter(stream_id=stream), actor="Olga")
        page = served.viewer.get(f"/dashboard/bulk/{action.id}")
        assert page.status_code == 200
        assert f"<dd>{stream or '(empty)'}</dd>" in page.text


def test_names_that_deceive_the_eye_are_seen_through(either_stage: Stage) -> None:
    """Marks that turn the direction of writing, and what is not seen at all, are written out; what is sent stays."""
    either_stage.also(TURNED)
    served = either_stage.serve()
    for path in ("", f"projections/{segment(TURNED)}", f"projections/{segment(TURNED)}/pause", "failures"):
        page = served.operator.get(f"/dashboard/{path}")
        assert page.status_code == 200
        read = page.text.replace(f'<option value="{TURNED}">', "")  # a field's value is what is sent
        assert "\u202e" not in read, path
        assert "P\\u202egnihton\\u200b" in read, path
    assert sent(served.operator, f"projections/{segment(TURNED)}/pause").status_code == 303
    assert either_stage.guard.health(TURNED).state == "paused"


def test_an_event_that_deceives_the_eye_is_edited_as_it_is(stage: Stage) -> None:
    """It is shown as JSON writes such characters, and what comes back means the same."""
    failure = stage.failed(TURNED)
    served = stage.serve(payloads_for="operator")
    page = served.operator.get(f"/dashboard/failures/{failure.id}/edit").text
    assert "\u202e" not in page
    stage.handler.failing.clear()
    payload = html.unescape(page.partition("<textarea")[2].partition(">")[2].partition("</textarea>")[0])
    answer = sent(served.operator, f"failures/{failure.id}/edit", {"payload": payload})
    assert answer.headers["Location"].endswith("said=amended")


def test_a_link_from_elsewhere_puts_no_words_into_our_mouth(either_stage: Stage) -> None:
    """Only where one of our own pages led here does a page say what was done."""
    viewer = either_stage.serve().viewer
    for site, is_said in (("cross-site", False), ("none", False), ("same-site", False), ("same-origin", True)):
        page = viewer.get("/dashboard/projections/P?said=reset", headers={"Sec-Fetch-Site": site})
        assert ("was set back" in page.text) is is_said, site
    without = viewer.get("/dashboard/projections/P?said=reset").text
    assert 'content="15; url=../projections/P"' in without  # without JavaScript it is not said anew for ever


def test_a_problem_gives_back_what_was_written(either_stage: Stage) -> None:
    """Where a session or the database is gone: an edited event is work. Not to a page of another site."""
    failure = either_stage.failed()
    served = either_stage.serve(payloads_for="operator")
    path, written = f"failures/{failure.id}/edit", {"payload": '{"n": "<b>"}', "note": "why"}
    gone = sent(served.client, path, written)
    assert gone.status_code == 401
    assert "{&#34;n&#34;: &#34;&lt;b&gt;&#34;}</pre>" in gone.text
    foreign = served.client.post(f"/dashboard/{path}", data=written, headers={"Origin": "https://evil.example"})
    assert foreign.status_code in (401, 403)
    assert "&lt;b&gt;" not in foreign.text
    engine = create_engine(either_stage.bed.url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE projection_amendments RENAME TO elsewhere"))
    down = sent(served.operator, path, written)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO projection_amendments"))
    engine.dispose()
    assert down.status_code in (500, 503)
    assert "What you wrote" in shown(down)
    assert "may have been done or not" in shown(down)
    assert "elsewhere" not in down.text
    assert either_stage.bed.url not in down.text


def _asked(framework: str, guard: ProjectionGuard) -> Callable[[str, str, dict[str, str]], Any]:
    """Return how to ask a dashboard whose `authorize` sends everybody to where people sign in."""
    if framework == "fastapi":

        def who(_: Any) -> None:
            raise HTTPException(302, headers={"Location": "https://login.example/"})

        app = FastAPI()
        app.include_router(projection_guard.fastapi.dashboard_router(guard, authorize=who))

        async def answered(method: str, path: str, headers: dict[str, str]) -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://h") as client:
                return await client.request(method, path, headers=headers)

        def ask(method: str, path: str, headers: dict[str, str]) -> Any:
            return asyncio.run(answered(method, path, headers))

        return ask

    def flask_who(_: Any) -> None:
        abort(redirect("https://login.example/"))

    flask = Flask("t")
    flask.register_blueprint(projection_guard.flask.dashboard_blueprint(guard, authorize=flask_who))

    def ask_flask(method: str, path: str, headers: dict[str, str]) -> Any:
        return flask.test_client().open(path, method=method, headers=headers)

    return ask_flask


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_a_page_is_led_to_where_people_sign_in_and_nothing_else_is(framework: str, sqlite_url: str) -> None:
    """A form is not sent on to there, which browsers refuse silently; nor is a look of an open page."""
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        guard.migrate()
        ask = _asked(framework, guard)
        page = ask("GET", "/dashboard/", {})
        assert (page.status_code, page.headers["Location"]) == (302, "https://login.example/")
        assert page.headers["X-Frame-Options"] == "DENY"
        for answer in (
            ask("GET", "/dashboard/", {"HX-Request": "true"}),
            ask("POST", "/dashboard/projections/P/pause", OWN),
        ):
            assert answer.status_code == 401
            assert "Location" not in answer.headers
            assert "Your session has ended" in answer.text


def test_everything_drawn_is_escaped() -> None:
    """Also what a filter or a variable of a template brings: nothing is marked as safe but what we have escaped."""
    templates = files("projection_guard._dashboard").joinpath("templates")
    for template in templates.iterdir():
        source = template.read_text(encoding="utf-8")
        assert "| safe" not in source, template.name
        assert "|safe" not in source, template.name
        assert "autoescape" not in source, template.name
        assert " style=" not in source, template.name
        assert "javascript:" not in source, template.name
