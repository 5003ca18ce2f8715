"""A TCP proxy between the guard and its server that reads the protocol and breaks it at one chosen place.

    proxy.cut(at=3)                 # the connection ends right before the third message from the client
    proxy.swallow(at=2)             # the second request is answered, the answer is lost, the connection ends
    proxy.spoil(at=4)               # the fourth statement of the guard is an error
    proxy.kill(pid, at=5)           # that process is killed right before its fifth write reaches the server
    proxy.lose_commit(at=1)         # the server commits, nobody is told; with `kill=pid` that process is dead, too
    proxy.end_session(at=3)         # another session ends this one (KILL, pg_terminate_backend) before that message
    ...                             # the guard does something
    assert proxy.disarm()           # has it happened?

A cut is clean: what was sent before it has reached the server, which has ended the session, before the client sees
that its connection is gone. `stays_away` then refuses every connection until `come_back()`. PostgreSQL, MariaDB and
MySQL are spoken (`tests.faults.wires`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from tests.faults.wires import (
    COMMIT,
    EVERY,
    REQUEST,
    STATEMENT,
    WRITE,
    Answer,
    Message,
    MysqlWire,
    PostgresWire,
    Which,
    Wire,
)

__all__ = ["COMMIT", "EVERY", "REQUEST", "STATEMENT", "WRITE", "Message", "Proxy", "Which"]


@dataclass(slots=True, kw_only=True)
class _Fault:
    deed: Literal["cut", "swallow", "spoil", "strand", "kill", "lose commit", "end session"]
    which: Which
    at: int
    stays_away: bool
    pid: int | None = None
    seen: int = 0
    is_done: bool = False

    def hits(self, message: Message) -> bool:
        return not self.is_done and self.which(message) and self._counts()

    def hits_reply(self, answer: Answer) -> bool:
        """Return whether this is the reply of the server that gets lost: a COMMIT is done."""
        return self.deed == "lose commit" and answer.commits and not self.is_done and self._counts()

    def _counts(self) -> bool:
        self.seen += 1
        self.is_done = self.seen == self.at
        return self.is_done

    def kill(self) -> None:
        """End the process that it is about, if any: it is gone when nobody has told it what became of its write."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, wire: Wire, streams: list[Any]) -> None:
        self.proxy = proxy
        self.wire = wire
        self.client_reader, self.client, self.server_reader, self.server = streams
        self.swallows = False
        self.is_cut = False
        self.ended = asyncio.Event()
        self.answered = asyncio.Event()

    async def run(self) -> None:
        """Carry messages until either side ends."""
        self.server.write(await self.wire.opening(self.client_reader))
        up, down = asyncio.ensure_future(self.carry_messages()), asyncio.ensure_future(self.carry_down())
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            if self.is_cut:
                await asyncio.wait([up])
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self.end()

    def end(self) -> None:
        """Close both sides."""
        self.ended.set()
        for writer in (self.server, self.client):
            with contextlib.suppress(OSError):
                writer.close()

    async def carry_messages(self) -> None:
        while True:
            message = await self.wire.message(self.client_reader)
            await self.proxy.hold_up(self)
            if self.ended.is_set():
                return
            fault = self.proxy.fault
            if fault is None or not fault.hits(message):
                self.server.write(message.raw)
                continue
            if fault.stays_away:
                self.proxy.stay_away(but=self)
            match fault.deed:
                case "spoil":
                    self.server.write(message.spoiled)
                case "swallow":
                    self.swallows = True
                    self.server.write(message.raw)
                case "cut" | "kill":
                    fault.kill()
                    await self.cut()
                    return
                case "strand":
                    self.client.close()
                    await self.answered.wait()
                    return
                case "end session":
                    await self.proxy.order(self.wire.end_session.format(self.wire.session))
                    await self.answered.wait()
                    return

    async def cut(self) -> None:
        """End the server's side; only when the server is done with it, the client's."""
        self.is_cut = self.swallows = True
        with contextlib.suppress(OSError):
            self.server.write_eof()
        await self.answered.wait()
        self.client.close()

    async def carry_down(self) -> None:
        """Carry what the server says, message by message."""
        try:
            while True:
                answer = await self.wire.answer(self.server_reader)
                await self.proxy.hold_up(self)
                if self.ended.is_set():
                    return
                if (fault := self.proxy.fault) is not None and fault.hits_reply(answer):
                    self.swallows = True
                    fault.kill()
                if not self.swallows:
                    if not self.client.is_closing():
                        self.client.write(answer.raw)
                elif answer.ends and not self.is_cut:
                    self.client.close()
                    return
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        finally:
            self.answered.set()


class Proxy:
    """The proxy; a context manager. `url` is where the guard finds the database through it."""

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._wire = PostgresWire if self._target.get_backend_name() == "postgresql" else MysqlWire
        self.fault: _Fault | None = None
        self.is_away = False
        self._delay_seconds = 0.0
        self._dead: set[_Link] = set()
        self._links: set[_Link] = set()
        self._wires: list[Wire] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """The database's URL through the proxy."""
        through = self._target.set(host="127.0.0.1", port=self.port)
        if self._wire is PostgresWire:
            through = through.update_query_dict({"sslmode": "disable", "gssencmode": "disable"})
        return through.render_as_string(hide_password=False)

    @property
    def sessions(self) -> frozenset[int]:
        """The server's numbers of all sessions that there have been."""
        return frozenset(wire.session for wire in self._wires)

    # -- what can be asked for

    def cut(self, *, at: int = 1, which: Which = EVERY, stays_away: bool = False) -> None:
        """End the connection right before the `at`-th such message."""
        self.fault = _Fault(deed="cut", which=which, at=at, stays_away=stays_away)

    def swallow(self, *, at: int = 1, which: Which = REQUEST, stays_away: bool = False) -> None:
        """Let the `at`-th such request be done by the server, lose its answer and end the connection."""
        self.fault = _Fault(deed="swallow", which=which, at=at, stays_away=stays_away)

    def spoil(self, *, at: int = 1, which: Which = STATEMENT) -> None:
        """Make the `at`-th such statement an error."""
        self.fault = _Fault(deed="spoil", which=which, at=at, stays_away=False)

    def strand(self, *, at: int = 1, which: Which = EVERY) -> None:
        """End the client's side only: the server goes on waiting for it, as it does when a link goes dead."""
        self.fault = _Fault(deed="strand", which=which, at=at, stays_away=False)

    def slow(self, seconds: float) -> None:
        """Keep every message, either way, for so long; 0 for not at all."""
        self._delay_seconds = seconds

    def blackhole(self) -> None:
        """Carry nothing any more on the links there are, and end none of them; `go_away` does."""
        self._on_loop(lambda: self._dead.update(self._links))

    async def hold_up(self, link: _Link) -> None:
        """On the loop: keep a message for as long as that is asked for."""
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        if link in self._dead:
            await link.ended.wait()

    def kill(self, pid: int, *, at: int = 1) -> None:
        """Kill that process right before its `at`-th write; what it wrote before, the server has done."""
        self.fault = _Fault(deed="kill", which=WRITE, at=at, stays_away=False, pid=pid)

    def lose_commit(self, *, at: int = 1, kill: int | None = None) -> None:
        """Let the `at`-th COMMIT be done, lose its reply and end the connection; `kill` that process before that."""
        self.fault = _Fault(deed="lose commit", which=lambda _: False, at=at, stays_away=False, pid=kill)

    def end_session(self, *, at: int = 1, which: Which = EVERY) -> None:
        """Let another session end the connection's own right before the `at`-th such message."""
        self.fault = _Fault(deed="end session", which=which, at=at, stays_away=False)

    async def order(self, statement: str) -> None:
        """On the loop: say something to the server beside all links."""

        def say() -> None:
            engine = create_engine(self._target, poolclass=NullPool, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)

        await asyncio.to_thread(say)

    def disarm(self) -> bool:
        """Break nothing any more, let connections in again; return whether what was asked for has happened."""
        fault, self.fault = self.fault, None
        self.come_back()
        return fault is not None and fault.is_done

    def go_away(self) -> None:
        """End all connections and refuse new ones."""
        self._on_loop(lambda: self.stay_away(but=None))

    def _on_loop(self, deed: Callable[[], None]) -> None:
        done = threading.Event()

        def do() -> None:
            deed()
            done.set()

        self._loop.call_soon_threadsafe(do)
        assert done.wait(60)

    def stay_away(self, but: _Link | None) -> None:
        """On the loop: refuse new connections, and end those there are."""
        self.is_away = True
        for link in list(self._links):
            if link is not but:
                link.end()

    def come_back(self) -> None:
        """Let connections in again."""
        self.is_away = False

    # -- running

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_away:
            writer.close()
            return
        try:
            upstream = await asyncio.open_connection(
                self._target.host or "127.0.0.1", self._target.port or self._wire.port
            )
        except OSError:
            writer.close()
            return
        self._wires.append(self._wire())
        link = _Link(self, self._wires[-1], [reader, writer, *upstream])
        self._links.add(link)
        try:
            await link.run()
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            link.end()
        finally:
            self._links.discard(link)
            self._dead.discard(link)

    async def _start(self) -> asyncio.Server:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return await asyncio.start_server(accepted, "127.0.0.1", 0)

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for link in list(self._links):
            link.end()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(self._server), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()
