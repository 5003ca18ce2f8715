"""What the forms of pages do, as a browser sends them, and what is refused; by plain requests."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from flask import Flask, abort, redirect
from sqlalchemy import create_engine, text
from werkzeug.datastructures import WWWAuthenticate

import projection_guard.fastapi
import projection_guard.flask
from projection_guard import AsyncProjectionGuard, ProjectionGuard
from projection_guard._dashboard.places import PLACES
from projection_guard._tables import metadata
from tests.bed import happened
from tests.http.stage import Stage

OWN = {"Sec-Fetch-Site": "same-origin"}


def sent(client: httpx.Client, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> httpx.Response:
    """Send a form as the dashboard's own page does."""
    return client.post(f"/dashboard/{path}", data=dict(fields or {}), headers={**OWN, **headers})


def shown(response: httpx.Response) -> str:
    """Return the text of a page's inside."""
    inside = response.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", inside)).split())


def edited(client: httpx.Client, failure_id: object) -> Any:
    """Return the event as the edit page gives it."""
    page = client.get(f"/dashboard/failures/{failure_id}/edit").text
    return json.loads(html.unescape(page.partition("<textarea")[2].partition(">")[2].partition("</textarea>")[0]))


def test_an_event_is_edited_and_retried_and_the_original_stays(each_stage: Stage) -> None:
    """The handler is given what was written; the page shows both, the stream goes on, and the audit log says who."""
    failure = each_stage.failed(parked=1)
    served = each_stage.serve(payloads_for="operator")
    event = edited(served.operator, failure.id)
    event["data"]["n"] = 7
    note = {"payload": json.dumps(event), "note": "the number was wrong"}
    each_stage.handler.failing.clear()
    response = sent(served.operator, f"failures/{failure.id}/edit", note)
    assert response.status_code == 303
    assert response.headers["Location"].endswith(f"failures/{failure.id}?said=amended")
    page = shown(served.operator.get(f"/dashboard/failures/{failure.id}"))
    assert "As it was edited by Olga" in page
    assert '"n": 7' in page
    assert '"n": 1' in page.partition("The original")[2]
    assert "the number was wrong" in page
    assert "resolved" in page
    assert '"n": 7' not in shown(served.viewer.get(f"/dashboard/failures/{failure.id}"))


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ('{"n": ', "That is no JSON"),
        ("NaN", "NaN is no number"),
        ("[" * 100_000, "no JSON that can be read"),
        ('{"$class": "Happened", "data": {"event_id": "another"}}', ""),
    ],
)
def test_an_edit_that_cannot_be_is_given_back_to_be_mended(stage: Stage, written: str, says: str) -> None:
    """With what was written, and one sentence on what is wrong with it; nothing is tried."""
    failure = stage.failed()
    served = stage.serve(payloads_for="operator")
    response = sent(served.operator, f"failures/{failure.id}/edit", {"payload": written, "note": "kept"})
    assert response.status_code == 422
    assert says in shown(response)
    assert html.escape(written[:200], quote=True).replace("&quot;", "&#34;") in response.text
    assert 'value="kept"' in response.text
    assert stage.guard.failure(failure.id).retry_count == failure.retry_count


def test_an_event_that_is_not_shown_whole_is_not_edited(stage: Stage) -> None:
    """Neither by whom it is not shown to, nor where a part of it is redacted, which would be lost."""
    failure = stage.failed()
    hidden = stage.serve()
    assert "not shown to you" in shown(hidden.operator.get(f"/dashboard/failures/{failure.id}/edit"))
    assert sent(hidden.operator, f"failures/{failure.id}/edit", {"payload": "{}"}).status_code == 403

    def redact(what: str, value: Any) -> Any:
        return "hidden" if what == "event_payload" else value

    redacting = stage.serve(payloads_for="operator", redact=redact)
    assert "hidden here" in shown(redacting.operator.get(f"/dashboard/failures/{failure.id}/edit"))
    assert sent(redacting.operator, f"failures/{failure.id}/edit", {"payload": "{}"}).status_code == 403
    assert '"n"' not in redacting.operator.get(f"/dashboard/failures/{failure.id}").text
    assert stage.guard.failure(failure.id).retry_count == failure.retry_count


def test_more_failures_than_were_seen_are_shown_before_they_are_touched(each_stage: Stage) -> None:
    """Who decided on one failure has not decided on two."""
    each_stage.failed("A")
    served = each_stage.serve()
    page = served.operator.get("/dashboard/bulk/skip", params={"projection": "P"})
    assert "Skip all: 1 failure" in shown(page)
    each_stage.failed("B")
    response = sent(served.operator, "bulk/skip", {"projection": "P", "seen": "1"})
    to = response.headers["Location"]
    assert to.endswith("said=more-than-seen")
    proposed = served.operator.get(f"/dashboard/bulk/{to.partition('?')[0].rpartition('/')[2]}")
    assert "2 failures" in shown(proposed)
    assert "Nothing is done yet" in shown(proposed)
    assert [action.status for action in each_stage.guard.bulk_actions().items] == ["proposed"]
    assert sent(served.operator, "bulk/skip", {"seen": "1"}).status_code == 422  # everything is never meant


def test_an_id_finds_its_failures_resolved_or_not(each_stage: Stage) -> None:
    """A failure's, an event's or a stream's id, pasted from a log; the one failure that it means is opened at once."""
    first, second = each_stage.failed("A"), each_stage.failed("B")
    each_stage.guard.resolve(first.id, "skip", actor="Olga")
    served = each_stage.serve()
    for wanted in (str(first.id), "A#1", "A"):
        found = served.viewer.get("/dashboard/failures", params={"search": wanted})
        assert found.status_code == 303
        assert found.headers["Location"] == f"./failures/{first.id}"
    each_stage.handler.failing.add("B#9")
    assert "Nothing was found" in shown(served.viewer.get("/dashboard/failures", params={"search": "C"}))
    assert str(second.id) in served.viewer.get("/dashboard/failures", params={"by": "event"}).text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "https://admin.example", "Sec-Fetch-Site": "cross-site"}, 303),
    ],
)
def test_a_form_of_another_sites_page_does_nothing(either_stage: Stage, headers: dict[str, str], status: int) -> None:
    """Nor one of which nothing says whose page has sent it; but those of the origins that are trusted."""
    failure = either_stage.failed()
    served = either_stage.serve(trusted_origins=["https://admin.example"])
    response = served.operator.post(f"/dashboard/failures/{failure.id}/skip", headers=headers)
    assert response.status_code == status
    resolved = either_stage.guard.failure(failure.id).resolved_at is not None
    assert resolved == (status == 303)


def test_every_act_is_refused_to_a_viewer_and_to_nobody(either_stage: Stage) -> None:
    """Whatever the page shows; nothing has changed afterwards."""
    failure = either_stage.failed()
    served = either_stage.serve(payloads_for="viewer")
    names = {"failure_id": str(failure.id), "name": "P", "bulk_id": str(failure.id), "job_id": str(failure.id)}
    acts = [place for place in PLACES if place.method == "POST"]
    assert len(acts) > 15
    for place in acts:
        path = re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "A"), place.path)
        assert sent(served.viewer, path).status_code == 403, place.path
        assert sent(served.client, path).status_code == 401, place.path
    assert either_stage.guard.failure(failure.id).resolved_at is None
    assert not either_stage.guard.audit().items


def test_looking_writes_nothing(either_stage: Stage) -> None:
    """Every page, seen by an operator: all rows of all tables are as they were."""
    failure = either_stage.failed(parked=1)
    served = either_stage.serve(payloads_for="operator")
    served.operator.get("/dashboard/")  # the first contact makes the projections' rows
    names = {"failure_id": str(failure.id), "name": "P", "stream": "A"}

    def rows() -> dict[str, list[Any]]:
        engine = create_engine(either_stage.bed.url)
        with engine.connect() as connection:
            found = {
                table.name: sorted(map(repr, connection.execute(text(f"SELECT * FROM {table.name}"))))
                for table in metadata.sorted_tables
            }
        engine.dispose()
        return found

    before, seen = rows(), 0
    for place in PLACES:
        path = re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "none"), place.path)
        if place.method == "GET" and "none" not in path.split("/"):
            query = {"projection": "P"} if place.path.startswith("bulk/") else {}
            response = served.operator.get(f"/dashboard/{path}", params=query)
            assert response.status_code in (200, 409, 422), f"{path}: {response.status_code}"
            seen += response.status_code == 200
    assert seen > 10
    assert rows() == before


def test_without_authorize_nobody_sees_anything(either_stage: Stage) -> None:
    """The page says what the application has to do; the files of pages say nothing of it and are open."""
    either_stage.failed()
    served = either_stage.serve(is_open=False)
    page = served.operator.get("/dashboard/")
    assert page.status_code == 403
    assert "authorize=" in shown(page)
    assert "P" not in shown(page).split()
    style = re.search(r'href="\./(assets/[^"]+\.css)"', page.text)
    assert style is not None
    file = served.client.get(f"/dashboard/{style[1]}")
    assert (file.status_code, file.headers["Content-Type"]) == (200, "text/css; charset=utf-8")


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_who_has_to_sign_in_is_sent_there(framework: str, sqlite_url: str) -> None:
    """`authorize` raises the framework's own redirection; a wish for a password is passed on, too."""
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        guard.migrate()
        if framework == "fastapi":

            def who(request: Any) -> None:
                if "basic" in request.headers:
                    raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})
                raise HTTPException(302, headers={"Location": "/login"})

            app = FastAPI()
            app.include_router(projection_guard.fastapi.dashboard_router(guard, authorize=who))

            async def asked_of(path: str, headers: dict[str, str]) -> httpx.Response:
                transport = httpx.ASGITransport(app)
                async with httpx.AsyncClient(transport=transport, base_url="http://h") as client:
                    return await client.get(path, headers=headers)

            def get(path: str, headers: dict[str, str]) -> Any:
                return asyncio.run(asked_of(path, headers))
        else:

            def flask_who(request: Any) -> None:
                if "basic" in request.headers:
                    abort(401, www_authenticate=WWWAuthenticate("basic"))
                abort(redirect("/login"))

            flask = Flask("t")
            flask.register_blueprint(projection_guard.flask.dashboard_blueprint(guard, authorize=flask_who))
            get = flask.test_client().get
        away = get("/dashboard/", headers={})
        assert (away.status_code, away.headers["Location"]) == (302, "/login")
        asked = get("/dashboard/", headers={"basic": "1"})
        assert (asked.status_code, asked.headers["WWW-Authenticate"].strip().lower()) == (401, "basic")


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("/dashboard", "dashboard/"),
        ("/dashboard?status=offline", "dashboard/?status=offline"),
        ("/dashboard/failures/", "../failures"),
        ("/dashboard/projections/P/?hours=6", "../P?hours=6"),
    ],
)
def test_a_page_has_one_address(either_stage: Stage, asked: str, leads_to: str) -> None:
    """With a slash at the root's end, and none elsewhere: what is relative on a page leads to where it is meant."""
    response = either_stage.serve().viewer.get(asked)
    assert (response.status_code, response.headers["Location"]) == (303, leads_to)


def test_what_is_asked_wrongly_is_a_page_that_says_so(either_stage: Stage) -> None:
    """Of every kind, with its status; none of them tells of the database."""
    served = either_stage.serve()
    for path, status in {
        "nowhere": 404,
        "failures/no-id": 404,
        "failures/00000000-0000-0000-0000-000000000000": 404,
        "projections/Q": 404,
        "failures?state=none": 422,
        "failures?unheard=of": 422,
        "?page=0": 422,
        "failures?after=zzz": 422,
    }.items():
        page = served.viewer.get(f"/dashboard/{path}")
        assert page.status_code == status, path
        assert "To the overview" in shown(page), path
        assert "SELECT" not in page.text
    assert sent(served.operator, "failures").status_code == 405
    assert served.operator.post("/dashboard/failures/x/skip", headers=OWN, json={}).status_code in (404, 415)
    assert served.operator.get("/dashboard/failures/x/retry").status_code == 405


def test_an_async_guard_is_refused_by_flask() -> None:
    """With the sentence that says what to use, as for the routes."""
    guard: Any = AsyncProjectionGuard("sqlite+aiosqlite://")
    with pytest.raises(projection_guard.errors.ConfigurationError, match="fastapi"):
        projection_guard.flask.dashboard_blueprint(guard)


def test_who_retries_reads_what_came_of_it(each_stage: Stage) -> None:
    """Applied, failed again, or not tried at all: in words, on the failure's page."""
    failure = each_stage.failed(parked=1)
    served = each_stage.serve()
    again = sent(served.operator, f"failures/{failure.id}/retry")
    assert again.headers["Location"].endswith("?said=failed-again")
    assert "failed again" in shown(served.operator.get(f"/dashboard/failures/{failure.id}?said=failed-again"))
    each_stage.handler.failing.clear()
    assert sent(served.operator, f"failures/{failure.id}/retry").headers["Location"].endswith("?said=retried")
    late = sent(served.operator, f"failures/{failure.id}/retry")
    assert late.status_code == 409
    assert "resolved by Olga" in shown(late)
    each_stage.guard.worker().run_once()
    assert each_stage.guard.health("P").parked_events == 0
    each_stage.guard.publish(happened("A", 3))


def test_an_edit_is_said_to_be_withdrawn_only_where_there_was_one(either_stage: Stage) -> None:
    """The second click of two finds nothing left to withdraw."""
    failure = either_stage.failed()
    served = either_stage.serve(payloads_for="operator")
    sent(served.operator, f"failures/{failure.id}/edit", {"payload": json.dumps(edited(served.operator, failure.id))})
    said = [sent(served.operator, f"failures/{failure.id}/unamend").headers["Location"] for _ in range(2)]
    assert [to.partition("?said=")[2] for to in said] == ["unamended", "not-amended"]
    page = served.operator.get(f"/dashboard/failures/{failure.id}?said=not-amended")
    assert "no amendment to withdraw" in shown(page)


@pytest.mark.parametrize(
    ("order", "is_followed", "says", "says_not"),
    [
        ("stream", True, "That is also how a skip is undone", "no undo"),
        ("stream", False, "There is no undo here", "how a skip is undone"),
        ("none", False, "nothing is marked", "tainted"),
    ],
)
def test_a_skip_promises_an_undo_only_where_there_is_one(
    stage: Stage, order: str, is_followed: bool, says: str, says_not: str
) -> None:
    """A stream is replayed alone from a log: without one, or without an order, the page says that it is for good."""
    stage.order = order
    if is_followed:
        stage.handler.failing.add("A#1")
        stage.follow().append("A")
        stage.guard.catch_up()
        (failure,) = stage.guard.failures("P").items
    else:
        failure = stage.failed()
    told = shown(stage.serve().operator.get(f"/dashboard/failures/{failure.id}/skip"))
    assert says in told
    assert says_not not in told


def test_a_failure_whose_projection_is_not_registered_here_is_shown_without_buttons(stage: Stage) -> None:
    """Another application on the same database has it: it is looked at here, and acted on there."""
    failure = stage.failed()
    stage.planned[0].name = "Q"  # what the server registers
    page = stage.serve().operator.get(f"/dashboard/failures/{failure.id}")
    assert page.status_code == 200
    assert "P is not registered in this application" in shown(page)
    assert f"{failure.id}/retry" not in page.text
    assert f"{failure.id}/skip" not in page.text
