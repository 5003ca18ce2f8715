"""From the commands to a parser. Its refusals are one sentence; what every command takes may stand before it, too."""

from __future__ import annotations

import argparse
import getpass
import math
import re
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Final, NoReturn, Protocol

from .._model import FailureFilter
from ._command import Command
from ._exits import WrongUsage
from ._finding import APP, DATABASE, SCHEMA

__all__ = [
    "actor_of",
    "add_actor",
    "add_filters",
    "add_note",
    "add_pages",
    "add_yes",
    "filter_of",
    "moment",
    "parsed",
    "parser_of",
    "seconds",
]

_ABOUT: Final = """\
Look at projections and act on them: what failed, what waits, what to do about it.

The guard is found as --app module:attribute (a guard, or a function that returns one; the current folder is looked at
first), or there is only a --database, for what needs no handlers.
"""
_ENDS: Final = """\
exit codes: 0 fine; 1 refused or failed; 2 wrong usage; 3 the database cannot be reached; 4 the guard's tables are
missing or of another version; 5 no such projection, failure or job; status and health: 10 degraded, 11 critical,
12 offline; verify: 13 drifted; 130 Ctrl-C; 141 nobody reads the output
"""
_GROUPS: Final = {
    "db": "the guard's tables: make, upgrade, check",
    "failures": "what failed: look, try again, skip",
    "bulk": "actions on many failures: how far they have come",
    "replays": "replays, rebuilds and verifications: how far they have come",
    "alerts": "what people are told: look, send a test",
}
_DEFAULTS: Final = {"app": None, "database": None, "schema": None, "json": False, "traceback": False}
_AGO: Final = re.compile(r"(\d{1,6})([smhd])")
_LONGEST_WAIT_SECONDS: Final = 86_400
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _Words(Protocol):
    """Words of which one has to be said; argparse's own class for them is private."""

    def add_parser(self, name: str, **options: Any) -> ArgumentParser: ...


class _Parser(ArgumentParser):
    """A parser that raises `WrongUsage` and does not end the program."""

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(f"{message} ({self.prog} --help shows what there is)")


def parser_of(commands: Sequence[Command]) -> ArgumentParser:
    """Return the parser of these commands."""
    parser = _Parser(
        prog="projection-guard",
        description=_ABOUT,
        epilog=_ENDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common(is_for_guard=True)],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"projection-guard {version('projection-guard')}")
    tops = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    groups: dict[str, _Words] = {}
    for command in commands:
        group, _, name = command.words.rpartition(" ")
        if group and group not in groups:
            made = tops.add_parser(
                group, help=_GROUPS[group], description=_sentence(_GROUPS[group]), allow_abbrev=False
            )
            groups[group] = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
        _add(groups[group] if group else tops, name, command)
    return parser


def _add(where: _Words, name: str, command: Command) -> None:
    parser = where.add_parser(
        name,
        help=command.help,
        description=_sentence(command.help),
        parents=[_common(is_for_guard=command.has_guard)],
        allow_abbrev=False,
    )
    command.options(parser)
    parser.set_defaults(run=command.run, command=command.words)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _common(*, is_for_guard: bool) -> ArgumentParser:
    """Return the options that every command has. Left out, they say nothing: they may stand before the command, too."""
    common = ArgumentParser(add_help=False, argument_default=SUPPRESS, allow_abbrev=False)
    if is_for_guard:
        group = common.add_argument_group("the guard")
        group.add_argument("--app", metavar="MODULE:ATTRIBUTE", help=f"a guard, or what returns one (or {APP})")
        group.add_argument("--database", metavar="URL", help=f"a database instead of an application (or {DATABASE})")
        group.add_argument("--schema", metavar="NAME", help=f"where its tables are; with --database (or {SCHEMA})")
    group = common.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="answer in JSON, refusals on standard error too")
    group.add_argument("--traceback", action="store_true", help="show where an error came from")
    return common


def parsed(parser: ArgumentParser, words: Sequence[str] | None) -> Namespace:
    """Read a command line. Raises `WrongUsage`."""
    options = parser.parse_args(words)
    for name, value in _DEFAULTS.items():
        if not hasattr(options, name):
            setattr(options, name, value)
    return options


# -- what several commands take


def add_pages(parser: ArgumentParser) -> None:
    """Let a list be read page by page."""
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many, 1 to 1000 (100)")
    parser.add_argument("--after", metavar="CURSOR", help="what follows a page: its `after`")


def add_filters(parser: ArgumentParser, *, with_resolved: bool) -> None:
    """Say which failures are meant."""
    group = parser.add_argument_group("which failures")
    group.add_argument("--projection", metavar="NAME", help="those of one projection")
    group.add_argument("--error-type", metavar="TYPE", help="such as builtins' ValueError, or psycopg.errors.Deadlock")
    group.add_argument("--fingerprint", metavar="HASH", help="those that are alike: `failures groups` tells it")
    group.add_argument("--event-type", metavar="TYPE", help="those of one type of event")
    group.add_argument("--stream", metavar="ID", help="those of one stream")
    states = ("scheduled", "exhausted", "parked", *(("resolved",) if with_resolved else ()))
    group.add_argument("--state", choices=states, help="without it: all that are unresolved")
    group.add_argument(
        "--from", dest="failed_from", type=moment, metavar="TIME", help="failed then or later: see --until"
    )
    group.add_argument(
        "--until",
        dest="failed_until",
        type=moment,
        metavar="TIME",
        help="failed before: 2026-01-31T12:00Z, or 2h (ago)",
    )


def filter_of(options: Namespace) -> FailureFilter:
    """Return which failures are meant. Raises `InvalidArgument`."""
    return FailureFilter(
        projection_name=options.projection,
        error_type=options.error_type,
        fingerprint=options.fingerprint,
        event_type=options.event_type,
        stream_id=options.stream,
        state=options.state,
        failed_from=options.failed_from,
        failed_until=options.failed_until,
    )


def moment(text: str) -> datetime:
    """Read a time: ISO 8601 with a zone, or how long ago, such as 30m, 2h or 7d."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):  # there was no year -712
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 2026-01-31T12:00Z, or 30m, 2h, 7d (ago)") from None
    if found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} does not say in which zone: append Z, or +02:00")
    return found


def seconds(text: str) -> float:
    """Read how long to wait: a number of seconds above 0, at most a day."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found <= _LONGEST_WAIT_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0, at most a day")
    return found


def add_actor(parser: ArgumentParser) -> None:
    """Say who acts: every action is written down with a name."""
    help_text = "who does this, for the audit log (default: your user's name on this system)"
    parser.add_argument("--actor", metavar="NAME", help=help_text)


def add_note(parser: ArgumentParser) -> None:
    """Say why."""
    parser.add_argument("--note", metavar="TEXT", help="why, for the audit log")


def add_yes(parser: ArgumentParser) -> None:
    """Answer beforehand."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def actor_of(options: Namespace) -> str:
    """Return who acts."""
    if options.actor is not None:
        return str(options.actor)
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        raise WrongUsage("Your user has no name on this system; say --actor NAME") from None
