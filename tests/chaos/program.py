"""The processes that a chaos run kills: `python -m tests.chaos.program '{"role": "worker", "url": ..., ...}'`.

`publisher` appends to the log and publishes, `worker` heals and follows, `server` is FastAPI with the admin routes.
Each ends cleanly at the first SIGTERM and at once at the second. What a publisher was told stands in a file of its own,
a line an event; begun anew it goes on where that ends.
"""

from __future__ import annotations

import asyncio
import faulthandler
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text

import projection_guard
from projection_guard import ProjectionGuardError
from tests.chaos import guards
from tests.chaos.world import Fact

log = logging.getLogger("chaos")
_append = text(
    "INSERT INTO chaos_log (event_id, event_type, stream_id, n) VALUES (:event_id, 'Fact', :stream, :n) "
    "ON CONFLICT (event_id) DO NOTHING"
)
_find = text("SELECT sequence FROM chaos_log WHERE event_id = :event_id")


class Ending:
    """SIGTERM says that it is time to end; a second one ends the process at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, number: int, _frame: object) -> None:
        if self.event.is_set():
            os._exit(128 + number)
        self.event.set()


# -- publishing


class Acked:
    """What was told to a publisher: the last event of each of its streams for which `publish` returned."""

    def __init__(self, path: Path) -> None:
        self.last: dict[str, int] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                words = line.split()
                if len(words) == 3 and words[0] == "ok":
                    self.last[words[1]] = int(words[2])
        self._file = path.open("a", buffering=1)

    def note(self, word: str, stream: str, n: int) -> None:
        """Write it down; it is in the kernel's hands when this returns."""
        self._file.write(f"{word} {stream} {n}\n")
        if word == "ok":
            self.last[stream] = n


def turns(acked: Acked, name: str, streams: int) -> Iterator[tuple[str, int]]:
    """Return what to publish next, again and again: each stream in turn, its next event."""
    for number in itertools.count():
        stream = f"{name}-{number % streams}"
        yield stream, acked.last.get(stream, 0) + 1


def appended(engine: Engine, stream: str, n: int, ending: Ending) -> Fact | None:
    """Append an event until it is known to stand in the log."""
    event_id = f"{stream}#{n}"
    while True:
        try:
            with engine.begin() as connection:
                if n % 7 == 3:  # a number of the sequence that is never used
                    leave_a_hole(connection, stream, n)
                connection.execute(_append, {"event_id": event_id, "stream": stream, "n": n})
                sequence = int(connection.execute(_find, {"event_id": event_id}).scalar_one())
                if n % 5 == 1:  # others draw higher numbers and commit them first
                    time.sleep(0.05)
        except Exception as error:
            log.info("appending met %s", type(error).__name__)
            if ending.event.wait(0.1):
                return None
        else:
            return Fact(event_id=event_id, stream_id=stream, sequence=sequence, n=n)


def leave_a_hole(connection: Connection, stream: str, n: int) -> None:
    """Take a number of the sequence and give it up."""
    with connection.begin_nested() as nested:
        connection.execute(_append, {"event_id": f"{stream}#{n} never", "stream": stream, "n": -n})
        nested.rollback()


class Publishing:
    """Appends and publishes, as one who delivers again whatever was not acknowledged."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order, self._ending = order, Ending()
        self._acked = Acked(Path(order["folder"]) / f"{order['name']}.acks")
        self._runner = asyncio.Runner() if order["kind"] == "async" else None
        self._guards = [guards.pushed(order), guards.followed(order)]
        self._publishers = [guard.publisher() for guard in self._guards]

    def run(self) -> None:
        """Go on until told to end."""
        url = self._order["log_url"]
        engine = create_engine(url, pool_pre_ping=True, **guards.engine_options(url))
        for stream, n in turns(self._acked, self._order["name"], self._order["streams"]):
            begun = time.monotonic()
            fact = appended(engine, stream, n, self._ending)
            if fact is not None:
                self._publish(fact)
            if self._ending.event.wait(max(self._order["pause"] - (time.monotonic() - begun), 0.0)):
                break
        for guard in self._guards:
            self._wait_for(guard.close())

    def _publish(self, fact: Fact) -> None:
        while not self._is_taken(fact) and not self._ending.event.wait(0.1):
            pass
        if fact.n % 10 == 0 and not self._ending.event.is_set():  # a broker that has lost the acknowledgement
            with suppress(ProjectionGuardError):
                self._wait_for(self._publishers[0].publish(fact))

    def _is_taken(self, fact: Fact) -> bool:
        try:
            for publisher in self._publishers:
                self._wait_for(publisher.publish(fact))
        except ProjectionGuardError as error:
            log.info("publishing met %s", type(error).__name__)
            self._acked.note("unknown", fact.stream_id, fact.n)
            return False
        self._acked.note("ok", fact.stream_id, fact.n)
        return True

    def _wait_for(self, result: Any) -> None:
        async def await_it() -> None:
            await result

        if self._runner is not None:
            self._runner.run(await_it())


def publish(order: dict[str, Any]) -> None:
    """Append and publish until told to end."""
    Publishing(order).run()


# -- working


def work(order: dict[str, Any]) -> None:
    """Heal and follow until told to end."""
    if order["kind"] == "async":
        asyncio.run(work_on_the_loop(order))
        return
    ending = Ending()
    made = [guards.pushed(order), guards.followed(order)]
    signal.signal(signal.SIGUSR1, lambda *_: guards.stand_still_at_the_next_read())
    with ExitStack() as stack:
        for guard in made:
            stack.callback(guard.close)
        for guard in made:
            stack.enter_context(guard.worker(poll_seconds=0.2))
        ending.event.wait()


async def work_on_the_loop(order: dict[str, Any]) -> None:
    """Do the same with async guards."""
    ending, told = Ending(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: os._exit(143) if told.is_set() else told.set())
    signal.signal(signal.SIGUSR1, lambda *_: guards.stand_still_at_the_next_read())
    made = [guards.pushed(order), guards.followed(order)]
    async with AsyncExitStack() as stack:
        for guard in made:
            stack.push_async_callback(guard.close)
        for guard in made:
            await stack.enter_async_context(guard.worker(poll_seconds=0.2))
        await told.wait()
    ending.event.set()


def serve(order: dict[str, Any]) -> None:
    """Answer admins over HTTP."""
    import uvicorn
    from fastapi import FastAPI, Request

    from projection_guard.fastapi import Actor, admin_router, health_router

    def who(request: Request) -> Actor | None:
        name = request.headers.get("x-admin")
        return Actor(name=name, role="operator") if name else None

    app = FastAPI()
    for prefix, guard in (("/pushed", guards.pushed(order)), ("/followed", guards.followed(order))):
        app.include_router(health_router(guard, authorize=who), prefix=prefix)
        app.include_router(admin_router(guard, authorize=who, rate_limit=None), prefix=prefix)
    uvicorn.run(app, host="127.0.0.1", port=order["port"], log_level="warning", access_log=False)


class Lines(logging.Formatter):
    """What a handler has raised, and is on record, is logged with its frames: nobody is to take that for unhandled."""

    def format(self, record: logging.LogRecord) -> str:
        """Leave out the frames of a notice."""
        if hasattr(record, "notice"):
            record.exc_info = record.exc_text = None
        return super().format(record)


def main() -> None:
    """Play the role that was given."""
    order = json.loads(sys.argv[1])
    faulthandler.register(signal.SIGUSR2)  # where everything is, asked by who has waited too long
    if "FAKETIME" in os.environ:  # libfaketime spoils the sleep of Python, which is until a moment, not for a while
        time.sleep = threading.Event().wait  # type: ignore[assignment]
    if Path(projection_guard.__file__).parents[1] != Path(order["package"]):
        raise ImportError(f"{projection_guard.__file__} is not the build that this run is for")
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with suppress(KeyboardInterrupt):
        {"publisher": publish, "worker": work, "server": serve}[order["role"]](order)


if __name__ == "__main__":
    main()
