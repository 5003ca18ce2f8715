"""The routes as an OpenAPI 3.1 document, made of the same data that serves them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, cast

from pydantic import BaseModel

from . import answers
from .access import Need
from .endpoint import Endpoint
from .examples import EXAMPLES

__all__ = ["document", "operation"]

Document = dict[str, Any]
_PROBLEMS_OF_ALL: Final = (500,)
_IDEMPOTENCY_KEY: Final[Document] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request that is sent again with the same key is answered as it was, for a day",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x20-\\x7e]+$"},
}
_REQUEST_ID: Final[Document] = {
    "description": "The one that was sent, or a new one; it stands in the log and the audit log",
    "schema": {"type": "string"},
}
_LOCATION: Final[Document] = {
    "Location": {"description": "Where it can be watched", "schema": {"type": "string", "format": "uri-reference"}}
}


def document(endpoints: Sequence[Endpoint], *, prefix: str = "", title: str = "projection_guard") -> Document:
    """Return the document of these routes, which are mounted under `prefix`."""
    paths: dict[str, Document] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = {
            "summary": endpoint.summary,
            "operationId": operation_id(endpoint),
            "tags": ["projections"],
            **operation(endpoint),
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version("projection-guard")},
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
    }


def operation_id(endpoint: Endpoint) -> str:
    """Return a route's name in the document: it is one among those of the whole application."""
    return f"projection_guard_{endpoint.name}"


def operation(endpoint: Endpoint) -> Document:
    """Return what the document says of one route: parameters, body, and every response."""
    found: Document = {"parameters": list(_parameters(endpoint)), "responses": _responses(endpoint)}
    if endpoint.description:
        found["description"] = endpoint.description
    if endpoint.body is not None:
        schema = _schema(endpoint.body, "validation")
        content: Document = {"schema": schema}
        content["example"] = dict(endpoint.example)
        found["requestBody"] = {"required": bool(schema.get("required")), "content": {"application/json": content}}
    return found


def _parameters(endpoint: Endpoint) -> Iterable[Document]:
    for name in endpoint.parameters:
        schema: Document = {"type": "string", "minLength": 1}
        if name != "name":
            schema["format"] = "uuid"
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    schema = _schema(endpoint.query, "validation")
    for name, described in cast("dict[str, Document]", schema.get("properties", {})).items():
        parameter: Document = {"name": name, "in": "query", "required": False, "schema": described}
        if "description" in described:
            parameter["description"] = described["description"]
        yield parameter
    if endpoint.method == "POST":
        yield _IDEMPOTENCY_KEY


def _responses(endpoint: Endpoint) -> Document:
    schema = _schema(endpoint.answer, "serialization")
    if endpoint.needs is Need.SUMMARY:
        schema = {"anyOf": [schema, _schema(answers.Summary, "serialization")]}
    if endpoint.answers_list:
        schema = {"type": "array", "items": schema}
    success: Document = {
        "description": HTTPStatus(endpoint.status).phrase,
        "content": {"application/json": {"schema": schema, "example": _example(endpoint)}},
        "headers": {"X-Request-ID": _REQUEST_ID},
    }
    if endpoint.status in (201, 202):
        success["headers"] |= _LOCATION
    found: Document = {str(endpoint.status): success}
    for status in sorted(_statuses(endpoint)):
        found[str(status)] = _problem(status)
    if endpoint.name == "ready":
        found["503"] = {**success, "description": "Not ready"}
    return found


def _example(endpoint: Endpoint) -> object:
    example = EXAMPLES[endpoint.answer]
    if endpoint.name == "live":
        example = {**example, "status": "live"}
    return [example] if endpoint.answers_list else example


def _statuses(endpoint: Endpoint) -> set[int]:
    statuses = {*_PROBLEMS_OF_ALL, *endpoint.problems, 422}
    if endpoint.needs is not Need.NOBODY:
        statuses |= {401, 403, 409, 503}
    if endpoint.method == "POST":
        statuses |= {400, 403, 409, 411, 413, 415}
    if endpoint.is_limited:
        statuses.add(429)
    return statuses


def _problem(status: int) -> Document:
    described: Document = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": _schema(answers.ProblemDocument, "serialization")}},
    }
    if status in (429, 503):
        described["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    return described


def _schema(kind: type[BaseModel], mode: Any) -> Document:
    """Return a model's JSON schema in one piece: a document that others put together has no place for parts of it."""
    return cast("Document", json.loads(_schema_written(kind, mode)))  # a copy: who serves the document may change it


@cache
def _schema_written(kind: type[BaseModel], mode: Any) -> str:
    schema = kind.model_json_schema(by_alias=False, mode=mode)
    parts = schema.pop("$defs", {})
    return json.dumps(_inlined(schema, parts))


def _inlined(node: object, parts: Document) -> object:
    if isinstance(node, list):
        return [_inlined(item, parts) for item in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    found = cast("Document", node)
    if "$ref" in found:
        return _inlined(parts[str(found["$ref"]).rpartition("/")[2]], parts)
    return {key: _inlined(value, parts) for key, value in found.items() if value is not None}
