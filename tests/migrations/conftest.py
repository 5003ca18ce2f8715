"""Empty databases of both kinds, and the built wheel in which hosts find the library."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect

from projection_guard._tables import table_names

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own with nothing in it: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    """An engine on it, set up as a host does that thinks of nothing."""
    made = create_engine(empty_url)
    yield made
    made.dispose()


def ours_in(bind: Engine | Connection, schema: str | None = None) -> set[str]:
    """Return which of our tables there are."""
    return set(inspect(bind).get_table_names(schema=schema)) & table_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command did."""

    code: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """An application in a folder of its own, which knows the library from its wheel only."""

    folder: Path
    url: str
    library: Path

    def write(self, name: str, text: str) -> None:
        """Write a file of the application."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def runs(self, *command: str) -> Ran:
        """Run Python there, whatever comes of it."""
        env = os.environ | {"PYTHONPATH": f"{self.library}{os.pathsep}{self.folder}", "APP_URL": self.url}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Ran(code=done.returncode, output=done.stdout + done.stderr)

    def python(self, source: str) -> str:
        """Run a program of the application, with `alembic(...)` as on the command line; it must end well."""
        self.write("program.py", PROGRAM + source)
        ran = self.runs("-W", "error", "program.py")
        assert ran.code == 0, ran.output
        return ran.output


PROGRAM = """\
import os
from pathlib import Path
from alembic.config import main
from sqlalchemy import create_engine, inspect, text
import projection_guard
from projection_guard import ProjectionGuard
from projection_guard.errors import SchemaError

assert Path(projection_guard.__file__).parents[1] == Path(os.environ["PYTHONPATH"].split(os.pathsep)[0])
URL = os.environ["APP_URL"]
engine = create_engine(URL)
guard = ProjectionGuard(engine, worker="external")

def alembic(*words):
    main(list(words))

def change_configuration():
    for path in Path("later").rglob("*.*"):
        path.replace(path.relative_to("later"))

def tables():
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())

def versions(table="alembic_version"):
    with engine.connect() as connection:
        return sorted(connection.scalars(text(f"SELECT version_num FROM {table}")))

def complaint():
    with ProjectionGuard(URL, worker="external") as starting:
        try:
            starting.health()
        except SchemaError as error:
            return str(error)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked into a folder of its own as an installer does."""
    place = tmp_path_factory.mktemp("wheel")
    if importlib.util.find_spec("hatchling"):
        build = ["hatchling", "build", "-t", "wheel", "-d", str(place)]
    else:  # in an environment of pip's own, which takes longer
        build = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), "."]
    subprocess.run([sys.executable, "-m", *build], cwd=ROOT, check=True, capture_output=True, timeout=180)
    (built,) = place.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(place / "installed")
    return place / "installed"


@pytest.fixture
def host(wheel: Path, empty_url: str, tmp_path: Path) -> Host:
    """An application with nothing in it yet."""
    folder = tmp_path / "host"
    folder.mkdir()
    return Host(folder=folder, url=empty_url, library=wheel)
