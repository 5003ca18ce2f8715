"""Events that arrive as Celery tasks: real workers over real brokers, killed in the middle of a handler."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("celery", reason="Celery is not installed: pip install 'projection-guard[celery]'")

from celery import Celery
from celery.exceptions import Reject

from projection_guard import AsyncProjectionGuard, ConfigurationError, EventError, ProjectionGuard, SqlEventSource
from projection_guard.celery import guarded_task, wake_task
from tests.bed import Bed, Happened, happened, noted
from tests.following.logs import FollowedLog, rebuilt
from tests.turns import IS_EVERY

ROOT = Path(__file__).parents[2]
BROKERS = {"redis": (6379, "redis://127.0.0.1:6379/0"), "rabbitmq": (5672, "amqp://guest:guest@127.0.0.1:5672//")}


class Workers:
    """Workers of `tests.frameworks.celery_app`, and what they were killed and healed by."""

    def __init__(self, bed: Bed, broker: str, folder: Path, kills: str) -> None:
        self.bed = bed
        self.healed, self.killed, self.log = folder / "healed", folder / "killed", folder / "worker.log"
        self.environment = {
            "PYTHONPATH": str(ROOT),
            "TEST_BROKER": BROKERS[broker][1],
            "TEST_DATABASE": bed.url,
            "TEST_QUEUE": f"projection_guard_{uuid4().hex[:12]}",
            "TEST_HEALED": str(self.healed),
            "TEST_KILLED": str(self.killed),
            "TEST_KILL": kills,
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker with two processes."""
        command = [sys.executable, "-m", "celery", "-A", "tests.frameworks.celery_app", "worker", "-c", "2"]
        command += ["--loglevel", "info", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **self.environment}, cwd=ROOT, stdout=log, stderr=log
            )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()
            process.wait()

    def noted(self, stream: str) -> list[int]:
        """Return what was noted of a stream, in order."""
        return [n for _, n in self.bed.effects("P", stream)]

    def wait_until(self, condition: Any) -> None:
        """Wait; tell what the worker said where that is in vain."""
        try:
            self.bed.wait_until(condition)
        except BaseException:
            print(self.log.read_text()[-6000:])  # noqa: T201
            raise


def needs(broker: str) -> None:
    """Skip a test where this broker is not there."""
    port = BROKERS[broker][0]
    with socket.socket() as tried:
        tried.settimeout(2)
        if tried.connect_ex(("127.0.0.1", port)):
            pytest.skip(f"no {broker} answers at 127.0.0.1:{port}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broker", "kills"), [("redis", "child"), ("rabbitmq", "worker")] if IS_EVERY else [("redis", "child")]
)
def test_events_as_tasks_are_applied_once_each_though_workers_are_killed(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: str, kills: str
) -> None:
    """A process is killed in mid-handler (all of the worker, too): redelivered, the effect is there once.

    One event of one stream in a hundred is poison: the others go on; after the fix its stream is whole and in order.
    """
    needs(broker)
    bed = Bed("blocking", "postgresql", postgres_url)
    workers = Workers(bed, broker, tmp_path, kills)
    for name, value in workers.environment.items():
        monkeypatch.setenv(name, value)
    sys.modules.pop("tests.frameworks.celery_app", None)
    module = importlib.import_module("tests.frameworks.celery_app")
    streams = [f"S{number}" for number in range(100)]
    with module.guard, workers.running() as process:
        for n in (1, 2, 3):
            for stream in streams:
                module.task.send(happened(stream, n))
            # Celery keeps no order among its processes: the next events are sent when these are in the guard's hands.
            expected = 100 * n if n == 1 else 100 * n - (n - 1)
            if n < 3:
                workers.wait_until(lambda expected=expected: len(bed.effects("P")) == expected)
        workers.wait_until(workers.killed.exists)
        if kills == "worker":
            process.wait(60)
        again = workers.running() if kills == "worker" else None
        if again is not None:
            again.__enter__()
        workers.wait_until(lambda: len(bed.effects("P")) == 298)
        assert workers.noted("S7") == [1]
        workers.healed.touch()
        workers.wait_until(lambda: len(bed.effects("P")) == 300)
        if again is not None:
            again.__exit__(None, None, None)
    with module.app.connection() as connection:
        connection.default_channel.queue_delete(module.QUEUE)
    assert all(workers.noted(stream) == [1, 2, 3] for stream in streams)
    assert all(bed.count(stream) == 3 for stream in ("S7", "S9", "S50"))
    bed.close()


@pytest.mark.slow
def test_what_failed_before_heals_beside_an_empty_queue(postgres_url: str, tmp_path: Path) -> None:
    """Celery's worker is begun anew, with the bug mended, and has no task to wait for."""
    needs("redis")
    bed = Bed("blocking", "postgresql", postgres_url)

    def fail(event: Happened) -> None:
        raise LookupError

    with ProjectionGuard(postgres_url, worker="external") as broken:
        broken.projection("P", handles=[Happened])(fail)
        assert [broken.apply("P", happened("A", n)).status for n in (1, 2)] == ["failed", "parked"]
    workers = Workers(bed, "redis", tmp_path, "child")
    with workers.running():
        workers.wait_until(lambda: len(bed.effects("P")) == 2)
    assert workers.noted("A") == [1, 2]
    bed.close()


def test_a_message_goes_back_to_its_queue_where_the_database_is_away() -> None:
    """It is not acknowledged, and no new one is sent; what cannot be read is a failure of the task."""
    app = Celery("tests", broker="memory://")
    away = "postgresql+psycopg://nobody:hidden@127.0.0.1:1/nowhere?connect_timeout=1"
    with ProjectionGuard(away, worker="external") as guard:
        guard.projection("P", handles=[Happened])(lambda event, connection: None)
        made = guarded_task(app, guard, "P", again_after=0)
        codec: Any = guard.codec
        payload = codec.encode(happened("A", 1))
        with pytest.raises(Reject) as refused:
            made.task.run(event=payload)
        assert refused.value.requeue is True
        assert "hidden" not in str(refused.value.reason)
    assert (made.task.acks_late, made.task.reject_on_worker_lost, made.task.acks_on_failure_or_timeout) == (
        True,
        True,
        False,
    )


def test_what_is_not_the_events_fault_does_not_cost_it(tmp_path: Path) -> None:
    """A task that fails is not delivered again: neither missing tables nor a bug in `can_handle` may end in that."""
    app = Celery("tests", broker="memory://")
    app.conf.update(task_acks_on_failure=True, task_acks_on_timeout=True)

    class Fragile:
        def can_handle(self, event: object) -> bool:
            raise ValueError("a secret of the event's")

        def handle(self, event: object) -> None:
            raise AssertionError

    with ProjectionGuard(f"sqlite:///{tmp_path}/new.db", worker="external") as guard:
        guard.projection("P", handles=[Happened])(lambda event, connection: None)
        guard.register(Fragile(), "Fragile")
        codec: Any = guard.codec
        payload = codec.encode(happened("A", 1))
        tasks = [guarded_task(app, guard, name, again_after=0).task for name in ("P", "Fragile", "NotHere")]
        for migrate, task in zip((False, True, True), tasks, strict=True):
            if migrate:
                guard.migrate()
            with pytest.raises(Reject) as refused:
                task.run(event=payload)
            assert refused.value.requeue is True
            assert "secret" not in str(refused.value.reason)
        with pytest.raises(EventError):
            tasks[0].run(event={"type": "nobody knows it"})
        app.finalize()
        assert [(each.acks_on_failure, each.acks_on_timeout) for each in tasks] == [(False, False)] * 3


def test_a_streams_events_go_to_one_queue_and_monitors_see_none_of_their_contents(sqlite_url: str) -> None:
    """A queue for each slice of the streams; each with one worker, that is their order."""
    app = Celery("tests", broker="memory://")
    sent: list[tuple[str, str]] = []
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        guard.projection("P", handles=[Happened])(lambda event, connection: None)
        made = guarded_task(app, guard, "P", queues=["p0", "p1", "p2"])
        router = app.amqp.send_task_message

        def send(producer: Any, name: str, message: Any, **options: Any) -> Any:
            sent.append((str(options["queue"].name), str(message.headers["kwargsrepr"])))
            return router(producer, name, message, **options)

        app.amqp.send_task_message = send
        for n in (1, 2, 3):
            for stream in range(30):
                made.send(happened(f"S{stream}", n))
    assert {queue for queue, _ in sent} == {"p0", "p1", "p2"}
    queues: dict[str, set[str]] = {}
    for number, (queue, told) in enumerate(sent):
        queues.setdefault(f"S{number % 30}", set()).add(queue)
        assert "'n'" not in told
        assert "event_id" in told
    assert all(len(each) == 1 for each in queues.values())


def test_a_message_may_only_say_that_the_log_has_something_new(sqlite_url: str) -> None:
    """The event is read in the log, in its order, however many messages there are, and in whatever order."""
    bed = Bed("blocking", "sqlite", sqlite_url)
    log = FollowedLog(bed)
    log.append("A", "B", "A")
    source = SqlEventSource(sqlite_url, "log", decode=rebuilt)
    with ProjectionGuard(sqlite_url, worker="external", source=source) as guard:
        guard.projection("P", handles=[Happened])(noted("P"))
        wake = wake_task(Celery("tests", broker="memory://"), guard, "P")
        assert [wake.run(), wake.run()] == [3, 0]
        assert [stream for stream, _ in bed.effects("P")] == ["A", "B", "A"]
    source.close()
    bed.close()


def test_what_cannot_work_is_refused(sqlite_url: str) -> None:
    """An async guard, and a wait that nobody would want."""
    app: Any = Celery("tests")
    guard: Any = AsyncProjectionGuard(sqlite_url.replace("sqlite:", "sqlite+aiosqlite:"))
    with pytest.raises(ConfigurationError, match="workers block"):
        guarded_task(app, guard, "P")
    with ProjectionGuard(sqlite_url) as blocking, pytest.raises(ConfigurationError, match="again_after"):
        guarded_task(app, blocking, "P", again_after=-1)
