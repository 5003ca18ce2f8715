"""Where the guard comes from: `--app module:attribute`, or the bare URL of its database."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from .. import _desk
from .._async_guard import AsyncProjectionGuard
from .._guard import ProjectionGuard
from .._wording import type_name, words_of
from ._exits import Exit, Refused, WrongUsage
from ._secrets import Hidden

__all__ = ["APP", "DATABASE", "SCHEMA", "AnyGuard", "app_of", "guard_of", "is_bare"]

APP: Final = "PROJECTION_GUARD_APP"
DATABASE: Final = "PROJECTION_GUARD_DATABASE_URL"
SCHEMA: Final = "PROJECTION_GUARD_SCHEMA"
AnyGuard = ProjectionGuard | AsyncProjectionGuard


def is_bare(options: Namespace) -> bool:
    """Return whether there is only a database, and no application: what is said on the command line goes first."""
    if options.app or options.database:
        return not options.app
    return not os.environ.get(APP)


def app_of(options: Namespace) -> str:
    """Return by which name the application's guard is imported."""
    return str(options.app or os.environ[APP])


def guard_of(options: Namespace, hidden: Hidden, *, must_exist: bool) -> AnyGuard:
    """Find the guard; it starts no worker of its own. Raises `Refused`, and what making a guard raises."""
    if options.app and options.database:
        raise WrongUsage("--app has a database of its own; give either --app or --database")
    if options.schema and not is_bare(options):
        raise WrongUsage("--schema goes with --database; an application has named its schema")
    if is_bare(options):
        guard: AnyGuard = _of_database(options, hidden)
    else:
        guard = _of_app(options.app or os.environ[APP])
    _desk.hold_own_worker(guard)
    url = _desk.engine_of(guard).url
    hidden.add(url.password)
    if must_exist and url.get_backend_name() == "sqlite":
        _check_is_there(url.database, str(url.query))
    return guard


def _of_database(options: Namespace, hidden: Hidden) -> ProjectionGuard:
    url = options.database or os.environ.get(DATABASE)
    if not url:
        raise WrongUsage(
            f"Which guard? Give --app module:attribute (or {APP}), or --database URL (or {DATABASE}) for what needs "
            "no handlers"
        )
    if "@" in url and ":" in url.rpartition("@")[0].partition("://")[2]:
        hidden.add(url.rpartition("@")[0].partition("://")[2].partition(":")[2])
    return ProjectionGuard(url, schema=options.schema or os.environ.get(SCHEMA), worker="external")


def _check_is_there(database: str | None, query: str) -> None:
    """SQLite makes a file that is not there: a name that was mistyped would be an empty database."""
    if not database or database == ":memory:" or database.startswith("file:") or "mode=memory" in query:
        return
    if not Path(database).is_file():
        raise Refused(
            kind="store-unavailable",
            detail=f"There is no SQLite file {database}; is the path right? (db upgrade makes it)",
            code=Exit.UNREACHABLE,
        )


# -- an application


def _of_app(spec: str) -> AnyGuard:
    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or not attribute:
        raise WrongUsage(f"--app takes module:attribute, such as shop.projections:guard, not {spec!r}")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return _as_guard(spec, _attribute_of(_module(module_name), spec, attribute))


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise WrongUsage(f"--app: there is no module {error.name!r} here, or where Python looks") from error
        raise _raised(f"--app: importing {name}", error) from error
    except SystemExit as error:
        raise _refused(f"--app: importing {name} ended the program ({error.code!r})") from error
    except Exception as error:
        raise _raised(f"--app: importing {name}", error) from error


def _attribute_of(module: ModuleType, spec: str, attribute: str) -> Any:
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            where = f"the module {module.__name__}" if found is module else f"what stands before it in {spec}"
            raise WrongUsage(f"--app: {where} has no attribute {name!r}") from error
    return found


def _as_guard(spec: str, found: Any) -> AnyGuard:
    if isinstance(found, (ProjectionGuard, AsyncProjectionGuard)):
        return found
    if callable(found):
        try:
            found = found()
        except Exception as error:
            raise _raised(f"--app: calling {spec}()", error) from error
    if not isinstance(found, (ProjectionGuard, AsyncProjectionGuard)):
        raise WrongUsage(f"--app: {spec} is a {type(found).__name__}, no ProjectionGuard or AsyncProjectionGuard")
    return found


def _raised(doing: str, error: Exception) -> Refused:
    at = traceback.extract_tb(error.__traceback__)
    place = f" ({at[-1].filename}, line {at[-1].lineno})" if at else ""
    return _refused(f"{doing} raised {type_name(error)}: {words_of(error)}{place}")


def _refused(detail: str) -> Refused:
    return Refused(kind="app-not-usable", detail=detail)
