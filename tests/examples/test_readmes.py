"""Each example has a README, whose command is what a test runs, and a line in the index."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.examples.starting import ADOPTING, EXAMPLES, PROGRAMS, SERVICES, command_of

FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__")


def test_each_folder_is_started_by_a_test() -> None:
    """The tests beside this one start what is in these lists, by `command_of`."""
    assert sorted([*SERVICES, *PROGRAMS, ADOPTING]) == FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_the_readme_has_five_lines_and_its_command_is_in_the_index(name: str) -> None:
    """Blank lines and fences aside. The command starts the example from the checkout."""
    readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert len([line for line in readme.splitlines() if line and not line.startswith("```")]) == 5
    command = re.sub(r"^(\w+=\S+ )*", "", command_of(name))
    assert f"examples/{name}/app.py" in command or f"examples.{name}.app:app" in command
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^\|.*\({name}/README\.md\).*$", index, flags=re.MULTILINE)
    assert f"| `{command}` |" in line
    assert f"examples.{name}.app:app" in command or command in (EXAMPLES / name / "app.py").read_text(encoding="utf-8")


def test_no_folder_has_the_name_of_a_module() -> None:
    """`python examples/demo.py` looks for modules beside itself first: a folder `flask` would stand for Flask."""
    assert [name for name in FOLDERS if importlib.util.find_spec(name) is not None] == []
