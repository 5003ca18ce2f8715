"""The reference has every public name exactly once, and is as `make reference` writes it."""

from __future__ import annotations

import re

from tests.site import reference, tables
from tests.site.names import Name, docstring_of, home, public_modules, public_names

DIRECTIVE = re.compile(r"^::: (\S+)\.(\w+)$", re.MULTILINE)
# First words that say nothing of what a name does for its user.
EMPTY_WORDS = ("This ", "Get ", "Gets ", "Getter", "A class", "A function", "A method")


def offered() -> dict[Name, set[Name]]:
    """Return every public name by where it is defined, with all the ways to import it."""
    found: dict[Name, set[Name]] = {}
    for module in public_modules():
        for name in public_names(module):
            found.setdefault(home(Name(module, name)), set()).add(Name(module, name))
    return found


def documented() -> list[Name]:
    """Return the names that the pages show, in order."""
    pages = sorted(reference.FOLDER.glob("*.md"))
    return [Name(*found) for page in pages for found in DIRECTIVE.findall(page.read_text(encoding="utf-8"))]


def test_every_public_name_stands_in_the_reference_exactly_once_and_no_other_does() -> None:
    """Each as it is imported; a name of several modules once: put a new one into tests/site/api.py."""
    public, shown = offered(), documented()
    homes = [home(name) for name in shown]
    assert {str(name) for name in public.keys() - set(homes)} == set(), "public, but on no page"
    assert {str(name) for name in shown if name not in public.get(home(name), set())} == set(), "shown, but not public"
    assert sorted(map(str, homes)) == sorted(map(str, set(homes))), "shown twice"


def test_every_public_name_says_what_it_is() -> None:
    """In one first line, a sentence; of a constant or an alias it is the text below."""
    for name in documented():
        text = docstring_of(name)
        assert text, f"{name} has no docstring"
        first = text.splitlines()[0]
        assert first.rstrip().endswith((".", ":")) or first[-1].isalnum(), f"{name}: {first}"
        assert not first.startswith(EMPTY_WORDS), f"{name}: {first}"


def test_the_pages_of_the_reference_are_as_they_would_be_written_now() -> None:
    """Where this fails: `make reference`, and look at what has changed."""
    written = {path.name: path.read_text(encoding="utf-8") for path in reference.FOLDER.glob("*.md")}
    wanted = reference.texts()
    assert written.keys() == wanted.keys()
    for name, text in wanted.items():
        assert written[name] == text, f"docs/reference/{name} is not what `make reference` writes"


def test_every_column_of_every_table_says_what_it_holds() -> None:
    """By its `doc=`, or by a name that means the same in every table."""
    assert tables.undescribed() == []
