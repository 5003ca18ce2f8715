"""The OpenAPI document: the same in both frameworks, complete, and true of what is answered."""

from __future__ import annotations

from typing import Any, cast

import pytest
import schemathesis
from hypothesis import given
from hypothesis.strategies import one_of
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import projection_guard.flask
from projection_guard._http.examples import EXAMPLES
from projection_guard._http.routes import everything
from tests.bed import Bed
from tests.fuzz.settings import few
from tests.http.serving import PREFIX, Way
from tests.http.stage import Stage

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def operations(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Return what a document says of each of our routes, by method and path, without the prefix."""
    return {
        (method, path.removeprefix(PREFIX)): described
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    }


def without_nulls(node: Any) -> Any:
    """Return it as FastAPI writes it."""
    if isinstance(node, dict):
        return {key: without_nulls(value) for key, value in node.items() if value is not None}
    return [without_nulls(item) for item in node] if isinstance(node, list) else node


def test_both_frameworks_serve_the_same_document(stage: Stage) -> None:
    """FastAPI within the application's own one, too."""
    served = stage.serve()
    ours = served.viewer.get("/admin/projections/openapi.json").json()
    assert ours["servers"] == [{"url": PREFIX}]
    assert ours["paths"].keys() == {endpoint.path for endpoint in everything()}
    assert {**ours, "servers": []} == {**projection_guard.flask.openapi(), "servers": []}
    if stage.way.framework == "fastapi":
        whole = served.client.get(served.url.removesuffix(PREFIX) + "/openapi.json").json()
        assert operations(whole) == without_nulls(operations(ours)), "FastAPI leaves out nulls, also of examples"


def test_the_examples_are_what_the_models_say() -> None:
    """Of every answer there is one, and of every body."""
    for endpoint in everything():
        example = EXAMPLES[endpoint.answer]
        answer = endpoint.answer.model_validate(example)
        assert answer.model_dump(mode="json") == example, endpoint.name
        if endpoint.body is not None:
            endpoint.body.model_validate(endpoint.example)


def test_every_route_describes_what_it_takes_and_answers() -> None:
    """Bodies have an example where they need a field; each status has a schema."""
    for (method, path), described in operations(projection_guard.flask.openapi()).items():
        assert described["summary"], path
        for status, response in described["responses"].items():
            assert any("schema" in content for content in response["content"].values()), (path, status)
        if method == "post":
            assert "example" in described["requestBody"]["content"]["application/json"], path


@pytest.mark.slow
@pytest.mark.parametrize("way", [Way("fastapi", "async"), Way("flask", "blocking")], ids=lambda way: way.framework)
def test_no_request_brings_out_what_the_document_does_not_know(way: Way, sqlite_url: str) -> None:
    """Schemathesis asks what the document allows, and what it does not: no 5xx, no answer outside its schema."""
    bed = Bed("blocking", "sqlite", sqlite_url)
    stage = Stage(bed, way)
    log = stage.follow()
    log.append("A", "A", "B")
    stage.handler.failing.add("A#1")
    stage.guard.catch_up()
    served = stage.serve(rate_limit=None, payloads_for="viewer")
    try:
        schema = schemathesis.openapi.from_url(
            f"{served.url}/admin/projections/openapi.json", headers={"Authorization": "Bearer operator"}
        )
        for result in schema.get_all_operations():
            _ask(cast("Any", result).ok())
    finally:
        stage.close()
        bed.close()


def _ask(operation: Any) -> None:
    cases = [operation.as_strategy(), operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)]
    if "{name}" in operation.path:
        cases.append(operation.as_strategy(path_parameters={"name": "P"}))

    @few(15)
    @given(case=one_of(cases))
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, headers={"Authorization": "Bearer operator"})

    ask()
