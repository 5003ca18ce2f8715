"""The examples, started by the commands of their READMEs, in an empty folder that has `examples/` in it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from projection_guard.testing._supervisor import free_port

__all__ = ["ADOPTING", "EXAMPLES", "PROGRAMS", "SERVICES", "command_of", "ran", "served"]

EXAMPLES = Path(__file__).parents[2] / "examples"
SERVICES = ("django_app", "fastapi_app", "flask_app", "starlette_app")
PROGRAMS = ("behind_a_broker", "plain_async", "plain_blocking", "replay_and_rebuild", "with_eventsourcing")
ADOPTING = "adopting"


def command_of(name: str) -> str:
    """Return the one command of an example's README."""
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^```sh\n(.*)\n```$", readme, flags=re.MULTILINE)
    return str(command)


def ran(name: str, folder: Path, **environment: str) -> str:
    """Run an example to its end, and return what it has printed."""
    arguments, given = _prepared(name, folder, environment)
    done = subprocess.run(arguments, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stderr == ""
    return done.stdout


@contextmanager
def served(name: str, folder: Path, ready: str, **environment: str) -> Iterator[httpx.Client]:
    """Start an example, wait until this address answers 200; end it as Ctrl-C does, and see that it ends well."""
    port = str(free_port())
    arguments, given = _prepared(name, folder, {**environment, "PORT": port, "UVICORN_PORT": port})
    process = subprocess.Popen(
        arguments, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait_for(client, ready, process)
            yield client
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode in (0, -signal.SIGINT), said[-4000:]
    finally:
        process.kill()
        process.communicate()


def _prepared(name: str, folder: Path, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the command's arguments and environment; `environment` wins over what the command says itself."""
    (folder / "examples").symlink_to(EXAMPLES)
    *said, program = re.split(r"\s(?=python )", " " + command_of(name))
    variables = dict(word.split("=", 1) for part in said for word in shlex.split(part))
    ours = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "NATS_URL")}
    arguments = [sys.executable, "-W", "error", *shlex.split(program)[1:]]
    return arguments, {**ours, "PYTHONPATH": str(EXAMPLES.parent), **variables, **environment}


def _wait_for(client: httpx.Client, ready: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with suppress(httpx.TransportError):
            if client.get(ready).status_code == 200:
                return
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"it did not become ready: {process.communicate()[0][-4000:]}")
