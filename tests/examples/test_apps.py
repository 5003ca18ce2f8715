"""The examples of applications, started as a person would, and used over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
APPS = sorted((ROOT / "examples").glob("*_app.py"))
OPERATOR = {"Authorization": "Bearer o-key"}


def test_there_is_one_for_each_framework() -> None:
    """One for each framework."""
    assert [path.name for path in APPS] == [
        "django_app.py",
        "fastapi_app.py",
        "flask_app.py",
        "starlette_app.py",
    ]


@contextmanager
def started(path: Path, folder: Path) -> Iterator[httpx.Client]:
    """Start an application in an empty folder; end it as Ctrl-C does, and see that it ends well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PORT": str(port),
        "OPERATOR_KEY": "o-key",
        "VIEWER_KEY": "v-key",
    }
    environment.pop("DATABASE_URL", None)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(path)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(client, process)
            yield client
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode in (0, -signal.SIGINT), said[-4000:]
    finally:
        process.kill()
        process.communicate()


def wait_for(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    """Wait until the probe says that it is ready."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            if client.get("/api/v1/health/projections/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("it did not become ready")


def skip(client: httpx.Client, path: str) -> httpx.Response:
    """Skip a failure as an operator; where the worker is trying it right now, ask again."""
    while True:
        answer = client.post(path, headers=OPERATOR, json={"compensation_strategy": "skip", "note": "no title"})
        if answer.status_code != 409 or "resolved_at" in answer.json():
            return answer
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_an_application_files_documents_and_an_operator_mends_it(path: Path, tmp_path: Path) -> None:
    """What works is in the read model at once; what fails is seen and skipped by who has the key, on pages too."""
    with started(path, tmp_path) as client:
        assert client.post("/documents", json={"title": "Minutes"}).json()["read_model"] == "applied"
        assert client.post("/documents", json={"title": "poison"}).json()["read_model"] == "failed"
        assert [document["title"] for document in client.get("/documents").json()] == ["Minutes"]
        admin = "/api/v1/admin/projections"
        assert client.get("/api/v1/health/projections").json() == [
            {"projection_name": "DocumentProjection", "health_status": "degraded"}
        ]
        assert client.get(f"{admin}/failures").status_code == 401
        assert client.get(f"{admin}/failures", headers={"Authorization": "Bearer v-key"}).status_code == 200
        (failure,) = client.get(f"{admin}/failures", headers=OPERATOR).json()["items"]
        detail = client.get(f"{admin}/failures/{failure['id']}", headers=OPERATOR).json()
        assert "poison" in str(detail["event_payload"])
        answer = skip(client, f"{admin}/failures/{failure['id']}/resolve")
        assert answer.json()["failure"]["resolved_by"] == "operator"
        status = client.get(f"{admin}/status", headers=OPERATOR).json()
        assert (status["total_active_failures"], status["total_projections"]) == (0, 1)
        asked_for_by_a_browser(client)


def asked_for_by_a_browser(client: httpx.Client) -> None:
    """The dashboard asks for a password, which every browser can send; another one opens nothing."""
    asked = client.get("/dashboard/")
    assert (asked.status_code, asked.headers["WWW-Authenticate"].partition(" ")[0].lower()) == (401, "basic")
    assert client.get("/dashboard/", auth=("me", "another")).status_code == 401
    page = client.get("/dashboard/", auth=("me", "o-key"))
    assert page.status_code == 200
    assert "DocumentProjection" in page.text
