"""Mistakes of somebody's first hour: each is told at once, in a sentence that says what to write instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import pytest
from sqlalchemy import URL, Engine, create_engine, text

from projection_guard import (
    AsyncProjectionGuard,
    ConfigurationError,
    EventError,
    EventMapping,
    ProjectionGuard,
    RegistrationError,
    SqlEventSource,
    StoreUnavailable,
)
from projection_guard._io.blocking import unreachable


@dataclass(frozen=True)
class Opened:
    event_id: str
    stream_id: str


@runtime_checkable
class HasOwner(Protocol):
    owner: str


def handler(event: object, connection: object) -> None:
    """Do nothing."""


class Accounts:
    """Has its handler as a method."""

    def handle(self, event: object) -> None:
        """Do nothing."""


class Subscribed(Accounts):
    """Says by classes what it takes, as buses have it."""

    def subscribed_to(self) -> list[type]:
        """Return the classes."""
        return [Opened]


@pytest.fixture(params=[ProjectionGuard, AsyncProjectionGuard])
def guard(request: pytest.FixtureRequest) -> Any:
    """Return a guard of each kind, whose database nobody asks for anything."""
    return request.param("sqlite://", worker="external")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (handler, r'@guard.projection\("Name"\), not under the function handler'),
        ([Opened], "not under list"),
        ("", "1 to 255"),
    ],
)
def test_a_name_that_was_left_out_is_told(guard: Any, given: object, told: str) -> None:
    """`@guard.projection` without parentheses would register nothing, in silence."""
    with pytest.raises(RegistrationError, match=told):
        guard.projection(given)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"handles": Opened}, r"handles= takes a list, handles=\[Opened\]"),
        ({"handles": "Opened"}, r"handles= takes a list, handles=\['Opened'\]"),
        ({"retry": 3}, "retry= takes a RetryPolicy, not int"),
        ({"on_reset": lambda: None}, "on_reset takes one parameter, the connection; this one takes 0"),
        ({"on_reset_stream": lambda connection: None}, "on_reset_stream takes two parameters"),
    ],
)
def test_an_option_of_the_wrong_kind_is_told_when_it_is_registered(options: dict[str, Any], told: str) -> None:
    """Not by the first event, or the first failure."""
    guard = ProjectionGuard("sqlite://", worker="external")
    with pytest.raises(RegistrationError, match=told):
        guard.projection("Accounts", **options)(handler)


def test_a_method_without_its_object_is_refused() -> None:
    """It has two parameters, and would be called with an event for itself and the connection for an event."""
    guard = ProjectionGuard("sqlite://", worker="external")
    with pytest.raises(RegistrationError, match=r"a method that does not know its object yet.*guard.register\(obj\)"):
        guard.projection("Accounts")(Accounts.handle)
    guard.projection("Accounts")(Accounts().handle)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "None was given"),
        (Opened, "The class Opened was given for an event; give an instance"),
        ([Opened("1", "a")], r"A list was given .* publish_all\(events\)"),
        (iter([Opened("1", "a")]), r"A list_iterator was given .* publish_all\(events\)"),
        ({"title": "x"}, r"of class dict has no event_id; say where it is with EventMapping\(event_id=...\)"),
    ],
)
def test_what_is_no_event_is_told_as_such(given: object, told: str) -> None:
    """A mapping would not help there."""
    with pytest.raises(EventError, match=told):
        EventMapping().read(given)


def test_a_publishers_class_is_no_publisher(guard: Any) -> None:
    """Its `publish` would be called without an object."""

    class Bus:
        def publish(self, event: object) -> None:
            """Do nothing."""

    with pytest.raises(ConfigurationError, match="Bus is a class: make one of it"):
        guard.publisher(Bus)


def test_a_class_whose_publish_needs_no_object_is_a_publisher(guard: Any) -> None:
    """A namespace of class and static methods is no mistake."""

    class Bus:
        @classmethod
        def publish(cls, event: object) -> None:
            """Do nothing."""

    class Static:
        @staticmethod
        def publish(event: object) -> None:
            """Do nothing."""

    assert guard.publisher(Bus)
    assert guard.publisher(Static)


@pytest.fixture
def log_engine(tmp_path: Path) -> Iterator[Engine]:
    """A database with a log in which accounts are opened."""
    engine = create_engine(f"sqlite:///{tmp_path}/log.db")
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id text, event_type text,"
                " stream_id text)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO events (event_id, event_type, stream_id) VALUES"
                " ('1', 'Opened', 'a'), ('2', 'Closed', 'a'), ('3', 'Opened', 'b')"
            )
        )
    yield engine
    engine.dispose()


class OfDicts:
    """A source of somebody's own, which does not say what its events are."""

    def __init__(self, engine: Engine) -> None:
        self.read = SqlEventSource(engine, "events").read
        self.head = SqlEventSource(engine, "events").head


@pytest.mark.parametrize("handles", [[Opened], ["Other", Opened]])
def test_a_log_of_dicts_under_a_class_is_warned_of_once(
    log_engine: Engine, caplog: pytest.LogCaptureFixture, handles: list[Any]
) -> None:
    """A projection that handles a class passes over what is of that type by its name only."""
    with ProjectionGuard(log_engine, source=OfDicts(log_engine), worker="external") as guard:
        guard.migrate()
        guard.projection("Accounts", handles=handles)(handler)
        assert guard.catch_up("Accounts").applied == 0
    (record,) = [record for record in caplog.records if "passes over" in record.message]
    assert "that are of the class dict" in record.message
    assert "handles=['Opened']" in record.message


@pytest.mark.parametrize("handles", [[Opened], ["Closed", Opened]])
def test_a_class_of_which_the_log_makes_no_event_is_refused(log_engine: Engine, handles: list[Any]) -> None:
    """Rows without `decode=` are dicts: nothing would ever be applied, and the projection be well."""
    with ProjectionGuard(log_engine, source=SqlEventSource(log_engine, "events"), worker="external") as guard:
        with pytest.raises(RegistrationError, match=r"makes a dict of every event.*decode=.*handles=\['Opened'\]"):
            guard.projection("Accounts", handles=handles)(handler)
        with pytest.raises(RegistrationError, match="makes a dict of every event"):
            guard.register(Subscribed())


@pytest.mark.parametrize("handles", [None, ["Opened"], [dict], [Mapping], [object], [HasOwner]])
def test_a_class_that_rows_are_of_is_not(log_engine: Engine, handles: list[Any] | None) -> None:
    """Nor what names types, or a protocol, of which only an event itself can tell."""
    with ProjectionGuard(log_engine, source=SqlEventSource(log_engine, "events"), worker="external") as guard:
        guard.migrate()
        guard.projection("Accounts", handles=handles)(handler)
        assert guard.catch_up("Accounts").position == 3
    source = SqlEventSource(
        log_engine, "events", decode=lambda row: Opened(str(row["event_id"]), str(row["stream_id"]))
    )
    with ProjectionGuard(log_engine, source=source, worker="external") as guard:
        guard.projection("Others", handles=[Opened])(handler)


def test_why_a_database_is_out_of_reach_is_told(tmp_path: Path) -> None:
    """A folder that is not there, or a database's name that is wrong, will not come back by waiting."""
    guard = ProjectionGuard(f"sqlite:///{tmp_path}/missing/app.db", worker="external")
    with pytest.raises(StoreUnavailable, match=r"cannot be reached or is busy; .*\(unable to open database file\)"):
        guard.migrate()


def test_why_is_told_also_where_the_password_is_an_object() -> None:
    """SQLAlchemy takes one that becomes text by `str()`, such as a token that is fetched anew; it is left out, too."""

    class Token:
        def __str__(self) -> str:
            return "unable"

    engine = create_engine(URL.create("postgresql+psycopg", "app", cast("str", Token()), "nowhere"))
    told = unreachable(engine, OSError("unable to open"))
    assert told.endswith("(*** to open)")


@pytest.mark.parametrize("suite", ["source", "codec"])
def test_a_suite_without_pytest_names_the_extra(suite: str) -> None:
    """As every other module does whose library is missing."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        f"try: import projection_guard.testing.{suite}_conformance\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert f"{suite}_conformance needs pytest: pip install 'projection-guard[test]'" in done.stdout
