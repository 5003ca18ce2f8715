"""A page that is typed along with: its files are written, its commands run in the same folder, their output compared.

    <!-- file: NAME -->                      the python block after it is saved as NAME
    <!-- file: NAME, at its end -->          is appended to it
    <!-- file: NAME, instead of FUNCTION --> takes that function's place, decorators included

In a ```console block a line with `$ ` is a command, and what follows it its output, as a person saw it: ids, times, how
long something took and spaces may differ. `...` stands for what is left out. An id in a command is the one that was
seen where the page saw its own. `export NAME=value` lasts; `echo $?` tells the exit code of the command before.

`python -m tests.project.walking docs/tutorial.md` walks a page and writes what it sees in place of output that differs.
"""

from __future__ import annotations

import ast
import difflib
import doctest
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.project.becoming import become, can_become
from tests.project.test_readme import Block, blocks

__all__ = ["Command", "Difference", "Walk", "commands", "is_walked", "walk"]

_FILE: Final = re.compile(r"<!-- file: ([\w.]+)(?:, (at its end|instead of (\w+)))? -->")
_NOT_RUN: Final = re.compile(r"<!-- not run: \S")
_UUID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_DIFFERS: Final = (
    (_UUID, "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "HASH"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|min|h|d)\b"), "LASTING"),
    (re.compile(r'File "[^"]*?([^"/]+)"'), r'File "\1"'),
    (re.compile(r"^[ ~^]*[~^][ ~^]*\n", re.MULTILINE), ""),  # Python 3.13 marks a place otherwise than 3.11
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
)
_LONGEST_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of a page, the line it stands on, and the output that the page shows."""

    line: int
    words: str
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A command whose output was not as shown."""

    command: Command
    seen: str

    def __str__(self) -> str:
        """Tell both, without what may differ."""
        shown, seen = (tolerant(text).splitlines() for text in (self.command.shown, self.seen))
        told = difflib.unified_diff(shown, seen, "on the page", "seen", lineterm="")
        return "\n".join([f"line {self.command.line}: $ {self.command.words}", *told])


@dataclass(slots=True, kw_only=True)
class Walk:
    """Where a walk takes place, and what lasts from one command to the next."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """From an id on the page to the one that was seen there."""
    code: int = 0

    def run(self, command: Command) -> str:
        """Run a command as a person would; return what he sees."""
        words = _UUID.sub(lambda found: self.ids.get(found[0], found[0]), command.words)
        if exported := re.fullmatch(r"export (\w+)=(\S+)", words):
            self.environment[exported[1]] = exported[2]
            return ""
        command_line, _, into = words.partition(" > ")
        if not can_become(split := shlex.split(command_line)):
            return self._in_a_shell(words)
        ended = become(split, self.folder, self.environment, seconds=_LONGEST_SECONDS)
        if ended.code is None:
            return f"{ended.said}(not at its end within {_LONGEST_SECONDS} s)\n"
        self.code = ended.code
        if not into:
            return ended.said
        (self.folder / into).write_text(ended.said, encoding="utf-8")
        return ""

    def _in_a_shell(self, words: str) -> str:
        done = subprocess.run(
            ["bash", "-c", f"(exit {self.code}); {words}"],
            cwd=self.folder,
            env={**os.environ, **_here(), **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_LONGEST_SECONDS,
        )
        self.code = done.returncode
        return done.stdout

    def learn(self, shown: str, seen: str) -> None:
        """Remember which ids were seen where the page shows its own."""
        self.ids |= dict(zip(_UUID.findall(shown), _UUID.findall(seen), strict=False))


def _here() -> dict[str, str]:
    """Let `python` and the commands beside it be those that run the test; warnings are errors.

    Not those of what a script leaves to the end of its process: a short one need not close its engine.
    """
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONWARNINGS": "error,ignore::ResourceWarning",
        "COLUMNS": "120",
    }


def is_walked(text: str) -> bool:
    """Return whether a page is typed along with."""
    return _FILE.search(text) is not None


def tolerant(text: str) -> str:
    """Return an output without what differs from run to run."""
    for pattern, instead in _DIFFERS:
        text = pattern.sub(instead, text)
    return text


def is_as_shown(shown: str, seen: str) -> bool:
    """Compare an output with what the page shows."""
    return doctest.OutputChecker().check_output(tolerant(shown), tolerant(seen), doctest.ELLIPSIS)


def commands(block: Block) -> list[Command]:
    """Return the commands of a ```console block with their outputs."""
    found: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(block.content, start=block.starts):
        if line.startswith("$ "):
            found.append((number, line.removeprefix("$ "), []))
        elif found:
            found[-1][2].append(line + "\n")
    return [Command(line=number, words=words, shown="".join(lines)) for number, words, lines in found]


def save(folder: Path, block: Block) -> bool:
    """Write a block into the file that the comment before it names; return False where it names none."""
    named = _FILE.fullmatch(block.comment)
    if named is None:
        return False
    path, content = folder / named[1], "\n".join(block.content) + "\n"
    before = path.read_text(encoding="utf-8") if named[2] else ""
    if named[3] is not None:
        content = _instead(before, named[3], content)
    elif named[2]:
        content = f"{before}\n\n{content}"
    path.write_text(content, encoding="utf-8")
    return True


def _instead(before: str, function: str, content: str) -> str:
    (old,) = [node for node in ast.parse(before).body if isinstance(node, ast.FunctionDef) and node.name == function]
    first = min([old.lineno, *(decorator.lineno for decorator in old.decorator_list)])
    lines = before.splitlines(keepends=True)
    return "".join([*lines[: first - 1], content, *lines[old.end_lineno :]])


def walk(text: str, folder: Path) -> Iterator[Difference]:
    """Do what a page says, block by block; yield what was not as shown, and go on."""
    here = Walk(folder=folder)
    for block in blocks(text):
        if save(folder, block):
            continue
        if block.language == "console" and not _NOT_RUN.match(block.comment):
            for command in commands(block):
                seen = here.run(command)
                here.learn(command.shown, seen)
                if not is_as_shown(command.shown, seen):
                    yield Difference(command=command, seen=seen)


def rewritten(text: str, differences: list[Difference]) -> str:
    """Return a page with what was seen in place of what it showed."""
    lines = text.splitlines(keepends=True)
    for each in reversed(differences):
        first = each.command.line
        lines[first : first + each.command.shown.count("\n")] = [each.seen]
    return "".join(lines)


def main(page: Path) -> None:
    """Walk a page, and write down what was seen."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        differences = list(walk(text, Path(folder)))
    page.write_text(rewritten(text, differences), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
