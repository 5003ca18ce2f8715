"""docs/errors.md names every error, with the builtin that it also is, and no other."""

from __future__ import annotations

import re

import pytest

from projection_guard import errors
from tests.project.test_readme import ROOT

pytestmark = pytest.mark.project
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)(?:\(\w+\))?` \| (?:`(\w+)` \|)?", re.MULTILINE)


def test_every_error_stands_on_the_page_and_no_other_does() -> None:
    """Each once, and the root in a sentence of its own."""
    named = [name for name, _ in ROW.findall(PAGE)]
    assert sorted(named) == sorted(set(errors.__all__) - {"ProjectionGuardError"})
    assert PAGE.rstrip().endswith("`ProjectionGuardError` is the root of all of them.")


def test_the_builtins_are_those_that_each_error_is() -> None:
    """As an `except` of the caller relies on it."""
    said = {name: builtin for name, builtin in ROW.findall(PAGE) if builtin}
    assert said
    for name, builtin in said.items():
        assert builtin in {base.__name__ for base in getattr(errors, name).__mro__}, name
    silent = set(errors.__all__) - said.keys()
    assert silent == {"ProjectionGuardError", "PermanentFailure", "RetryAfter"}
