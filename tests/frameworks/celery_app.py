"""An application of Celery's whose tasks bring events to a projection; the environment says on what it works.

The handler counts each event, and kills its own process once, in the middle of the event that `KILLER` names.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import Connection
from tenacity import stop_never, wait_fixed

from projection_guard import ProjectionGuard, RetryPolicy
from projection_guard.celery import guarded_task
from tests.bed import Happened, noted

QUEUE = os.environ["TEST_QUEUE"]
HEALED = Path(os.environ["TEST_HEALED"])
KILLED = Path(os.environ["TEST_KILLED"])

app = Celery("tests", broker=os.environ["TEST_BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 600},
)
guard = ProjectionGuard(os.environ["TEST_DATABASE"], retry=RetryPolicy(wait=wait_fixed(0.5), stop=stop_never))
note = noted("P")


@guard.projection("P", handles=[Happened])
def project(event: Happened, connection: Connection) -> None:
    """Note an event; fail for a poisonous one until it is healed."""
    note(event, connection)
    if event.stream_id == "S7" and event.n == 2 and not HEALED.exists():
        raise ValueError("poison")
    if event.stream_id == "S9" and event.n == 3 and not KILLED.exists():
        KILLED.touch()
        os.kill(os.getppid() if os.environ.get("TEST_KILL") == "worker" else os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


task: Any = guarded_task(app, guard, "P", again_after=1)
