"""What a route is: a method, a path, whom it lets in, what it is asked and answers, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from .._model import HealthStatus
from .._service import Service
from .access import Actor, Need
from .asking import NoQuery
from .problems import Problem
from .views import View

__all__ = ["Answer", "Call", "Endpoint", "identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that was let in and understood. `query` and `body` are of the kinds that the endpoint names.

    `prefix` is where the application has mounted the routes.
    """

    service: Service
    actor: Actor | None
    view: View
    ready_at_worst: HealthStatus | None
    prefix: str
    path: Mapping[str, str]
    query: BaseModel
    body: BaseModel | None

    @property
    def by(self) -> str:
        """The name of who acts; routes that act let nobody else in."""
        assert self.actor is not None
        return self.actor.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a route answers. `location`: where what was begun can be watched, as a path of these routes."""

    content: BaseModel | Sequence[BaseModel]
    location: str | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A route as data. `answer` is what it answers, `answers_list` a list of them.

    `is_limited`: how often one actor may ask for it is limited. `is_instant`: it asks nobody, and is answered where
    the request came in, also while everything else waits for a database. `problems` are the statuses that it can answer
    besides those which all routes can.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    needs: Need
    do: Callable[[Call], Coroutine[object, None, Answer]]
    answer: type[BaseModel]
    answers_list: bool = False
    status: int = 200
    query: type[BaseModel] = NoQuery
    body: type[BaseModel] | None = None
    is_limited: bool = False
    is_instant: bool = False
    problems: tuple[int, ...] = ()
    description: str = ""
    example: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def parameters(self) -> list[str]:
        """The names of the path's parameters."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


def identity(text: str, kind: str) -> UUID:
    """Read an id off the path. Raises `Problem` 404."""
    try:
        return UUID(text)
    except ValueError:
        detail = f"{text[:64]!r} is the id of no {kind}: ids are UUIDs"
        raise Problem(status=404, kind=f"unknown-{kind.replace(' ', '-')}", detail=detail) from None
