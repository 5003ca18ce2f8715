"""`make demo` heals everything, and its comparison can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from projection_guard.demo import read_models as rm
from projection_guard.demo.history import changes, of_repository, recorded
from projection_guard.demo.store import EventStore

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.project


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as a newcomer does, with no terminal."""
    command = [sys.executable, "examples/demo.py", "--fast", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=170)


def test_the_demo_heals_everything_and_reaches_all_four_states() -> None:
    """It exits with 0 only where every read model equals the log."""
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every read model equals the one computed straight from the log" in done.stdout
    assert "\x1b" not in done.stdout


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
