"""Everything that differs between the databases: column types, SQL functions, statements, error codes.

The rest of the package asks here which database it talks to, if it has to.
"""

from __future__ import annotations

from .clock import later, moved, seconds_between, statement_start, this_minute, utc_now
from .columns import BigIdentity, LongText, UtcDateTime, UuidKey
from .families import MYSQL, is_mysql, is_postgresql, is_sqlite
from .statements import (
    LIMITS,
    Bound,
    Changing,
    Condition,
    Insert,
    PerDialect,
    absent_last,
    deleted_among,
    is_among,
    total,
)
from .troubles import (
    TransactionState,
    Trouble,
    is_denied,
    is_duplicate_key,
    is_no_savepoint,
    is_refusal,
    transaction_state,
    trouble,
)

__all__ = [
    "LIMITS",
    "MYSQL",
    "BigIdentity",
    "Bound",
    "Changing",
    "Condition",
    "Insert",
    "LongText",
    "PerDialect",
    "TransactionState",
    "Trouble",
    "UtcDateTime",
    "UuidKey",
    "absent_last",
    "deleted_among",
    "is_among",
    "is_denied",
    "is_duplicate_key",
    "is_mysql",
    "is_no_savepoint",
    "is_postgresql",
    "is_refusal",
    "is_sqlite",
    "later",
    "moved",
    "seconds_between",
    "statement_start",
    "this_minute",
    "total",
    "transaction_state",
    "trouble",
    "utc_now",
]
