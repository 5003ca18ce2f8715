"""The shortest life of an event that fails and heals, run against the installed wheel in an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, text

import projection_guard
from projection_guard import ProjectionGuard


@dataclass(frozen=True)
class Counted:
    """An event with the fields that are found by convention."""

    event_id: str
    stream_id: str
    sequence: int


guard = ProjectionGuard("sqlite:///smoke.db")
guard.migrate()
broken = True
applied: list[str] = []


@guard.projection("Smoke", handles=[Counted])
def smoke(event: Counted, connection: Connection) -> None:
    """Fail for stream A until it is repaired."""
    if broken and event.stream_id == "A":
        raise RuntimeError("not yet")
    connection.execute(text("SELECT 1"))
    applied.append(event.event_id)


publisher = guard.publisher()
for number, stream in enumerate("AAB", start=1):
    publisher.publish(Counted(event_id=f"{stream}{number}", stream_id=stream, sequence=number))
assert applied == ["B3"], applied
assert guard.health("Smoke").active_failures == 1

broken = False
deadline = time.monotonic() + 30
while len(applied) < 3 and time.monotonic() < deadline:
    guard.worker().run_once()
    time.sleep(0.1)
assert applied == ["B3", "A1", "A2"], applied
assert guard.health("Smoke").active_failures == 0
print(f"projection_guard from {projection_guard.__file__}: failed, parked, healed in order")

for adapter, extra in (("fastapi", "fastapi"), ("flask", "flask"), ("apprise", "alerts")):
    try:
        __import__(f"projection_guard.{adapter}")
    except ImportError as error:
        said = str(error)
    else:
        said = "it was installed"
    assert f"pip install 'projection-guard[{extra}]'" in said, said
print("an adapter without its library says which extra brings it")


def command(*words: str, code: int = 0) -> str:
    """Run the command line as it was installed."""
    script = Path(sys.executable).with_name("projection-guard")
    done = subprocess.run([script, *words], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, bool(done.stderr)) == (code, code != 0), done
    return done.stdout


guard.close()
database = ("--database", "sqlite:///command.db")
assert command("--version") == f"projection-guard {version('projection-guard')}\n"
assert command("db", "upgrade", *database).startswith("The guard's tables are at projection_guard_")
assert json.loads(command("status", "--json", *database))["total_projections"] == 0
assert "Smoke" in command("status", "--database", "sqlite:///smoke.db")
assert command("completion", "bash", code=1) == ""
print("the command line works without rich and shtab")
