"""Signals, pipes and terminals, with the script itself: Ctrl-C leaves a job on record, a broken pipe is quiet."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.cli import shop
from tests.cli.conftest import Place
from tests.cli.shell import COMMAND
from tests.faults.proxy import Proxy


def wait_until(condition: Callable[[], object], *, within: float = 60.0) -> None:
    """Wait on a condition."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_ctrl_c_leaves_a_replay_where_it_is_and_says_how_to_go_on(place: Place) -> None:
    """The events in hand are settled, the lease is given back; whoever goes on does so from there."""
    shell = place.shell
    place.append(*(shop.event("X", n) for n in range(1, 4)))
    place.follow()
    place.change("DELETE FROM totals")
    shut = shell.folder / "shut"
    shut.touch()
    process = shell.begin("replay", "Totals", "--from", "1", "--app", "tests.cli.shop:follower")
    try:
        wait_until((shell.folder / "shut.reached").exists)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.readline()  # while the handler still waits
        shut.unlink()
        out, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, ""), rest
    assert said.startswith("projection-guard: Interrupted. range ")
    assert "Traceback" not in rest
    job = said.split("replays run ")[1].split()[0]
    seen = shell.bare("replays", "show", job, "--json").json
    assert place.value("SELECT lease_owner FROM projection_replays") is None
    if seen["finished_at"] is None:  # the events in hand may have been the last
        seen = shell.app("replays", "run", job, "--json", app="follower").json
    assert seen["status"] == "completed"
    assert place.value("SELECT count(*) FROM totals") == 3


def test_a_database_that_goes_away_leaves_a_replay_on_record_too_and_that_is_said(place: Place) -> None:
    """Exit code 3, and what to do: begun again, it would be refused, since the one that was left stands there."""
    if place.engine.dialect.name == "sqlite":
        pytest.skip("a file does not go away")
    shell = place.shell
    place.append(shop.event("X", 1))
    place.follow()
    shut = shell.folder / "shut"
    shut.touch()
    with Proxy(shell.url) as proxy:
        shell.env["SHOP_DATABASE"] = proxy.url
        process = shell.begin("replay", "Totals", "--from", "1", "--app", "tests.cli.shop:follower")
        try:
            wait_until((shell.folder / "shut.reached").exists)
            proxy.go_away()
            shut.unlink()
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 3, err
    job = err.split("replays run ")[1].split()[0]
    assert shell.bare("replays", "show", job, "--json").json["finished_at"] is None


def test_watching_goes_on_until_ctrl_c(place: Place) -> None:
    """A line of JSON each time."""
    place.publish(shop.event("A", 1))
    process = place.shell.begin("status", "--watch", "0.1", "--json", "--database", place.shell.url)
    try:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert [line["total_projections"] for line in lines] == [2, 2, 2]
    assert (process.returncode, err) == (130, "")


def test_nobody_is_told_of_a_broken_pipe(place: Place) -> None:
    """`projection-guard ... | head` is quiet."""
    place.publish(shop.event("A", 1))
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [str(COMMAND), "db", "sql"], stdout=writing, stderr=subprocess.PIPE, text=True, env=place.shell.env
    )
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def in_a_terminal(place: Place, *words: str, **env: str) -> str:
    """Run the script where its output is a terminal; return what was written there."""
    controlling, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(COMMAND), *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**place.shell.env, "TERM": "xterm-256color", "COLUMNS": "120", **env},
    )
    os.close(terminal)
    written = b""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([controlling], [], [], 1.0)[0]:
            continue
        try:
            got = os.read(controlling, 65536)
        except OSError:  # Linux says so where the other side is closed
            break
        if not got:
            break
        written += got
    process.wait(30)
    os.close(controlling)
    return written.decode()


def test_colours_are_for_terminals_that_want_them(place: Place) -> None:
    """NO_COLOR is respected; elsewhere `Shell.run` looks at every output."""
    place.shell.breaks("A")
    place.publish(shop.event("A", 1))
    there = ("--database", place.shell.url)
    assert "\x1b[33mdegraded\x1b[0m" in in_a_terminal(place, "status", *there)
    plain = in_a_terminal(place, "status", *there, NO_COLOR="1")
    assert "degraded" in plain
    assert "\x1b[3" not in plain
    place.append(shop.event("X", 1))
    place.follow()
    shown = in_a_terminal(place, "replay", "Totals", "--from", "1", "--app", "tests.cli.shop:follower")
    assert "range of Totals" in shown
    assert "completed" in shown
