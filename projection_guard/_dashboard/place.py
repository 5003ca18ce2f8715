"""What a page is: a path, whom it lets in, what it is asked, and what it shows or does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeVar

from pydantic import BaseModel

from .._http.access import Actor, Need
from .._http.asking import NoQuery
from .._http.views import View
from .._service import Service
from .links import Links

__all__ = ["Gone", "Place", "Shown", "Visit"]

Q = TypeVar("Q", bound=BaseModel)

_MOST_OFFERED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request that was let in and understood. `looking` is the guard's service of which nothing is written."""

    service: Service
    looking: Service
    actor: Actor
    view: View
    links: Links
    path: Mapping[str, str]
    query: BaseModel
    form: BaseModel | None
    now: datetime

    @property
    def offered(self) -> tuple[str, ...]:
        """The projections to choose from; none where they are too many for that, and a name has to be written."""
        names = self.looking.projections
        return tuple(sorted(names)) if len(names) <= _MOST_OFFERED else ()

    def asked(self, kind: type[Q]) -> Q:
        """Return the query, which is of the kind that the place names."""
        assert isinstance(self.query, kind)
        return self.query

    def given(self, kind: type[Q]) -> Q:
        """Return the form, which is of the kind that the place names."""
        assert isinstance(self.form, kind)
        return self.form


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page to be drawn. `page` is what its template is given; `live_seconds`: how often it is looked at anew."""

    template: str
    title: str
    page: object
    section: Literal["overview", "failures", "jobs", "audit", ""] = ""
    live_seconds: float | None = None
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Something was done; the browser goes on to a page, told from this one. `said` is a word of `notes`."""

    to: str
    said: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A page, or what a form of one does. `is_limited`: how often one actor may do it is limited."""

    name: str
    path: str
    do: Callable[[Visit], Coroutine[object, None, Shown | Gone]]
    method: Literal["GET", "POST"] = "GET"
    needs: Need = Need.VIEWER
    query: type[BaseModel] = NoQuery
    form: type[BaseModel] | None = None
    is_limited: bool = False
