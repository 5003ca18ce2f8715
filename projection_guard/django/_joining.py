"""Lets a handler's ORM write in the guard's transaction: by the guard's own connection, for as long as the call lasts.

Meanwhile Django's connection of this thread and alias is another one, which stands in an atomic block: `atomic()` is a
savepoint, and what would end the transaction is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, NoReturn, ParamSpec

from django.db.transaction import Atomic
from sqlalchemy import Connection

from ..errors import ConfigurationError, ConnectionRefusedToHandler, RegistrationError
from ._connecting import alias_of, another, connections

__all__ = ["with_orm"]

P = ParamSpec("P")
_CONNECTION: Final = inspect.Parameter("connection", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Connection)
_SETTINGS: Final = {
    "AUTOCOMMIT": False,  # close_old_connections() leaves it alone
    "DISABLE_SERVER_SIDE_CURSORS": True,
    "CONN_MAX_AGE": None,
    "CONN_HEALTH_CHECKS": False,
}


def with_orm(handler: Callable[P, object]) -> Callable[..., None]:
    """Make a joined handler of one that writes by Django's ORM: `handler(event)`, a method of it, or an `on_reset`.

    Its writes are committed together with the record that the event was applied, or not at all. The guard has to be
    made on `projection_guard.django.engine()`. A handler that has a parameter `connection` is given it, too. Raises
    `RegistrationError` for an async one.
    """
    if inspect.iscoroutinefunction(handler):
        raise RegistrationError(
            "with_orm takes a plain function: Django's async ORM works in another thread, on a connection of its own, "
            "which no transaction of the guard's can take in"
        )
    signature = inspect.signature(handler)
    takes_it = "connection" in signature.parameters
    call: Callable[..., object] = handler

    @wraps(handler)
    def joined(*arguments: Any) -> None:
        (connection,) = [each for each in arguments if isinstance(each, Connection)]
        given = arguments if takes_it else [each for each in arguments if each is not connection]
        with _lent(connection):
            call(*given)

    described: Any = joined
    if not takes_it:
        described.__signature__ = signature.replace(parameters=[*signature.parameters.values(), _CONNECTION])
    return joined


@contextmanager
def _lent(connection: Connection) -> Generator[None]:
    alias = alias_of(connection)
    if alias is None:
        raise ConfigurationError(
            "with_orm needs a guard on Django's own database: ProjectionGuard(projection_guard.django.engine())"
        )
    its_own = connections[alias]
    lent = _wrapper(alias, connection.connection.driver_connection, its_own)
    connections[alias] = lent
    try:
        yield
    finally:
        connections[alias] = its_own
    if lent.needs_rollback or lent.closed_in_transaction:
        raise ConnectionRefusedToHandler(
            "The handler went on after an error in an atomic block had asked for a rollback; let the error through, or "
            "catch it outside of `with transaction.atomic():`"
        )


def _wrapper(alias: str, raw: Any, its_own: Any) -> Any:
    """Return a wrapper of Django's around the guard's connection, in the state in which it is inside atomic()."""
    lent = another(alias, **_SETTINGS)
    lent.connection = _OnPostgreSQL(raw, lent.get_connection_params()) if lent.vendor == "postgresql" else _Lent(raw)
    lent.autocommit = False
    lent.in_atomic_block = True
    lent.atomic_blocks = [
        Atomic(alias, savepoint=True, durable=False)
    ]  # atomic(durable=True) looks whether one is there
    lent.execute_wrappers = its_own.execute_wrappers
    lent.queries_log = its_own.queries_log
    lent.force_debug_cursor = its_own.force_debug_cursor
    lent.on_commit = _no_callback
    return lent


def _no_callback(*_: object, **__: object) -> NoReturn:
    raise ConnectionRefusedToHandler(
        "transaction.on_commit() is refused in a handler: the guard commits later, perhaps with other events. What has "
        "to happen after the commit is a projection of its own, apart: a handler(event) without with_orm"
    )


class _Lent:
    """The guard's connection, as it is lent: whoever has it cannot end its transaction."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def commit(self) -> NoReturn:
        """Refuse it."""
        _refuse("commit")

    def rollback(self) -> NoReturn:
        """Refuse it."""
        _refuse("roll back")

    def close(self) -> NoReturn:
        """Refuse it."""
        _refuse("close")


class _OnPostgreSQL(_Lent):
    """Makes cursors as Django's own connections do: of its class, with its adapters. SQLAlchemy's are not touched."""

    def __init__(self, raw: Any, parameters: dict[str, Any]) -> None:
        super().__init__(raw)
        self._make = parameters["cursor_factory"]
        self.adapters = parameters["context"]

    def cursor(self) -> Any:
        """Return a cursor; it takes the adapters that the connection has at that moment."""
        raw = self._raw
        kept, raw._adapters = raw._adapters, self.adapters
        try:
            return self._make(raw)
        finally:
            raw._adapters = kept


def _refuse(what: str) -> NoReturn:
    raise ConnectionRefusedToHandler(
        f"A handler must not {what} the guard's connection, by Django either: its writes are committed together with "
        "the record that the event was applied. For steps of your own use transaction.atomic()"
    )
