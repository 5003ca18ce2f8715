"""Statements are compiled once a process, not once an engine: most tests make engines of their own and use each once.

SQLAlchemy keeps what it has compiled per engine, under keys that begin with the engine's dialect. Here the engines
share one cache, as an application's own long-lived engine has it, and dialects that are alike in everything count as
one. A pytest plugin, loaded by `tests/conftest.py`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Engine
from sqlalchemy.util import LRUCache

__all__: list[str] = []

_PLAIN = (str, int, tuple, frozenset, type(None))


class _Shared(LRUCache[Any, Any]):
    """The cache of all engines."""

    __slots__ = ("_alike",)

    def __init__(self) -> None:
        super().__init__(1000)
        self._alike: WeakKeyDictionary[Dialect, Hashable] = WeakKeyDictionary()

    def get(self, key: Any, default: Any = None) -> Any:
        """Return what another engine has compiled, too."""
        return super().get(self._key(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(self._key(key), value)

    def _key(self, key: Any) -> Any:
        dialect, *statement = key
        if dialect.server_version_info is None:  # it has met no database yet, and will change when it does
            return key
        if dialect not in self._alike:
            self._alike[dialect] = (type(dialect), _traits(dialect))
        return (self._alike[dialect], *statement)


def _traits(dialect: Dialect) -> Hashable:
    """Return every plain attribute of a dialect, and which functions it was given."""
    return tuple(
        (name, value if isinstance(value, _PLAIN) or callable(value) else type(value))
        for name, value in sorted(vars(dialect).items())
    )


_shared = _Shared()
_init = Engine.__init__


def _init_sharing(engine: Engine, *args: Any, **options: Any) -> None:
    _init(engine, *args, **options)
    if engine._compiled_cache is not None:
        engine._compiled_cache = _shared


Engine.__init__ = _init_sharing  # type: ignore[assignment, method-assign]
