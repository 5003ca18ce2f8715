"""What is told of an error holds none of the values that it quotes, and a line of the log stays one line."""

from __future__ import annotations

import io
import logging
import traceback
from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Connection, DateTime, bindparam, create_engine, select, text
from sqlalchemy.exc import StatementError

from projection_guard._wording import OneLine, type_name, without_values, words_of

CANARY = "canary-4711"


def _raised(connection: Connection, statement: str, value: object) -> Exception:
    with pytest.raises(Exception) as caught, connection.begin_nested():  # noqa: PT011  # any, each says another
        connection.execute(text(statement), {"v": value})
    return caught.value


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("INSERT INTO t (name) VALUES (:v), (:v)", "unique constraint"),
        ("INSERT INTO t (name, must) VALUES (:v, NULL)", "not-null constraint"),
        ("INSERT INTO t (name, n) VALUES (:v, 0)", "check constraint"),
        ("SELECT CAST(CAST(:v AS text) AS integer)", "invalid input syntax for type integer: (a value)"),
        ("SELECT CAST(CAST(:v AS text) AS json)", "invalid input syntax for type json"),
        ("SELECT CAST('\"' || CAST(:v AS text) || '\"' AS date)", "invalid input syntax for type date: (a value)"),
    ],
)
def test_what_postgresql_refuses_is_told_without_the_row(postgres_url: str, statement: str, says: str) -> None:
    """The constraint or the type is named; DETAIL, with the key or the whole row, is left out."""
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        connection.execute(
            text("CREATE TEMP TABLE t (name text UNIQUE, must text NOT NULL DEFAULT '', n int DEFAULT 1 CHECK (n > 0))")
        )
        error = _raised(connection, statement, CANARY)
    engine.dispose()
    assert CANARY in str(error)
    assert CANARY not in words_of(error)
    assert says in words_of(error)


def test_a_statement_that_never_reached_the_driver_is_told_without_its_parameters() -> None:
    """SQLAlchemy wraps what a column's type says of a value, and quotes all parameters."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(StatementError) as caught:
        connection.execute(select(bindparam("v", type_=DateTime)), {"v": CANARY})
    engine.dispose()
    assert CANARY in str(caught.value)
    assert CANARY not in words_of(caught.value)
    assert type_name(caught.value) == "TypeError"


def test_an_event_that_pydantic_refuses_is_told_without_its_input() -> None:
    """The field and the reason are told."""

    class Model(BaseModel):
        amount: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"amount": CANARY})
    assert CANARY in str(caught.value)
    told = words_of(caught.value)
    assert CANARY not in told
    assert told.startswith("Model: amount: Input should be a valid integer")


def test_a_tag_that_pydantic_does_not_know_is_not_told() -> None:
    """Of all its own reasons this one quotes the input."""

    class Card(BaseModel):
        kind: Literal["card"]

    class Cash(BaseModel):
        kind: Literal["cash"]

    class Paid(BaseModel):
        by: Card | Cash = Field(discriminator="kind")

    with pytest.raises(ValidationError) as caught:
        Paid.model_validate({"by": {"kind": f"'{CANARY}"}})
    told = words_of(caught.value)
    assert CANARY not in told
    assert told == "Paid: by: Input tag (a value) (union_tag_invalid)"


def test_what_is_logged_of_an_error_are_its_frames() -> None:
    """Neither its text nor that of its causes."""

    def fails() -> None:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise ValueError(CANARY) from error

    with pytest.raises(ValueError, match=CANARY) as caught:
        fails()
    told = "".join(traceback.format_exception(without_values(caught.value)))
    assert CANARY not in told
    assert "in fails" in told
    assert "ValueError" in told


def test_a_line_of_the_log_stays_one_line() -> None:
    """Names and errors from outside can neither begin another line, nor command a terminal, nor turn the writing."""
    out = io.StringIO()
    log = logging.Logger("one line")  # noqa: LOG001  # one of its own
    log.addHandler(logging.StreamHandler(out))
    log.addFilter(OneLine())
    log.warning("%s: %d of %s", "P\r\nERROR forged\x1b[2J", 3, ValueError("a\u2028b\u202ec"))
    assert out.getvalue() == "P\\r\\nERROR forged\\x1b[2J: 3 of a\\u2028b\\u202ec\n"


def test_what_has_no_text_does_not_make_logging_raise() -> None:
    """Whoever writes a line of the log never meets an error for it."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    record = logging.LogRecord("one line", logging.WARNING, __file__, 1, "met %s", (Silent(),), None)
    assert OneLine().filter(record)
    assert record.getMessage() == "met <a Silent without text>"


def test_the_librarys_own_logger_keeps_to_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The filter is on it."""
    logging.getLogger("projection_guard").warning("%s", "a\nb")
    assert caplog.messages == ["a\\nb"]
