"""Wrong use, and a database that is away: one sentence, the documented exit code, and never a password."""

from __future__ import annotations

import json
import sqlite3
from io import StringIO
from pathlib import Path

import pytest

from projection_guard.cli._screen import Screen
from projection_guard.cli._secrets import Hidden
from tests.cli import shop
from tests.cli.conftest import Place
from tests.cli.shell import Shell, Spawner

NOWHERE = "postgresql://shop:hunter2secret@127.0.0.1:1/shop"
NO_ID = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def lonely(spawner: Spawner, tmp_path: Path) -> Shell:
    """A shell without any database."""
    return Shell(spawner, tmp_path, kind="blocking", url=f"sqlite:///{tmp_path / 'none.db'}")


def refused(shell: Shell, *words: str, code: int) -> str:
    """Run a command that is refused, for people and for programs; return the sentence."""
    told = shell.run(*words, code=code)
    assert told.out == ""
    assert told.err.startswith("projection-guard: ")
    assert told.err.count("\n") == 1, told.err
    as_json = shell.run(*words, "--json", code=code).refusal
    assert as_json["exit_code"] == code
    assert "hunter2secret" not in told.err + as_json["detail"]
    return told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "arguments are required: COMMAND"),
        (("stats",), "invalid choice: 'stats'"),
        (("status",), "Which guard? Give --app module:attribute"),
        (("status", "--app", "nothing"), "--app takes module:attribute"),
        (("status", "--app", "no.such.module:guard"), "there is no module 'no'"),
        (("status", "--app", "tests.cli.shop:gard"), "the module tests.cli.shop has no attribute 'gard'"),
        (("status", "--app", "tests.cli.shop:Inner.Shallow"), "has no attribute 'Shallow'"),
        (("status", "--app", "tests.cli.shop:NotAGuard"), "is a NotAGuard, no ProjectionGuard"),
        (("status", "--app", "a:b", "--database", NOWHERE), "give either --app or --database"),
        (("status", "--app", "a:b", "--schema", "guard"), "--schema goes with --database"),
        (("status", "--databse", NOWHERE), "unrecognized arguments"),
        (("failures", "list", "--until", "2026-01-01T00:00"), "does not say in which zone"),
        (("failures", "list", "--until", "soon"), "'soon' is no time"),
        (("failures", "list", "--until", "999999d"), "'999999d' is no time"),
        (("status", "--watch", "nan"), "'nan' is no number of seconds"),
        (("status", "--watch", "inf"), "'inf' is no number of seconds"),
        (("status", "--watch", "0"), "'0' is no number of seconds"),
    ],
)
def test_wrong_usage_ends_with_2(lonely: Shell, words: tuple[str, ...], said: str) -> None:
    """What cannot be meant is said in one sentence."""
    assert said in refused(lonely, *words, code=2)


def test_a_module_that_raises_is_told_with_where_and_without_its_password(lonely: Shell) -> None:
    """Exit code 1: the command line was fine."""
    said = refused(lonely, "status", "--app", "tests.cli.raising:guard", code=1)
    assert "importing tests.cli.raising raised RuntimeError: could not connect to postgresql://shop:***@db/shop" in said
    assert "raising.py, line 3" in said


def test_a_database_that_cannot_be_reached_ends_with_3(lonely: Shell) -> None:
    """A server that is away; a file that is not there, which is not made either."""
    assert "Connection refused" in refused(lonely, "status", "--database", NOWHERE, code=3)
    told = lonely.run("doctor", "--database", NOWHERE, "--json", code=3)
    assert (told.json["verdict"], told.json["findings"][0]["check"]) == ("problem", "connection")
    assert "hunter2secret" not in told.out + lonely.run("doctor", "--database", NOWHERE, "--traceback", code=3).out
    traced = lonely.run("status", "--database", NOWHERE, "--traceback", code=3).err
    assert "Traceback" in traced
    assert "hunter2secret" not in traced
    assert "There is no SQLite file" in refused(lonely, "status", "--database", "sqlite:///typo.db", code=3)
    assert not (lonely.folder / "typo.db").exists()
    (lonely.folder / "none.txt").write_text("no database " * 500)
    refused(lonely, "status", "--database", f"sqlite:///{lonely.folder / 'none.txt'}", code=3)


def test_tables_that_are_missing_or_older_end_with_4_until_they_are_upgraded(lonely: Shell) -> None:
    """`db check` says it beforehand; `db upgrade` mends it, as often as one likes."""
    url = f"sqlite:///{lonely.folder / 'empty.db'}"
    sqlite3.connect(lonely.folder / "empty.db").close()
    assert "not in the database" in refused(lonely, "status", "--database", url, code=4)
    refused(lonely, "db", "check", "--database", url, code=4)
    assert lonely.run("doctor", "--database", url, "--json", code=4).json["findings"][-1]["check"] == "schema"
    for _ in range(2):
        told = lonely.run("db", "upgrade", "--database", url, "--json").json
        assert told["is_newest"]
    assert lonely.run("db", "check", "--database", url).out.startswith("The guard's tables are at projection_guard_")
    assert "nothing to adopt" in refused(lonely, "db", "adopt", "--database", url, code=4)
    assert lonely.run("status", "--database", url).out.startswith("No projection is on record")
    lonely.run("db", "upgrade", "--database", f"sqlite:///{lonely.folder / 'new.db'}")
    with sqlite3.connect(lonely.folder / "new.db") as connection:
        connection.execute("DELETE FROM projection_guard_alembic_version")
    connection.close()
    lonely.run("db", "adopt", "--database", f"sqlite:///{lonely.folder / 'new.db'}")


def test_what_does_not_exist_ends_with_5(place: Place) -> None:
    """A projection, a failure, a replay, a bulk action; an id that is none."""
    place.publish(shop.event("A", 1))
    database = ("--database", place.shell.url)
    assert "No projection is named 'Odrers'; on record are: 'Mails', 'Orders'" in refused(
        place.shell, "health", "Odrers", *database, code=5
    )
    for words in (
        ("failures", "show", NO_ID),
        ("failures", "skip", "not-an-id"),
        ("failures", "list", "--projection", "Odrers"),
        ("replays", "show", NO_ID),
        ("replays", "cancel", NO_ID),
        ("bulk", "show", NO_ID),
        ("pause", "Odrers"),
    ):
        refused(place.shell, *words, *database, code=5)
    assert "has no record of it yet" in refused(
        place.shell, "health", "Newcomer", "--app", "tests.cli.shop:lone", code=5
    )
    assert "out of bounds" not in refused(place.shell, "failures", "list", "--limit", "0", *database, code=2)
    assert "Give the ID of one failure" in refused(place.shell, "failures", "skip", *database, code=2)


def test_the_guard_may_stand_deep_in_a_class_and_be_told_by_the_environment(place: Place) -> None:
    """What is said on the command line goes first; what every command takes may stand before it."""
    shell = place.shell
    place.publish(shop.event("A", 1))
    shell.run("--app", "tests.cli.shop:Inner.Deep.make", "status")
    assert shell.run("status", "--json", PROJECTION_GUARD_APP="tests.cli.shop:guard").json["projections"]
    told = shell.run("--json", "status", PROJECTION_GUARD_DATABASE_URL=shell.url).json
    assert told["projections"][0]["detached"] is None
    shell.run("status", "--database", shell.url, PROJECTION_GUARD_APP="no.such:thing")
    assert "no module 'no'" in shell.run("status", code=2, PROJECTION_GUARD_APP="no.such:thing").err
    assert shell.run("--version").out.startswith("projection-guard ")
    assert "exit codes: 0 fine" in shell.run("--help").out


def test_sql_and_completion_need_no_guard(lonely: Shell) -> None:
    """What is written is only that."""
    assert lonely.run("db", "sql", "--schema", "guard").out.startswith("BEGIN")
    assert "CREATE TABLE" in lonely.run("db", "sql", "--dialect", "sqlite", "--json").json["sql"]
    for shell in ("bash", "zsh", "tcsh"):
        script = lonely.run("completion", shell).out
        assert "failures" in script
        assert lonely.run("completion", shell, "--json").json["script"].rstrip("\n") == script.rstrip("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://u:p@ss:w@h/db is away", "postgresql+psycopg://u:***@h/db is away"),
        ("host=h password=abc dbname=d", "host=h password=*** dbname=d"),
        ("?user=u&password=a%20b&x=1", "?user=u&password=***&x=1"),
        ("password='a b' x", "password=*** x"),
        ("the word hunter2secret alone", "the word *** alone"),
        ("hunter2secret2 and hunter2secrets", "hunter2secret2 and hunter2secrets"),
        ("a mail to ada@example.com: nothing", "a mail to ada@example.com: nothing"),
        ("https://example.com/a:b@c stays", "https://example.com/a:b@c stays"),
    ],
)
def test_passwords_are_left_out_of_every_text(text: str, shown: str) -> None:
    """By where they stand, and by what they are."""
    hidden = Hidden()
    hidden.add("hunter2secret")
    hidden.add(None)
    hidden.add("x")
    assert hidden.out_of(text) == shown


def test_json_has_no_passwords_either() -> None:
    """A failure's message may quote a connection; numbers, names and nothing else stay as they are."""
    screen = Screen(is_json=True, hidden=Hidden(), out=StringIO())
    told = {"items": [{"error_message": "no postgresql://u:hunter2secret@h/db", "retry_count": 1, "stream_id": None}]}
    screen.answer(told, lambda: None)
    assert isinstance(screen.out, StringIO)
    assert json.loads(screen.out.getvalue()) == {
        "items": [{"error_message": "no postgresql://u:***@h/db", "retry_count": 1, "stream_id": None}]
    }
