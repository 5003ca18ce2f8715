"""Runs `projection-guard` as a shell does, and tells what it wrote and how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.project.test_readme import ROOT

__all__ = ["COMMAND", "Ended", "Shell", "Spawner"]

COMMAND = Path(sys.executable).with_name("projection-guard")
"""The script itself, for what only a process of its own shows: signals, pipes, terminals."""


_HEARS_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A suite that was started in the background may ignore Ctrl-C, and what it starts inherits that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it answered with `--json`."""
        return json.loads(self.out)

    @property
    def refusal(self) -> Any:
        """What it was refused with, by `--json`."""
        return json.loads(self.err)


class Spawner:
    """Starts commands as children of a process that has imported everything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.cli.spawner"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, *words: str, env: dict[str, str], cwd: Path, answers: str = "") -> Ended:
        """Run a command to its end."""
        files = {name: self._folder / name for name in ("stdin", "stdout", "stderr")}
        files["stdin"].write_text(answers, encoding="utf-8")
        order = {"words": words, "env": env, "cwd": str(cwd), **{name: str(path) for name, path in files.items()}}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        said = self._line()
        assert said, "the process whose children run commands has died"
        out, err = (files[name].read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        return Ended(words=words, code=int(said), out=out, err=err)

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Shell:
    """A shell in a folder, with an application on a database."""

    def __init__(self, spawner: Spawner, folder: Path, *, kind: str, url: str) -> None:
        self._spawner = spawner
        self.folder = folder
        self.kind = kind
        self.url = url
        self.broken = folder / "broken"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "USER": "ada",
            "LOGNAME": "ada",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "SHOP_DATABASE": url,
            "SHOP_KIND": kind,
            "SHOP_BROKEN": str(self.broken),
            "SHOP_SHUT": str(folder / "shut"),
        }

    def run(self, *words: str, code: int | None = 0, answers: str = "", **env: str) -> Ended:
        """Run a command; it has to end with this code."""
        ended = self._spawner.run(*words, env={**self.env, **env}, cwd=self.folder, answers=answers)
        assert code is None or ended.code == code, ended
        if "\x1b" in ended.out + ended.err:
            raise AssertionError(f"a terminal's commands, and there is no terminal: {ended}")
        return ended

    def app(self, *words: str, app: str = "guard", code: int | None = 0, answers: str = "") -> Ended:
        """Run a command for the application."""
        return self.run(*words, "--app", f"tests.cli.shop:{app}", code=code, answers=answers)

    def bare(self, *words: str, code: int | None = 0, answers: str = "") -> Ended:
        """Run a command for the database alone."""
        return self.run(*words, "--database", self.url, code=code, answers=answers)

    def begin(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start the script itself."""
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _HEARS_CTRL_C, str(COMMAND), *words],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def breaks(self, *streams: str) -> None:
        """Let the events of these streams fail in Orders; `A=KeyError` says with what, and for good."""
        self.broken.write_text("\n".join(each if "=" in each else f"{each}=ValueError" for each in streams))
