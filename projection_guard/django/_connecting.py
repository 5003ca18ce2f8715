"""An engine on one of Django's databases: its place, its name and its password are looked up whenever one connects."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Final

from django.db import connections as django_connections
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from ..errors import ConfigurationError

__all__ = ["alias_of", "another", "connections", "engine"]

connections: Any = django_connections  # Django has no type hints

_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+pysqlite"}
_DJANGOS_OWN: Final = ("context", "cursor_factory")
_PATIENT: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_ALIAS: Final = "projection_guard_django_alias"


def engine(alias: str = "default") -> Engine:
    """Return the engine on a database of Django's settings, always the same one: PostgreSQL by psycopg 3, or SQLite.

    It has a pool of its own. The settings are read when it connects, so that under Django's test runner it is the test
    database that is connected to. Raises `ConfigurationError`.
    """
    return _engine(alias)


@cache
def _engine(alias: str) -> Engine:
    wrapper = connections[alias]
    drivername = _DRIVERS.get(wrapper.vendor)
    if drivername is None:
        raise ConfigurationError(
            f"projection_guard does not work with DATABASES[{alias!r}], whose vendor is {wrapper.vendor!r}: "
            f"name one that is PostgreSQL or SQLite"
        )
    if wrapper.vendor == "sqlite" and wrapper.is_in_memory_db():
        raise ConfigurationError(
            f"DATABASES[{alias!r}] is in memory, where no second connection can see it; for tests, give the database "
            "a file: 'TEST': {'NAME': BASE_DIR / 'test.sqlite3'}"
        )
    settings = wrapper.settings_dict
    url = URL.create(
        drivername,
        host=settings["HOST"] or None,
        port=int(settings["PORT"]) if settings["PORT"] else None,
        database=str(settings["NAME"]),
    )
    made = create_engine(url, poolclass=QueuePool)
    made.update_execution_options(**{_ALIAS: alias})
    if wrapper.vendor == "sqlite":
        event.listen(made, "do_connect", partial(_connected_to_sqlite, alias))
    else:
        event.listen(made, "do_connect", partial(_fill_in, alias))
        event.listen(made.pool, "connect", partial(_configure, alias))
    return made


def alias_of(connection: Connection) -> str | None:
    """Return which of Django's databases a connection is to; None where its engine is none of `engine()`'s."""
    found: str | None = connection.get_execution_options().get(_ALIAS)
    return found


def another(alias: str, **settings: object) -> Any:
    """Return a connection wrapper of Django's, of this thread's and not connected, with some settings of its own."""
    like = connections[alias]
    return type(like)({**like.settings_dict, **settings}, alias)


def _fill_in(alias: str, _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:
    given: dict[str, Any] = another(alias).get_connection_params()
    parameters.update(_PATIENT)
    parameters.update({name: value for name, value in given.items() if name not in _DJANGOS_OWN})


def _configure(alias: str, raw: Any, _record: object) -> None:
    """Give a connection the time zone and the role that Django gives its own."""
    wrapper = another(alias)
    role = wrapper.settings_dict["OPTIONS"].get("assume_role")
    with raw.cursor() as cursor:
        if wrapper.timezone_name:
            cursor.execute("SELECT set_config('TimeZone', %s, false)", [wrapper.timezone_name])
        if role:
            cursor.execute("SELECT set_config('role', %s, false)", [role])
    raw.commit()


def _connected_to_sqlite(alias: str, *_: object) -> Any:
    """Connect as Django does, with its functions and pragmas, but for its reading of columns by their declared type."""
    wrapper = another(alias)
    return wrapper.get_new_connection({**wrapper.get_connection_params(), "detect_types": 0})
