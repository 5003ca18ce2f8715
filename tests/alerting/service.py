"""A worker service with alerts: `python -m tests.alerting.service '{"url": ..., "kind": ..., "notes": ...}'`.

It notes what its receiver is given in a file that others note in, too, and looks and gives signs of life all the time.
It works until its stdin is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

import projection_guard._on_alerts
import projection_guard._on_workers
from projection_guard import Alert
from projection_guard._core import watching
from tests.alerting.told import policy_of, watched
from tests.bed import Bed, database_of

for module, name, seconds in (
    (projection_guard._on_workers, "BEAT_EVERY_SECONDS", 0.2),
    (projection_guard._on_alerts, "LOOK_EVERY_SECONDS", 0.1),
    (projection_guard._on_alerts, "ASK_EVERY_SECONDS", 0.05),
    (watching, "LOOK_EVERY_SECONDS", 0.1),
):
    setattr(module, name, seconds)


def act(order: dict[str, Any]) -> None:
    """Work."""
    bed = Bed(order["kind"], database_of(order["url"]), order["url"], is_there=True)
    notes = Path(order["notes"])

    def receiver(alert: Alert) -> None:
        with notes.open("a") as file:
            file.write(f"{alert.kind} {alert.state} {alert.projection or alert.facts['process_id']}\n")

    policy = policy_of(
        receiver, exhausted=True, worker_gone_seconds=3600, fires_after_seconds=0, clears_after_seconds=0
    )
    guard = watched(bed, policy)
    worker = guard.real.worker(poll_seconds=0.05)
    if bed.is_async:
        bed.run(until_told(worker))
    else:
        threading.Thread(target=lambda: (sys.stdin.read(), worker.stop()), daemon=True).start()
        print("begun", flush=True)  # noqa: T201
        worker.run()
    bed.close()


async def until_told(worker: Any) -> None:
    """Work on the loop until the end of stdin."""
    running = asyncio.ensure_future(worker.run())
    print("begun", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)
    await worker.stop()
    await running


if __name__ == "__main__":
    act(json.loads(sys.argv[1]))
