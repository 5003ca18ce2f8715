"""Where the events come from: the commit history of a git repository, one change per file and commit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded_history.jsonl"
ENOUGH = 150


@dataclass(frozen=True)
class Change:
    """One file, changed by one commit."""

    commit: str
    author: str
    at: str
    path: str
    added: int
    removed: int


def of_repository(folder: Path, limit: int) -> list[Change]:
    """Read the oldest changes of a repository; none where there is no git, or no repository."""
    command = ["git", "-C", str(folder), "log", "--reverse", "--no-merges", "--no-renames", "--numstat"]
    try:
        done = subprocess.run(
            [*command, "--format=%x01%H%x02%an%x02%aI"], capture_output=True, text=True, check=True, errors="replace"
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return list(_parsed(done.stdout))[:limit]


def _parsed(log: str) -> Iterator[Change]:
    for entry in log.split("\x01")[1:]:
        head, *files = entry.strip().splitlines()
        commit, author, at = head.split("\x02")
        for line in files:
            if line.count("\t") == 2:
                added, removed, path = line.split("\t")
                if added != "-":  # a binary file has no lines
                    yield Change(commit[:12], author, at, path[:200], int(added), int(removed))


def recorded(limit: int) -> list[Change]:
    """Read the history that is shipped with the example: this project's own first day."""
    with RECORDED.open(encoding="utf-8") as lines:
        return [Change(**json.loads(line)) for line in lines][:limit]


def changes(folder: Path, limit: int) -> tuple[str, list[Change]]:
    """Return a history and what it is: the repository's own, or the recorded one where that is too short."""
    own = of_repository(folder, limit)
    if len(own) >= ENOUGH:
        return f"the git history of {folder.resolve()}", own
    return "the recorded history that is shipped with the example", recorded(limit)
