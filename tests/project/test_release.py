"""What must not be released is refused; and the versions that pages, workflows and metadata name are the same."""

from __future__ import annotations

import re
import runpy
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project.test_readme import ROOT

RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / ".ci" / "release.py"))
Refusals = Callable[..., list[str]]

CHANGED = """# Changelog

## Unreleased

## 1.2.3 - 2026-12-01

### Added

- Something.

## 1.2.2 - 2026-11-01

- Before.
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that may be released as v1.2.3."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n', encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(CHANGED, encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    keep(tmp_path)
    return tmp_path


def git(tree: Path, *words: str) -> None:
    """Run git as nobody in particular."""
    nobody = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *nobody, *words], cwd=tree, check=True, capture_output=True)


def keep(tree: Path) -> None:
    """Commit everything, and put the tag there."""
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "one")
    git(tree, "tag", "--force", "--annotate", "v1.2.3", "--message", "1.2.3")


def against(tree: Path, tag: str = "v1.2.3") -> str:
    """Say what stands against a release."""
    return "\n".join(RELEASE["refusals"](tree, tag))


def test_a_tree_that_is_clean_tagged_and_described_is_released(tree: Path) -> None:
    """Nothing stands against it."""
    assert against(tree) == ""


def test_a_tree_that_is_not_clean_is_refused(tree: Path) -> None:
    """Also for a file that git has never seen."""
    (tree / "forgotten.py").touch()
    assert "the tree is not clean" in against(tree)


def test_a_tag_that_is_not_the_versions_is_refused(tree: Path) -> None:
    """Whether it is there or not."""
    git(tree, "tag", "v1.2.4")
    assert "the version in pyproject.toml '1.2.3'" in against(tree, "v1.2.4")


def test_a_tag_that_is_elsewhere_is_refused(tree: Path) -> None:
    """What is released is what the tag points at."""
    (tree / "more.py").touch()
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "two")
    assert "no tag 'v1.2.3' points at HEAD" in against(tree)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("## 1.2.3 - 2026-12-01", "## 1.2.1 - 2026-12-01", "has no section `## 1.2.3"),
        ("- Something.\n", "", "has no section `## 1.2.3"),
        ("## 1.2.3 - 2026-12-01", "## 1.2.3", "has no date"),
        ("## Unreleased\n", "## Unreleased\n\n- Not moved.\n", "under `## Unreleased`"),
    ],
)
def test_a_changelog_that_does_not_tell_is_refused(tree: Path, old: str, new: str, said: str) -> None:
    """No section, an empty one, one without a date, one beside which something is left over."""
    told = CHANGED.replace(old, new).replace("### Added\n\n" if new == "" else "\0", "")
    (tree / "CHANGELOG.md").write_text(told, encoding="utf-8")
    keep(tree)
    assert said in against(tree)


def test_a_version_in_development_is_refused(tree: Path) -> None:
    """What is between two releases is none."""
    (tree / "pyproject.toml").write_text('[project]\nversion = "1.2.3.dev0"\n', encoding="utf-8")
    keep(tree)
    assert "'1.2.3.dev0' is no version to release" in against(tree, "v1.2.3.dev0")


def test_notes_are_the_versions_section_alone() -> None:
    """Without its heading, without what comes after."""
    assert RELEASE["section"](CHANGED, "1.2.3") == "### Added\n\n- Something."
    assert RELEASE["section"](CHANGED, "1.2.4") is None


def test_the_pythons_are_the_same_wherever_they_are_named() -> None:
    """In the metadata, in CI's matrix, on the page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {each.removeprefix("Programming Language :: Python :: ") for each in project["classifiers"]}
    declared = {each for each in declared if re.fullmatch(r"3\.\d+", each)}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) == declared
    page = (ROOT / "docs" / "versioning.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| Python \| ([\d., ]+) \|", page, re.MULTILINE)
    assert set(row.split(", ")) == declared
    assert project["requires-python"] == f">={min(declared, key=lambda each: int(each[2:]))}"
