"""From a request to a page: where it leads, who asks, may he, what does he ask, show it or do it. One way for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Unpack
from urllib.parse import quote, urlencode

from .._acting import acting_for
from .._desk import service_of
from .._http.access import Actor, admitted, check_origin
from .._http.api import Settings
from .._http.messages import Request, Response, with_headers
from .._http.mounting import AdminOptions, settings_of
from .._http.problems import Problem, phrase
from .._http.refusing import log_refusal, problem_of, request_id_of
from .._http.views import View
from .._service import Service
from .._store import reading
from .forms import LONGEST_FORM_BYTES, fields_of, read_form, read_query
from .links import Links
from .notes import NOTES
from .place import Gone, Place, Shown, Visit
from .places import PLACES
from .rendering import HEADERS, Frame, asset, draw

__all__ = ["ROOT", "Dashboard", "dashboard_of"]

ROOT: Final = "dashboard"
"""The last word of the address at which an adapter mounts it."""
_SAID: Final = "said"
_COMES_AGAIN: Final = (401, 409, 429)
_WRITTEN: Final = ("payload", "note", "reason", "streams", "ignore")
"""The fields in which people write more than a word."""


@dataclass(kw_only=True, eq=False)
class _Elsewhere(Exception):
    """The page is at another address, told from this one."""

    to: str


class Dashboard:
    """Answers requests for pages over one guard. Raises nothing: whatever goes wrong is a page that says so.

    Adapters read no more than `longest_bytes` of a form.
    """

    longest_bytes: Final = LONGEST_FORM_BYTES

    def __init__(self, service: Service, settings: Settings, *, name: str) -> None:
        self._service = service
        self._settings = settings
        self._name = name

    @staticmethod
    def is_open(path: str) -> bool:
        """Return whether a path leads to a file that everybody may have: it says nothing of the application."""
        return asset(path) is not None

    @staticmethod
    def file(path: str) -> Response:
        """Answer with such a file."""
        found = asset(path)
        assert found is not None, "asked of is_open first"
        return with_headers(found, None)

    async def respond(self, request: Request, actor: Actor | Problem | None) -> Response:
        """Answer a request. `actor` is who sends it; None is nobody, a problem why that could not be found out.

        `request.path_parameters["path"]` is the part of the path behind the dashboard's own, "" for its root.
        """
        request_id = request_id_of(request)
        request = replace(request, method="GET") if request.method == "HEAD" else request
        path = request.path_parameters.get("path", "")
        links = Links(path=path, query=tuple(pair for pair in request.query if pair[0] != _SAID))
        try:
            with acting_for(request_id):
                response = await self._answered(request, actor, path, links)
        except _Elsewhere as elsewhere:
            response = _gone(elsewhere.to)
        except Exception as error:
            problem = problem_of(error, f"dashboard/{path}", request_id, actor)
            log_refusal(problem, f"dashboard/{path}", request_id, actor)
            response = self._told(request, problem, links, request_id, actor)
        return with_headers(response, request_id)

    async def _answered(self, request: Request, given: Actor | Problem | None, path: str, links: Links) -> Response:
        _check_address(request, path)
        places = [(place, found) for place in PLACES if (found := Links.matched(place.path, path)) is not None]
        place, parameters = _chosen(places, request.method)
        actor = admitted(given, place.needs, is_closed=self._settings.is_closed)
        assert actor is not None, "no page is open to nobody"
        if place.method != "GET":
            _check_sender(request, self._settings.trusted_origins)
        visit = await self._visit(place, parameters, request, actor, links)
        if place.is_limited and place.method == "POST":
            await self._settings.limiter.count(self._service.context.io, place.name, actor.name)
        answer = await place.do(visit)
        if isinstance(answer, Gone):
            said = "" if answer.said is None else f"{'&' if '?' in answer.to else '?'}{_SAID}={answer.said}"
            return _gone(answer.to + said)
        return draw(answer, self._frame(request, links, actor, visit.now))

    async def _visit(
        self, place: Place, parameters: Mapping[str, str], request: Request, actor: Actor, links: Links
    ) -> Visit:
        settings = self._settings
        await self._service.open()
        view = View(actor=actor, redact=settings.redact, payloads_for=settings.payloads_for)
        looking = self._service.beside(self._service.projections.values())
        return Visit(
            service=self._service,
            looking=looking,
            actor=actor,
            view=view,
            links=links,
            path=parameters,
            query=read_query(links.query, place.query),
            form=None if place.form is None else read_form(request, place.form),
            now=await looking.read(reading.now),
        )

    def _frame(self, request: Request, links: Links, actor: Actor | None, now: datetime) -> Frame:
        said = dict(request.query).get(_SAID, "") if _is_from_here(request) else ""
        name = self._name
        return Frame(name=name, links=links, actor=actor, now=now, note=NOTES.get(said), is_fragment=_is_look(request))

    def _told(
        self, request: Request, problem: Problem, links: Links, request_id: str, given: Actor | Problem | None
    ) -> Response:
        """Tell a problem as a page. One that leads elsewhere, to where people sign in, say, is followed from a page.

        A form is not sent on to there, and no look of a page that is open: it would be drawn into that.
        """
        if 300 <= problem.status < 400:
            if request.method == "GET" and not _is_look(request):
                return Response(status=problem.status, body=b"", headers={**HEADERS, **problem.headers})
            detail = "Your session has ended, and nothing was done. Sign in again, and do it again"
            problem = Problem(status=401, kind="signed-out", detail=detail)
        actor = given if isinstance(given, Actor) else None
        page = Told(
            problem=problem,
            title=phrase(problem.status),
            request_id=request_id,
            is_form=request.method == "POST",
            sent=self._given_back(request, problem),
        )
        shown = Shown(template="problem.html", title=page.title, page=page, status=problem.status)
        frame = Frame(name=self._name, links=links, actor=actor, now=datetime.now(UTC))
        drawn = draw(shown, frame)
        return replace(drawn, headers={**drawn.headers, **problem.headers})

    def _given_back(self, request: Request, problem: Problem) -> tuple[tuple[str, str], ...]:
        """Return what somebody wrote into a form of ours, so that it is not lost with a session or a database."""
        if request.method != "POST" or (problem.status < 500 and problem.status not in _COMES_AGAIN):
            return ()
        try:
            _check_sender(request, self._settings.trusted_origins)
            fields = fields_of(request)
        except Problem:
            return ()
        return tuple((name, value) for name, value in fields if name in _WRITTEN and value.strip())


def dashboard_of(
    guard: object, authorize: object, *, name: str = "Projections", **options: Unpack[AdminOptions]
) -> Dashboard:
    """Make what answers the pages. Raises `ConfigurationError` for an option that cannot be."""
    return Dashboard(service_of(guard), settings_of(authorize, **options), name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A problem as a page. `sent`: what was written into the form that was not taken."""

    problem: Problem
    title: str
    request_id: str
    is_form: bool
    sent: tuple[tuple[str, str], ...]


def _is_look(request: Request) -> bool:
    """Return whether a page that is open already wants its inside anew."""
    return request.headers.get("hx-request") == "true"


def _is_from_here(request: Request) -> bool:
    """Return whether one of our pages led here, as far as the browser tells: a link from elsewhere has done nothing."""
    return request.headers.get("sec-fetch-site", "same-origin") == "same-origin"


def _check_address(request: Request, path: str) -> None:
    """Lead to the one address of a page: the root has a slash at its end, what is below it has none."""
    query = f"?{urlencode(request.query)}" if request.query else ""
    if request.method == "GET" and not path and not request.path.endswith("/"):
        raise _Elsewhere(to=f"{ROOT}/{query}")
    if request.method == "GET" and path.endswith("/"):
        raise _Elsewhere(to=f"../{quote(path.rstrip('/').rpartition('/')[2], safe='~')}{query}")


def _chosen(places: Sequence[tuple[Place, Mapping[str, str]]], method: str) -> tuple[Place, Mapping[str, str]]:
    if not places:
        raise Problem(status=404, kind="no-page", detail="There is no page at this address")
    for place, found in places:
        if place.method == method:
            return place, found
    detail = "This address takes a form that one of the pages sends"
    allowed = ", ".join(sorted({place.method for place, _ in places}))
    raise Problem(status=405, kind="not-allowed", detail=detail, headers={"Allow": allowed})


def _check_sender(request: Request, trusted: frozenset[str]) -> None:
    """Refuse a form that another site has sent (CSRF), and one of which nothing says who has.

    Browsers name the page that sends a form by Fetch Metadata or Origin; no program has to come here.
    """
    if "origin" not in request.headers and "sec-fetch-site" not in request.headers:
        detail = "Nothing says which page has sent this form; a program uses the routes under /admin/projections"
        raise Problem(status=403, kind="cross-site", detail=detail)
    check_origin(request, trusted)


def _gone(to: str) -> Response:
    return Response(status=303, body=b"", media_type="text/plain", headers={**HEADERS, "Location": to})
