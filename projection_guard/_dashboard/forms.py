"""What a page is sent: the fields of a form, and the query of an address. An empty field says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel

from .._http.asking import read_fields
from .._http.messages import Request
from .._http.problems import Problem

__all__ = ["LONGEST_FORM_BYTES", "fields_of", "read_form", "read_query"]

F = TypeVar("F", bound=BaseModel)
LONGEST_FORM_BYTES: Final = 1_048_576
"""No form is longer: an event that is edited stands in one, with each of its characters percent-encoded."""
_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 50


def read_query(query: Sequence[tuple[str, str]], kind: type[F]) -> F:
    """Read a query. Raises `Problem` 422."""
    return read_fields([(name, value) for name, value in query if value], kind)


def read_form(request: Request, kind: type[F]) -> F:
    """Read a form. Raises `Problem` 400, 413, 415, 422."""
    # A name may be a space: only what is empty says nothing.
    return read_fields([(name, value) for name, value in fields_of(request) if value], kind)


def fields_of(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form. Raises `Problem` 400, 413, 415."""
    if isinstance(request.body, Exception):
        raise request.body
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.body and media_type != _MEDIA_TYPE:
        raise Problem(status=415, kind="not-a-form", detail=f"A form has to be sent as {_MEDIA_TYPE}")
    try:
        fields = parse_qsl(
            request.body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise Problem(status=400, kind="not-a-form", detail="The form is none that can be read") from None
    return [(name, value.replace("\r\n", "\n")) for name, value in fields]  # a browser breaks lines so
