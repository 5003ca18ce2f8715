"""What may be told of an error, and how a line of the log stays one line.

The values that an error quotes are an event's or the read model's: SQLAlchemy's text carries a statement's parameters,
PostgreSQL's DETAIL the whole row, Pydantic's the input. What is left names the constraint, the column or the field.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from sqlalchemy.exc import StatementError

from ._policy import in_group

__all__ = ["OneLine", "type_name", "without_values", "words_of"]

_WRONG_VALUE: Final = "22"
"""The class of SQLSTATE in which the message itself quotes a value."""
_QUOTE: Final = r"[\"'\u00ab\u00bb\u201e\u201c\u201d\u2018\u2019]"  # servers speak many languages
_QUOTED: Final = re.compile(f"{_QUOTE}.*{_QUOTE}", re.DOTALL)
_MORE: Final = re.compile(r"\n(?:DETAIL|HINT|CONTEXT|LINE \d+|QUERY|STATEMENT):.*", re.DOTALL)
_MOST_FIELDS: Final = 20
_MOST_PARTS: Final = 20
_TELLS_INPUT: Final = "union_tag_invalid"
"""The one of Pydantic's own reasons that quotes what it was given."""


def _original_of(error: BaseException) -> BaseException:
    """Return the driver's own error where SQLAlchemy has wrapped it."""
    return error.orig if isinstance(error, StatementError) and error.orig is not None else error


def type_name(error: BaseException) -> str:
    """Name an error's class, as failures show it."""
    kind = type(_original_of(error))
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def words_of(error: BaseException) -> str:
    """Return what an error says, without values where it is known how it quotes them. Never raises."""
    original = _original_of(error)
    try:
        if isinstance(original, StatementError):
            return str(original.args[0]) if original.args else ""
        state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
        if isinstance(state, str):
            return _of_the_database(original, state)
        if type(original).__module__.startswith("pydantic_core"):
            return _of_pydantic(original)
        return f"{original}{_of_parts(original)}"
    except Exception as refused:
        return f"<the exception has no text: its __str__ raised {type(refused).__name__}>"


def _of_the_database(error: BaseException, state: str) -> str:
    """Return the message alone, by its field where the driver has one."""
    primary: object = getattr(getattr(error, "diag", None), "message_primary", None)
    words = primary if isinstance(primary, str) else _MORE.sub("", str(error))
    return _QUOTED.sub("(a value)", words) if state.startswith(_WRONG_VALUE) else words


def _of_pydantic(error: Any) -> str:
    if not hasattr(error, "errors"):
        return str(error)
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, each['loc']))}: {_reason(each)} ({each['type']})" for each in found[:_MOST_FIELDS]]
    return f"{error.title}: {'; '.join(told)}"


def _of_parts(error: BaseException) -> str:
    """Tell of what a group is made, however deep, of which its own text says only how many they are."""
    told: list[str] = []
    waiting = list(reversed(in_group(error)))
    while waiting and len(told) < _MOST_PARTS:
        part = waiting.pop()
        inner = in_group(part)
        waiting.extend(reversed(inner))
        if not inner:
            told.append(f"\n[{type_name(part)}: {words_of(part)}]")
    return "".join(told) + ("\n[...]" if waiting else "")


def _reason(found: Any) -> str:
    reason = str(found["msg"])
    return _QUOTED.sub("(a value)", reason) if found["type"] == _TELLS_INPUT else reason


class _WithoutValues(Exception):
    """Stands in a log for an error, under its name: its type, and where it came through."""


def without_values(error: BaseException) -> BaseException:
    """Return what may be logged as `exc_info` in an error's place: its class's name and its frames, not what it says.

    Nor are causes told: they say something too.
    """
    kind = type(_original_of(error))
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    stands_for_it: type[_WithoutValues] = type(kind.__name__, (_WithoutValues,), names)
    return stands_for_it().with_traceback(error.__traceback__)


class OneLine(logging.Filter):
    """Keeps what is told in a log line within it: names, ids and errors come from events, and may hold line ends.

    What cannot be printed is escaped, a terminal's commands and marks that turn the direction of writing too.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape what a record is told with."""
        if isinstance(record.args, tuple):
            record.args = tuple(each if isinstance(each, (int, float)) else _printable(each) for each in record.args)
        return True


def _printable(told: object) -> str:
    try:
        text = str(told)
    except Exception:
        return f"<a {type(told).__name__} without text>"
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
