"""All routes, in the order in which they are tried, and the document that describes them."""

from __future__ import annotations

from typing import Final

from . import answers
from .access import Need
from .bulk_routes import BULK
from .endpoint import Answer, Call, Endpoint
from .failure_routes import FAILURES
from .health_routes import HEALTH
from .history_routes import HISTORY
from .openapi import document
from .projection_routes import PROJECTIONS
from .stream_routes import STREAMS

__all__ = ["ADMIN", "HEALTH", "everything"]


async def _document(call: Call) -> Answer:
    return Answer(content=answers.Document(document(everything(), prefix=call.prefix)))


_DOCUMENT: Final = Endpoint(
    name="openapi",
    method="GET",
    path="/admin/projections/openapi.json",
    summary="These routes as an OpenAPI document",
    needs=Need.VIEWER,
    do=_document,
    answer=answers.Document,
)
ADMIN: Final[tuple[Endpoint, ...]] = (_DOCUMENT, *FAILURES, *BULK, *PROJECTIONS, *STREAMS, *HISTORY)


def everything() -> tuple[Endpoint, ...]:
    """Return all routes."""
    return (*HEALTH, *ADMIN)
