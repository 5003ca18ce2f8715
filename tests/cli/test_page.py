"""docs/cli.md names every command, every option, every exit code and every value's fields, and no others."""

from __future__ import annotations

import re
from argparse import ArgumentParser, HelpFormatter
from dataclasses import fields

import pytest

from projection_guard._records import WorkerState
from projection_guard.cli._command import Command
from projection_guard.cli._commands import COMMANDS
from projection_guard.cli._exits import Exit
from tests.project.test_readme import ROOT, blocks

pytestmark = pytest.mark.project
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
HEADINGS = ("Looking", "Failures", "Projections", "Alerting", "Working", "Tables", "More")


def usage_of(command: Command) -> str:
    """Return how a command is called, without what all of them take."""
    parser = ArgumentParser(prog=f"projection-guard {command.words}", add_help=False)
    parser.formatter_class = lambda prog: HelpFormatter(prog, width=10_000)
    command.options(parser)
    return parser.format_usage().removeprefix("usage: ").strip()


def test_every_command_stands_on_the_page_with_its_options_and_no_other_does() -> None:
    """Line by line as the parser says it."""
    told = [
        " ".join(block.content).replace("projection-guard", "\nprojection-guard")
        for block in blocks(PAGE)
        if block.heading in HEADINGS and block.language == "text"
    ]
    lines = {" ".join(line.split()) for line in "".join(told).splitlines() if line}
    assert lines == {usage_of(command) for command in COMMANDS}


def test_every_exit_code_stands_on_the_page_and_no_other_does() -> None:
    """As a monitor is set up by it."""
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == {int(code) for code in Exit}


def test_every_commands_answer_stands_on_the_page() -> None:
    """In the table of JSON."""
    table = PAGE.partition("## JSON")[2].partition("## Looking")[0]
    said = set(re.findall(r"`([a-z ]+)`", table))
    for command in COMMANDS:
        group, _, word = command.words.partition(" ")
        assert command.words in said or {group, word} <= said, command.words


def test_the_fields_of_workers_stand_on_the_page() -> None:
    """They have no route that tells them."""
    sentence = PAGE.partition("`workers` have ")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", sentence) == [each.name for each in fields(WorkerState)]
