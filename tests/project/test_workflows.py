"""Workflows and templates name only what there is, and ask for no more rights than they use."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from projection_guard.cli._commands import COMMANDS
from projection_guard.cli._parser import parsed, parser_of
from tests.project.test_readme import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((GITHUB / "workflows").glob("*.yml"))
}
JOBS = [(f"{name}: {job}", found) for name, flow in WORKFLOWS.items() for job, found in flow["jobs"].items()]
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def _steps() -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, step) for name, job in JOBS for step in job.get("steps", ()))


def _lines() -> Iterator[str]:
    """What is run, line by line, without comments."""
    for _, step in _steps():
        yield from (line.split(" #")[0] for line in step.get("run", "").replace("\\\n", " ").splitlines())


def test_there_are_workflows_and_forms() -> None:
    """An empty list would make the others pass for nothing."""
    assert {"ci.yml", "docs.yml", "release.yml"} <= WORKFLOWS.keys()
    assert len(FORMS) >= 3


def test_what_is_run_is_there() -> None:
    """Files of the checkout, targets of make, steps of `.ci/run`."""
    made = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(VENV)", ".venv")
    steps = re.findall(r"^step_(\w+)\(\)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    asked = [shlex.split(line) for line in _lines()]
    files = {word for words in asked for word in words if word.startswith(".ci/")}
    assert files
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
    targets = [word for words in asked if words[0] == "make" for word in words[1:]]
    assert targets
    assert [name for name in targets if not re.search(rf"^{re.escape(name)}:", made, re.MULTILINE)] == []
    run = [word for words in asked if words[:2] == ["bash", ".ci/run"] for word in words[2:]]
    assert set(run) == set(steps) - {"python_3_11", "python_3_12", "python_3_13"}, "the matrix runs those"


def test_what_release_makes_is_what_its_jobs_take() -> None:
    """The files that are attested and shown are those of `.ci/release.py`."""
    script = (ROOT / ".ci" / "release.py").read_text(encoding="utf-8")
    text = (GITHUB / "workflows" / "release.yml").read_text(encoding="utf-8")
    taken = set(re.findall(r"release/([\w.-]+(?:\.\w+|SUMS))", text))
    assert taken == {"SHA256SUMS", "notes.md", "projection-guard.cdx.json"}
    assert [name for name in taken if f'"{name}"' not in script] == []


@pytest.mark.parametrize(("name", "job"), JOBS, ids=[name for name, _ in JOBS])
def test_a_job_has_only_the_rights_that_it_uses(name: str, job: dict[str, Any]) -> None:
    """The workflow gives none; who writes, or signs, says so, and checks nothing out."""
    flow = WORKFLOWS[name.partition(":")[0]]
    assert flow["permissions"] == {}
    used = [step.get("uses", "").split("@")[0] for step in job.get("steps", ())]
    rights = job["permissions"]
    if rights != {"contents": "read"}:
        assert "actions/checkout" not in used
        assert not any(".ci/" in step.get("run", "") or "make " in step.get("run", "") for step in job["steps"])
    assert ("id-token" in rights) == bool(
        {"pypa/gh-action-pypi-publish", "actions/deploy-pages", "actions/attest-build-provenance"} & set(used)
    )
    assert "uses" in job or job["timeout-minutes"] <= 60


def test_jobs_wait_for_jobs_that_there_are() -> None:
    """And nothing is published that was not tested, built and signed."""
    for flow in WORKFLOWS.values():
        for job in flow["jobs"].values():
            needs = job.get("needs", [])
            named = {needs} if isinstance(needs, str) else set(needs)
            assert named <= flow["jobs"].keys()
    release = WORKFLOWS["release.yml"]["jobs"]
    chain = ["publish"]
    while (before := release[chain[-1]].get("needs")) is not None:
        chain.append(before)
    assert chain == ["publish", "attest", "build", "ci"]


def test_every_action_has_a_version_and_no_input_of_others_is_pasted_into_a_shell() -> None:
    """A branch such as `main` is somebody else's to change; what a stranger may write goes by the environment."""
    for name, step in _steps():
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+|[0-9a-f]{40})", step["uses"]), (name, step["uses"])
        assert "${{" not in step.get("run", ""), name
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_versions_and_warns_of_payloads(path: Path) -> None:
    """Its commands are commands, its fields have ids of their own."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    fields = [each for each in form["body"] if each["type"] != "markdown"]
    ids = [each["id"] for each in fields]
    assert len(set(ids)) == len(ids)
    assert "versions" in ids
    text = path.read_text(encoding="utf-8")
    assert re.search(r"No real events, please", text)
    assert "projection-guard doctor --json" in text
    for line in re.findall(r"projection-guard (\w[\w -]*--json)", text):
        parsed(parser_of(COMMANDS), shlex.split(line))


def test_dependabot_looks_where_there_is_something() -> None:
    """Its folders exist."""
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    assert [each["directory"] for each in updates if not (ROOT / each["directory"].strip("/")).is_dir()] == []
