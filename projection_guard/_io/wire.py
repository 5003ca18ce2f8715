"""Statements sent to PostgreSQL in one packet and answered in one: libpq's pipeline mode, driven by ourselves.

psycopg's own `pipeline()` flushes after each statement, so that each wakes the server; here they go out together, BEGIN
with them, which is why READ COMMITTED costs nothing whatever the host's engine says. `Connection.wait` of psycopg runs
the generator, blocking or async. Rows come back as text and are read here: the hot path knows int, bool and text only.
"""

from __future__ import annotations

from collections.abc import Generator, MutableMapping, Sequence
from typing import Any, Final
from uuid import uuid4

from psycopg import pq
from psycopg.errors import DataError, error_from_result
from psycopg.waiting import Ready, Wait

from .._dialect import Bound
from . import pooling

__all__ = ["exchange"]

Names = MutableMapping[str, bytes]
Answers = list[tuple[object, ...]]
_BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_NAMES: Final = "projection_guard.prepared_statements"
_INTEGERS: Final = frozenset({20, 21, 23})
_BOOL: Final = 16


def exchange(
    driver: Any, info: dict[Any, Any], statements: Sequence[Bound], *, begins: bool
) -> Generator[Wait, Ready, list[Answers]]:
    """Send statements on a connection of psycopg's and return each one's rows, the first error after all answers.

    `begins` opens a transaction if none is open; `info` lives as long as the connection. A rollback of psycopg's may
    deallocate what is prepared: then the names are forgotten, and the caller does the transaction again (SQLSTATE 26000
    is a reason to). Left in the middle, the connection is closed: nobody could tell whose the next answer is.
    """
    encoding = driver.info.encoding
    if pooling.is_to_be_asked(driver, info):
        (((process,),),) = yield from _exchange(driver.pgconn, [pooling.WHO], None, begins=False, encoding=encoding)
        pooling.note_who_answered(driver, info, process)
    names: Names | None = None if driver.prepare_threshold is None else info.setdefault(_NAMES, {})
    return (yield from _exchange(driver.pgconn, statements, names, begins=begins, encoding=encoding))


def _exchange(
    pgconn: Any, statements: Sequence[Bound], names: Names | None, *, begins: bool, encoding: str
) -> Generator[Wait, Ready, list[Answers]]:
    texts = [[_text(value, encoding) for value in statement.parameters or ()] for statement in statements]
    pgconn.enter_pipeline_mode()
    try:
        wanted = _send(pgconn, statements, texts, names, begins=begins)
        answers = yield from _receive(pgconn)
    except BaseException:
        pgconn.finish()
        raise
    pgconn.exit_pipeline_mode()
    for answer in answers:
        if answer.status == pq.ExecStatus.FATAL_ERROR:
            error = error_from_result(answer, encoding=encoding)
            if names is not None and error.sqlstate == "26000":
                names.clear()
            raise error
    return [_rows(answer, encoding) for answer, is_wanted in zip(answers, wanted, strict=True) if is_wanted]


def _send(
    pgconn: Any,
    statements: Sequence[Bound],
    texts: Sequence[list[bytes | None]],
    names: Names | None,
    *,
    begins: bool,
) -> list[bool]:
    """Queue everything; return for each command whether its answer is one of the statements'."""
    wanted: list[bool] = []
    if begins and pgconn.transaction_status == pq.TransactionStatus.IDLE:
        pgconn.send_query_params(_BEGIN, None)
        wanted.append(False)
    for statement, values in zip(statements, texts, strict=True):
        if names is None or not values:
            pgconn.send_query_params(statement.sql.encode(), values or None)
        else:
            name = names.get(statement.sql)
            if name is None:
                name = names[statement.sql] = b"projection_guard_" + uuid4().hex.encode()  # nobody else's, anywhere
                pgconn.send_prepare(name, statement.sql.encode())
                wanted.append(False)
            pgconn.send_query_prepared(name, values)
        wanted.append(True)
    pgconn.pipeline_sync()
    return wanted


def _receive(pgconn: Any) -> Generator[Wait, Ready, list[Any]]:
    while pgconn.flush():
        ready: Ready | None = yield Wait.RW  # None when psycopg takes up the generator again to cancel it
        if ready and ready & Ready.R:
            pgconn.consume_input()
    answers: list[Any] = []
    while True:
        while pgconn.is_busy():
            while not (yield Wait.R):
                pass
            pgconn.consume_input()
        answer = pgconn.get_result()
        if answer is None:
            continue
        if answer.status == pq.ExecStatus.PIPELINE_SYNC:
            return answers
        answers.append(answer)


def _text(value: object, encoding: str) -> bytes | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    if "\0" in text:
        raise DataError("PostgreSQL's text takes no NUL character")
    return text.encode(encoding)


def _rows(answer: Any, encoding: str) -> list[tuple[object, ...]]:
    kinds = [answer.ftype(column) for column in range(answer.nfields)]
    return [
        tuple(_value(kind, answer.get_value(row, column), encoding) for column, kind in enumerate(kinds))
        for row in range(answer.ntuples)
    ]


def _value(kind: int, text: bytes | None, encoding: str) -> object:
    if text is None:
        return None
    if kind in _INTEGERS:
        return int(text)
    return text == b"t" if kind == _BOOL else text.decode(encoding)
