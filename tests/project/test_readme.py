"""What README and docs show is run: each section's ```python blocks, in order, as one program in an empty folder.

Sections are those of `##` headings. A comment on the line before a block says otherwise:

    <!-- not run: why -->      the block is not run; a reason is needed
    <!-- goes on -->           the section goes on where the one before it stopped
    <!-- file: NAME -->        the block is saved as a file, for the commands of the page: see `walking`
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.project.programs import run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


@dataclass(slots=True, kw_only=True)
class Program:
    """The python of one section; its lines stand where they stand on the page, so that tracebacks fit."""

    page: str
    heading: str
    lines: dict[int, str] = field(default_factory=dict)

    def source(self) -> str:
        """Return the page with everything else blanked out."""
        return "\n".join(self.lines.get(number, "") for number in range(1, max(self.lines) + 1)) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, the line its content starts at, and the comment before it."""

    language: str
    heading: str
    starts: int
    content: list[str]
    comment: str


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    heading, fence, comment, content = "", None, "", list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if fence is not None:
            if line.strip() == "```":
                starts = number - len(content)
                found.append(Block(language=fence, heading=heading, starts=starts, content=content, comment=comment))
                fence, comment = None, ""
            else:
                content.append(line)
        elif opening := re.match(r"```(\w*)", line):
            fence, content = opening[1], []
        elif line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.strip():
            comment = line.strip()
    return found


def programs(page: str, text: str) -> list[Program]:
    """Return the python of a page, one program a section."""
    made: list[Program] = []
    for block in blocks(text):
        if block.language != "python" or re.match(r"<!-- (not run|file): \S", block.comment):
            continue
        goes_on = made and (made[-1].heading == block.heading or block.comment == "<!-- goes on -->")
        if not goes_on:
            made.append(Program(page=page, heading=block.heading))
        made[-1].heading = block.heading
        made[-1].lines |= dict(enumerate(block.content, start=block.starts))
    return made


def shell_lines(language_of: str = "sh") -> list[tuple[str, str]]:
    """Return every line of the pages' shell blocks with the page it stands on."""
    return [
        (page.name, line)
        for page in PAGES
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.language == language_of
        for line in block.content
    ]


def all_programs() -> list[Program]:
    """Return the programs of every page; a missing README is found by its own test, not at collection."""
    return [
        program
        for page in PAGES
        if page.exists()
        for program in programs(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("program", all_programs(), ids=lambda program: f"{program.page}: {program.heading}")
def test_the_code_on_a_page_runs(program: Program, tmp_path: Path) -> None:
    """Each section runs as it stands, in an empty folder, with warnings as errors."""
    script = tmp_path / "section.py"
    script.write_text(program.source(), encoding="utf-8")
    ended = run(script)
    assert ended.code == 0, f"{program.page}, {program.heading} (lines as on the page):\n{ended.said}"


def test_the_readme_shows_code() -> None:
    """A README whose blocks are no longer found would make the test above pass for nothing."""
    assert programs("README.md", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_twenty_lines_are_twenty_and_print_what_they_say(tmp_path: Path) -> None:
    """The second event waits for the first, and both are applied in order once that has healed."""
    program = next(each for each in all_programs() if (each.page, each.heading) == ("README.md", "Twenty lines"))
    assert len([line for line in program.lines.values() if line]) == 20
    script = tmp_path / "twenty.py"
    script.write_text(program.source(), encoding="utf-8")
    assert run(script).said.splitlines() == ["failed", "parked", "['Draft', 'Minutes']"]


def test_every_make_target_that_a_page_names_exists() -> None:
    """`make x` on a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {(page, name) for page, line in shell_lines() for name in re.findall(r"\bmake ([a-z]+)", line)}
    assert {(page, name) for page, name in named if name not in targets} == set()


def test_every_extra_that_a_page_names_exists() -> None:
    """`pip install 'projection-guard[x]'` on a page is an extra of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        (page, extra.strip())
        for page, line in shell_lines()
        for extras in re.findall(r"projection-guard\[([\w, -]+)\]", line)
        for extra in extras.split(",")
    }
    assert {(page, extra) for page, extra in named if extra not in project["optional-dependencies"]} == set()


PAGE = """\
# Title
## One
```python
a = 1
```
text
```python
assert a == 1
```
<!-- not run: needs a server -->
```python
boom
```
```sh
make demo
```
## Two
<!-- goes on -->
```python
assert a == 1
```
## Three
```python
b = 2
```
"""


def test_sections_are_programs_and_comments_say_otherwise() -> None:
    """Blocks of a section share names, lines keep their numbers, and only a block with a reason is left out."""
    one, three = programs("page", PAGE)
    assert one.lines == {4: "a = 1", 8: "assert a == 1", 20: "assert a == 1"}
    assert one.source().splitlines()[19] == "assert a == 1"
    assert three.lines == {24: "b = 2"}
