"""From a request to a response: who asks, may he, what does he ask, do it, answer. Every route goes this one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import BaseModel

from .._acting import acting_for
from .._model import HealthStatus, Json
from .._service import Service
from .access import Actor, Need, Role, admitted, check_origin
from .asking import read_body, read_query
from .endpoint import Answer, Call, Endpoint
from .health_routes import HEALTH
from .idempotency import once
from .limiting import Limiter
from .messages import Request, Response, json_response, with_headers
from .problems import Problem
from .refusing import log_refusal, problem_of, request_id_of
from .views import Redact, View

__all__ = ["Api", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an application says of its routes. `is_closed`: it has not said who may come in."""

    is_closed: bool
    limiter: Limiter
    public_summary: bool = True
    payloads_for: Role | None = None
    redact: Redact | None = None
    trusted_origins: frozenset[str] = frozenset()
    ready_at_worst: HealthStatus | None = None


class Api:
    """Answers requests over one guard. Raises nothing: whatever goes wrong is a problem document."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self.settings = settings

    async def respond(self, endpoint: Endpoint, request: Request, actor: Actor | Problem | None) -> Response:
        """Answer a request. `actor` is who sends it; None is nobody, a problem why that could not be found out."""
        request_id = request_id_of(request)
        try:
            with acting_for(request_id):
                response = await self._answered(endpoint, request, actor)
        except Exception as error:
            problem = problem_of(error, endpoint.name, request_id, actor)
            log_refusal(problem, endpoint.name, request_id, actor)
            response = problem.as_response(request.path, request_id)
        return with_headers(response, request_id)

    async def _answered(self, endpoint: Endpoint, request: Request, given: Actor | Problem | None) -> Response:
        actor = self._admitted(endpoint, given)
        if endpoint.method != "GET":
            check_origin(request, self.settings.trusted_origins)
        settings = self.settings
        prefix = _prefix(endpoint, request)
        endpoint, path = self._meant(endpoint, request)
        call = Call(
            service=self._service,
            actor=actor,
            view=View(actor=actor, redact=settings.redact, payloads_for=settings.payloads_for),
            ready_at_worst=settings.ready_at_worst,
            prefix=prefix,
            path=path,
            query=read_query(request, endpoint.query),
            body=None if endpoint.body is None else read_body(request, endpoint.body),
        )

        async def respond() -> Response:
            if endpoint.is_limited:
                await settings.limiter.count(self._service.context.io, endpoint.name, call.by)
            return _written(endpoint, await endpoint.do(call), prefix)

        if endpoint.method == "GET" or actor is None:
            return await respond()
        return await once(self._service, request, route=endpoint.name, actor=actor.name, respond=respond)

    def refuse(self, request: Request, problem: Problem) -> Response:
        """Answer a request that never came to a route."""
        request_id = request_id_of(request)
        return with_headers(problem.as_response(request.path, request_id), request_id)

    def _admitted(self, endpoint: Endpoint, given: Actor | Problem | None) -> Actor | None:
        is_open = endpoint.needs is Need.NOBODY or (endpoint.needs is Need.SUMMARY and self.settings.public_summary)
        return admitted(given, endpoint.needs, is_closed=self.settings.is_closed, is_open=is_open)

    def _meant(self, endpoint: Endpoint, request: Request) -> tuple[Endpoint, dict[str, str]]:
        """Tell a projection's name from the words behind it, where the name has slashes of its own.

        A path parameter takes in all it can; which projections there are decides what was meant.
        """
        path = {name: request.path_parameters[name] for name in endpoint.parameters}
        name, known = path.get("name"), self._service.projections
        if name is None or name in known:
            return endpoint, path
        if endpoint.path.endswith("{name}"):
            return endpoint, {**path, "name": name.removesuffix("/")}
        longer = name + endpoint.path.partition("{name}")[2]
        if endpoint in HEALTH and longer in known:
            return HEALTH[-1], {"name": longer}
        return endpoint, path


def _written(endpoint: Endpoint, answer: Answer, prefix: str) -> Response:
    headers: dict[str, str] = {}
    if answer.location is not None:
        headers["Location"] = quote(prefix) + answer.location
    return json_response(answer.status or endpoint.status, _as_json(answer.content), headers=headers)


def _as_json(content: BaseModel | Sequence[BaseModel]) -> Json:
    if isinstance(content, BaseModel):
        dumped: dict[str, Json] = content.model_dump(mode="json")
        return dumped
    return [_as_json(item) for item in content]


def _prefix(endpoint: Endpoint, request: Request) -> str:
    """Return what stands before the routes' own paths in this application."""
    own = endpoint.path
    for name in endpoint.parameters:
        own = own.replace(f"{{{name}}}", request.path_parameters[name])
    return request.path.rstrip("/").removesuffix(own.rstrip("/"))
