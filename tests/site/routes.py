"""The page of the routes, written from the OpenAPI document that FastAPI, Flask and the others serve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from projection_guard._http.access import Need
from projection_guard._http.routes import everything
from projection_guard.flask import openapi

__all__ = ["page"]

Document = Mapping[str, Any]
WHO: Final = {Need.NOBODY: "all", Need.SUMMARY: "all, with names and statuses; a viewer sees more"}
HEAD: Final = """\
# HTTP routes

*Written by `make reference`, and compared by a test: edit what the routes say of themselves instead. It comes from the
OpenAPI document, the same in every framework (`GET /admin/projections/openapi.json`).*

How the routes are mounted, who may do what, errors in general and idempotency:
[health and admin over HTTP](../http.md). Every path stands below the prefix under which the application has mounted it.
Every answer has an `X-Request-ID`. The other statuses are [problem documents](../http.md#errors).
"""


def page() -> str:
    """Return the page: health first, then admin, each route with what it takes and answers."""
    paths = openapi()["paths"]
    needs = {(endpoint.path, endpoint.method.lower()): endpoint.needs for endpoint in everything()}
    parts = [HEAD]
    for group in ("health", "admin"):
        parts.append(f"## Under /{group}\n")
        parts += [
            _route(method, path, described, needs[path, method])
            for path, methods in paths.items()
            if path.startswith(f"/{group}/")
            for method, described in methods.items()
        ]
    return "\n".join(parts)


def _route(method: str, path: str, described: Document, need: Need) -> str:
    who = WHO.get(need, f"{need.name.lower()}s")
    summary = described["summary"]
    lines = [f"### {summary}\n", f"**`{method.upper()} {path}`**, for {who}.\n"]
    if "description" in described:
        lines.append(f"{described['description']}\n")
    lines += _table("Parameters", [_parameter(each) for each in described["parameters"]])
    if "requestBody" in described:
        lines += _body(described["requestBody"])
    lines += _answers(described["responses"])
    return "\n".join(lines)


def _table(title: str, rows: list[tuple[str, str, str]]) -> list[str]:
    if not rows:
        return []
    written = [f"| `{name}` | {kind} | {text} |" for name, kind, text in rows]
    return [f"| {title} | | |", "|---|---|---|", *written, ""]


def _parameter(parameter: Document) -> tuple[str, str, str]:
    where = "" if parameter["in"] == "query" else f", in the {parameter['in']}"
    return parameter["name"], _kind(parameter["schema"]) + where, _said(parameter, parameter["schema"])


def _body(body: Document) -> Iterator[str]:
    content = body["content"]["application/json"]
    schema = content["schema"]
    fields = cast("dict[str, Document]", schema.get("properties", {}))
    required = schema.get("required", [])
    rows = [
        (name, _kind(field) + (", required" if name in required else ""), _said(field, field))
        for name, field in fields.items()
    ]
    yield from _table("Body", rows)
    if content.get("example"):
        yield from _json(content["example"])


def _answers(responses: Document) -> Iterator[str]:
    statuses = {int(status): answer for status, answer in responses.items()}
    for status, answer in statuses.items():
        if "application/json" in answer["content"] and status < HTTPStatus.BAD_REQUEST:
            yield f"Answers {status}:\n"
            yield from _json(answer["content"]["application/json"]["example"])
    others = sorted(status for status in statuses if status >= HTTPStatus.BAD_REQUEST)
    yield f"Other statuses: {', '.join(map(str, others))}.\n"


def _json(value: object) -> Iterator[str]:
    yield f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```\n"


def _kind(schema: Document) -> str:
    """Return what a value is, in the words of JSON."""
    choices = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    return " or ".join(dict.fromkeys(_one_kind(choice) for choice in choices))


def _one_kind(schema: Document) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in schema and abs(schema[key]) < 2**53
    ]
    kind = schema.get("format") or schema.get("type", "anything")
    return " ".join([str(kind), *bounds])


def _said(described: Document, schema: Document) -> str:
    text = str(described.get("description", "")).replace("|", "\\|").replace("\n", " ")
    default = schema.get("default")
    return f"{text} (default `{json.dumps(default)}`)".strip() if default is not None else text
