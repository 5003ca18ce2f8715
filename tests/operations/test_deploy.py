"""The examples of `deploy/`: what they call exists, and their times go together."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from projection_guard.cli._commands import COMMANDS
from projection_guard.cli._parser import parsed, parser_of
from projection_guard.worker_service import _AFTER_GRACE_SECONDS, _TICK_SECONDS
from tests.project.test_readme import ROOT

pytestmark = pytest.mark.project
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "projection-guard-worker@.service"


def options_of(words: list[str]) -> Any:
    """Read a command line as the command does."""
    return parsed(parser_of(COMMANDS), words)


def manifests() -> list[Any]:
    """Read the Kubernetes manifest."""
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / "worker.yaml").read_text(encoding="utf-8")))


def entrypoint() -> list[str]:
    """Return the image's command."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    words: list[str] = yaml.safe_load(found[1])
    return words


def test_the_unit_calls_the_command_and_gives_it_time(tmp_path: Path) -> None:
    """The service manager waits longer than the grace period, and its watchdog for more than one sign of life."""
    text = UNIT.read_text(encoding="utf-8")
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    program, *words = shlex.split(settings["ExecStart"])
    assert program.endswith("/projection-guard")
    assert float(settings["TimeoutStopSec"]) > options_of(words).grace_seconds + _AFTER_GRACE_SECONDS
    assert float(settings["WatchdogSec"]) > 10 * _TICK_SECONDS
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("there is no systemd-analyze here to verify the unit with")
    here = tmp_path / UNIT.name.replace("@", "@1")
    here.write_text(text.replace(program, "/bin/true"), encoding="utf-8")
    ended = subprocess.run([verify, "verify", str(here)], capture_output=True, text=True, check=False)
    assert UNIT.stem not in ended.stderr, ended.stderr


def test_the_manifest_calls_the_image_and_gives_it_time() -> None:
    """The pod's grace is longer than the worker's; the probes ask for what the port answers."""
    deployment, budget = manifests()
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    options = options_of([*entrypoint()[1:], *container["args"]])
    assert options.command == "worker"
    assert spec["terminationGracePeriodSeconds"] > options.grace_seconds + _AFTER_GRACE_SECONDS
    (port,) = container["ports"]
    assert port["containerPort"] == options.health_port
    assert options.health_host == "0.0.0.0"
    probes = {container[name]["httpGet"]["path"] for name in ("readinessProbe", "livenessProbe")}
    assert probes == {"/readyz", "/livez"}
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert deployment["spec"]["template"]["metadata"]["labels"] == labels == budget["spec"]["selector"]["matchLabels"]


def test_the_image_checks_its_own_port() -> None:
    """What HEALTHCHECK asks is where the worker answers, and the process gets its signals itself."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert f"http://127.0.0.1:{options_of(entrypoint()[1:]).health_port}/livez" in text
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
