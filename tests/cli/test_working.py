"""`projection-guard worker`: the script itself, its probes, its end; and what it refuses."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import shop
from tests.cli.conftest import Place

PROBES = "probes are answered on 127.0.0.1:"


def until(condition: Callable[[], object]) -> None:
    """Wait on a condition; fail when it does not come true."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """Read its log until a line has these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    pytest.fail(f"it ended without saying {words!r}")


def test_it_works_until_sigterm(place: Place) -> None:
    """It follows and heals; `status` knows of it; it answers its probes; told to end it settles, and exits with 0."""
    place.follow()
    file = place.shell.folder / "health"
    words = ("worker", "tests.cli.shop:follower", "--health-port", "0", "--health-file", str(file))
    process = place.shell.begin(*words)
    try:
        port = int(line_with(process, PROBES).rpartition(":")[2])
        line_with(process, "it is at work")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            assert b'projection_guard_health_status{projection="Totals",status="healthy"} 1.0' in answer.read()
        place.append(shop.event("X", 1), shop.event("X", 2))
        until(lambda: place.value("SELECT count(*) FROM totals") == 2)
        (worker,) = place.shell.bare("status", "--json").json["workers"]
        assert (worker["kind"], worker["process_id"], worker["projections"]) == ("service", process.pid, ["Totals"])
        assert file.read_text().startswith("ready")
        process.send_signal(signal.SIGTERM)
        line_with(process, "everything it had in hand is settled")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert not file.exists()
    assert place.shell.bare("status", "--json").json["workers"] == []


def test_what_it_refuses(place: Place, tmp_path: Path) -> None:
    """One sentence, and the exit code that is documented."""
    shell = place.shell
    assert "needs the projections' handlers" in shell.bare("worker", code=1).err
    assert "named twice" in shell.run("worker", "a:b", "--app", "c:d", code=2).err
    assert "health_port" in shell.app("worker", "--health-port", "70000", code=2).err
    assert "grace_seconds" in shell.app("worker", "--grace-seconds=-1", code=2).err
    assert "There is no folder" in shell.app("worker", "--health-file", str(tmp_path / "no" / "file"), code=2).err
    assert "has no projections" in shell.app("worker", app="empty", code=2).err
    place.change("DROP TABLE projection_failures")
    assert "projection_failures" in shell.app("worker", code=4).err
