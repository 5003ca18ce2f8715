"""The shortest life of an event that fails and heals, run against the installed wheel in an empty folder."""

from __future__ import annotations

import time
from dataclasses import dataclass

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

for adapter in ("fastapi", "flask"):
    try:
        __import__(f"projection_guard.{adapter}")
    except ImportError as error:
        said = str(error)
    else:
        said = "it was installed"
    assert f"pip install 'projection-guard[{adapter}]'" in said, said
print("an adapter without its library says which extra brings it")
