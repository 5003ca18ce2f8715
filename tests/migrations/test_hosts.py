"""Both ways of running the migrations, in applications that know the library from its wheel, with their own Alembic."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from projection_guard.migrations._revisions import revisions
from tests.migrations.conftest import ROOT, Host

pytestmark = pytest.mark.slow

NEWEST = revisions().newest
MODELS = """\
from sqlalchemy import Column, Integer, MetaData, String, Table
metadata = MetaData()
Table("hosts_documents", metadata, Column("id", Integer, primary_key=True), Column("title", String(50)))
"""

# what `alembic init` writes, without the comments
ENV = """\
import os
from alembic import context
from sqlalchemy import create_engine
from models import metadata
{imports}
engine = create_engine(os.environ["APP_URL"])
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata={metadata}{more})
    with context.begin_transaction():
        context.run_migrations()
"""
TEMPLATE = (ROOT / "alembic" / "script.py.mako").read_text(encoding="utf-8")
INI = """\
[alembic]
script_location = %(here)s/db
{locations}
path_separator = {separator}
"""
PYPROJECT = """\
[tool.alembic]
script_location = "%(here)s/db"
{locations}
"""
TWO_LINES = "version_locations =\n    %(here)s/db/versions\n    projection_guard:migrations/versions"
TWO_ITEMS = 'version_locations = ["%(here)s/db/versions", "projection_guard:migrations/versions"]'
FILTERED = {"imports": "from projection_guard.migrations import include_name", "more": ", include_name=include_name"}
NONE = "No new upgrade operations detected"
FIRST = """
alembic("revision", "--autogenerate", "-m", "first", "--branch-label=app")
alembic("upgrade", "head")
"""


def settle(host: Host, *, config: str = "ini", env: dict[str, str] = FILTERED) -> None:
    """Give the host its Alembic, as it is before it knows of us, and `later/` with our revisions in its chain."""
    host.write("models.py", MODELS)
    host.write("db/env.py", ENV.format(**({"imports": "", "metadata": "metadata", "more": ""} | env)))
    host.write("db/script.py.mako", TEMPLATE)
    (host.folder / "db" / "versions").mkdir()
    if config == "ini":
        host.write("alembic.ini", INI.format(locations="", separator="newline"))
        host.write("later/alembic.ini", INI.format(locations=TWO_LINES, separator="newline"))
    else:
        host.write("pyproject.toml", PYPROJECT.format(locations=""))
        host.write("later/pyproject.toml", PYPROJECT.format(locations=TWO_ITEMS))


@pytest.fixture(params=["ini", "pyproject"])
def config(request: pytest.FixtureRequest) -> str:
    """How the host configures its Alembic."""
    kind: str = request.param
    return kind


def test_way_a_leaves_the_hosts_chain_alone(host: Host, config: str) -> None:
    """`guard.migrate()` uses its own version table; the host's autogenerate sees nothing to do, before and after."""
    settle(host, config=config)
    printed = host.python(
        FIRST
        + f"NEWEST = {NEWEST!r}"
        + """
before = versions()
assert "are not in the database; run guard.migrate()" in complaint()
guard.migrate()
assert complaint() is None
assert versions() == before and len(before) == 1
assert versions("projection_guard_alembic_version") == [NEWEST]
alembic("check")
alembic("revision", "--autogenerate", "-m", "second")
alembic("upgrade", "head")
alembic("downgrade", "base")
assert complaint() is None
"""
    )
    assert NONE in printed
    (second,) = (host.folder / "db" / "versions").glob("*second.py")
    assert "projection_" not in second.read_text(encoding="utf-8")


def test_way_b_runs_our_revisions_in_the_hosts_chain(host: Host, config: str) -> None:
    """A second version location and `alembic upgrade heads`: one version table, and `migrate` has nothing to do."""
    settle(host, config=config)
    printed = host.python(
        FIRST
        + f"NEWEST = {NEWEST!r}"
        + """
change_configuration()
assert complaint() is not None
alembic("upgrade", "heads")
assert len(versions()) == 2 and NEWEST in versions()
assert complaint() is None
guard.migrate()
assert "projection_guard_alembic_version" not in tables()
alembic("check")
alembic("revision", "--autogenerate", "-m", "second", "--head=app@head")
alembic("upgrade", "heads")
alembic("downgrade", "app@base")
assert complaint() is None
alembic("upgrade", "heads")
alembic("downgrade", "projection_guard@base")
assert not [name for name in tables() if name.startswith("projection_")]
"""
    )
    assert NONE in printed
    (second,) = (host.folder / "db" / "versions").glob("*second.py")
    assert "projection_" not in second.read_text(encoding="utf-8")


def test_one_may_go_from_way_a_to_way_b(host: Host) -> None:
    """A stamp says that our revisions have run already; the guard goes on throughout."""
    settle(host)
    host.python(
        FIRST
        + """
guard.migrate()
change_configuration()
alembic("stamp", "projection_guard@head")
alembic("upgrade", "heads")
assert complaint() is None
with engine.begin() as connection:
    connection.execute(text("DROP TABLE projection_guard_alembic_version"))
assert complaint() is None
guard.migrate()
assert "projection_guard_alembic_version" not in tables()
"""
    )


def test_the_trap_of_the_path_separator(host: Host) -> None:
    """`path_separator = os` cuts `package:folder` at the colon; Alembic says nothing, the guard does."""
    settle(host)
    locations = "version_locations = %(here)s/db/versions:projection_guard:migrations/versions"
    host.write("later/alembic.ini", INI.format(locations=locations, separator="os"))
    host.python(
        FIRST
        + """
change_configuration()
alembic("upgrade", "heads")
assert len(versions()) == 1
assert "path_separator = os has cut projection_guard:migrations/versions in two" in complaint()
"""
    )


FILTERS = {
    "include_name": FILTERED,
    "include_object": {
        "imports": "from projection_guard import _tables\nfrom projection_guard.migrations import include_object",
        "metadata": "[metadata, _tables.metadata]",
        "more": ", include_object=include_object",
    },
    "all_of": {
        "imports": "from projection_guard.migrations import all_of, include_name, include_object\n"
        "def mine(name, type_, parent_names): return name != 'legacy'\n"
        "def mine_too(object_, name, type_, reflected, compare_to): return name != 'legacy_too'",
        "more": ", include_name=all_of(include_name, mine), include_object=all_of(include_object, mine_too)",
    },
}


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_keeps_autogenerate_off_our_tables(host: Host, name: str) -> None:
    """Without one the host's autogenerate drops our tables; each prevents that, also beside the host's own."""
    settle(host, env={})
    (host.folder / "later" / "alembic.ini").unlink()
    host.write("later/db/env.py", ENV.format(**({"metadata": "metadata"} | FILTERS[name])))
    host.python(
        FIRST
        + f"""
guard.migrate()
for each in {["legacy", "legacy_too"] if name == "all_of" else []}:
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {{each}} (id INTEGER)"))
try:
    alembic("check")
except SystemExit:
    change_configuration()
else:
    raise AssertionError("our tables would not be dropped anyway, so this test shows nothing")
alembic("check")
"""
    )


def test_the_environment_in_the_package_can_be_run(host: Host) -> None:
    """`script_location = projection_guard:migrations` is enough for `alembic upgrade`, `current`, `check`."""
    host.write("alembic.ini", "[alembic]\nscript_location = projection_guard:migrations\n")
    host.python(
        """
given = ("-x", f"url={URL}")
alembic(*given, "upgrade", "head")
alembic(*given, "check")
assert complaint() is None
alembic(*given, "downgrade", "base")
assert complaint() is not None
"""
    )


NEXT = f'''\
"""More."""

import sqlalchemy as sa
from alembic import op

revision = "projection_guard_9999"
down_revision = "{NEWEST}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projection_states", sa.Column("more", sa.Integer(), server_default="7", nullable=False))
    op.create_table("projection_more", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade() -> None:
    op.drop_table("projection_more")
    op.drop_column("projection_states", "more")
'''


def test_the_next_release_upgrades_and_this_one_works_on(host: Host, wheel: Path, tmp_path: Path) -> None:
    """Expand and contract: the next version upgrades what this one made, keeps its rows, and this one goes on."""
    schema = None if host.url.startswith("sqlite") else "MyGuard"
    later = tmp_path / "later"
    shutil.copytree(wheel, later)
    package = later / "projection_guard"
    (package / "migrations" / "versions" / "projection_guard_9999_more.py").write_text(NEXT, encoding="utf-8")
    tables = package / "_tables" / "following.py"
    source, count = re.subn(
        r"(    failed_probes: Mapped)",
        r'    more: Mapped[int] = mapped_column(Integer, server_default=text("7"))' + "\n\\1",
        tables.read_text(encoding="utf-8"),
    )
    assert count == 1
    tables.write_text(source, encoding="utf-8")
    next_release = Host(folder=host.folder, url=host.url, library=later)
    given = f"from projection_guard import _schema\nSCHEMA = {schema!r}\n"
    run = "with engine.begin() as connection:\n    _schema.{0}(connection, SCHEMA)\n"
    host.python(given + run.format("migrate") + run.format("check"))
    told = next_release.python(
        given
        + "try:\n    with engine.begin() as connection:\n        _schema.check(connection, SCHEMA)\n"
        + "except SchemaError as error:\n    print(error)\n"
        + run.format("migrate")
        + run.format("check")
        + "with engine.connect() as connection:\n"
        + "    columns = inspect(connection).get_columns('projection_states', schema=SCHEMA)\n"
        + "    assert 'more' in [each['name'] for each in columns]\n"
        + "    assert inspect(connection).has_table('projection_more', schema=SCHEMA)\n"
    )
    assert f"at {NEWEST}, older than projection_guard_9999, which this version needs; run guard.migrate()" in told
    host.python(given + run.format("check") + run.format("migrate"))


STRAY = """
revision = "9131b915d2a7"
down_revision = "{newest}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
"""


def test_a_revision_that_strayed_into_the_package_is_named(wheel: Path, tmp_path: Path) -> None:
    """`alembic revision` without a head writes into the package where the guard's chain is the only one."""
    later = tmp_path / "later"
    shutil.copytree(wheel, later)
    stray = later / "projection_guard" / "migrations" / "versions" / "9131b915d2a7_mine.py"
    stray.write_text(STRAY.format(newest=NEWEST), encoding="utf-8")
    host = Host(folder=tmp_path, url=f"sqlite:///{tmp_path / 'app.db'}", library=later)
    ran = host.runs("-m", "projection_guard", "db", "upgrade", "--database", host.url)
    assert ran.code == 4
    assert f"{stray} is no revision of this package's" in ran.output
