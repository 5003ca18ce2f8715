"""`make demo` heals everything, its comparison can fail, and it can be kept open in a browser."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest
from sqlalchemy import create_engine, text

from projection_guard import ProjectionGuard
from projection_guard.demo import Place, Unserved, serve
from projection_guard.demo import read_models as rm
from projection_guard.demo.faults import Faults
from projection_guard.demo.history import changes, of_repository, recorded
from projection_guard.demo.service import register
from projection_guard.demo.store import EventStore
from tests.examples.recording import IMAGE, drawn, record

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.project


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as a newcomer does, with no terminal."""
    command = [sys.executable, "-W", "error", "examples/demo.py", "--fast", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=170)


def test_the_demo_heals_everything_and_reaches_all_four_states() -> None:
    """It exits with 0 only where every read model equals the log."""
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every read model equals the one computed straight from the log" in done.stdout
    assert "--serve" in done.stdout  # how to look at the same in a browser
    assert "\x1b" not in done.stdout


def test_in_a_terminal_it_is_a_picture_that_moves() -> None:
    """From the first read model that is away to the last words; what the README shows is made of it."""
    frames = record("--fast")
    assert any("the read model of Folders is away" in frame.text for frame in frames)
    assert "All four health states were seen" in frames[-1].text
    shown = ET.fromstring(drawn(frames))
    assert len([each for each in shown if each.tag.endswith("}g")]) == len(frames)
    assert len(drawn(frames)) < 150_000
    assert IMAGE.stat().st_size < 150_000


def test_without_git_the_recorded_history_is_used(tmp_path: Path) -> None:
    """A folder that is no repository."""
    assert of_repository(tmp_path, 10) == []
    source, history = changes(tmp_path, 400)
    assert "recorded" in source
    assert history == recorded(400)
    assert len(history) >= 150


def test_the_comparison_finds_a_read_model_that_drifted(tmp_path: Path) -> None:
    """One row that was changed, and one event that the feed lacks."""
    engine = create_engine(f"sqlite:///{tmp_path / 'documents.db'}")
    rm.metadata.create_all(engine)
    store, feed = EventStore(engine), rm.Feed(tmp_path / "feed.db")
    for change in recorded(20):
        event = store.append(change)
        with engine.begin() as connection:
            rm.apply_document(event, connection)
            rm.apply_author(event, connection)
            rm.apply_folder(event, connection)
        feed.tell(event)
    log = store.read_all()
    assert rm.differences(engine, feed, log) == []
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE documents SET trail = trail + 1 WHERE path = :path"), {"path": log[0].stream_id}
        )
    unseen = store.append(recorded(21)[20])
    found = rm.differences(engine, feed, store.read_all())
    assert any(line.startswith(f"documents: {log[0].stream_id!r}") for line in found)
    assert any(line.startswith(f"feed: {unseen.event_id!r}") for line in found)
    engine.dispose()


@contextmanager
def served(place: Place) -> Iterator[str]:
    """Serve in a process of its own, as it is done from a terminal; end it with Ctrl-C."""
    code = (
        "import sys; from pathlib import Path; from projection_guard.demo import Place, serve\n"
        f"place = Place({place.url!r}, Path({str(place.feed)!r}))\n"
        "try: serve(place, 0, say=lambda line: print(line, flush=True))\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    serving = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    try:
        found = (re.search(r"Open (\S+)", line) for line in serving.stdout)
        address = next(match[1] for match in found if match is not None)
        yield address
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=60)
        assert serving.returncode == 130
    finally:
        serving.kill()
        serving.communicate()


def test_served_it_has_something_to_mend_for_this_machine_only(tmp_path: Path) -> None:
    """Exhausted failures that a retry heals, an event to edit, for whoever asks this machine by its own name."""
    place = Place(f"sqlite:///{tmp_path / 'documents.db'}", tmp_path / "feed.db")
    with served(place) as address, httpx.Client(base_url=address, timeout=60, verify=False, trust_env=False) as client:
        assert address.startswith("http://127.0.0.1:")
        shown = client.get("failures?by=event")
        assert shown.status_code == 200
        assert shown.text.count("exhausted") >= 7
        assert client.get("./", headers={"Host": "elsewhere.test"}).status_code == 401
        with ProjectionGuard(place.url, worker="external") as guard:
            register(guard, Faults(), rm.Feed(place.feed))
            failures = guard.failures("Documents").items
            assert {failure.error_message for failure in failures} == {"this document's name has no extension"}
            sent = client.post(f"failures/{failures[0].id}/retry", headers={"Sec-Fetch-Site": "same-origin"})
            assert sent.headers["Location"].endswith("said=retried")
            (poison,) = guard.failures("Authors").items
            assert poison.error_message is not None
            assert "-3" in poison.error_message


def test_a_port_that_is_taken_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Before anything is broken: nothing is written."""
    place = Place(f"sqlite:///{tmp_path / 'documents.db'}", tmp_path / "feed.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unserved, match=rf"127.0.0.1:{port} cannot be listened on .*--port N"):
            serve(place, port, say=lambda line: None)
    assert list(tmp_path.iterdir()) == []
