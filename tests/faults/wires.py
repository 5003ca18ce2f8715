"""What the proxy knows of a protocol: where a message ends, what it asks for, and when its answer is whole.

Each connection has a wire of its own, which is told everything that is said on it, in its order.
"""

from __future__ import annotations

import re
import struct
from asyncio import StreamReader
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["COMMIT", "EVERY", "REQUEST", "STATEMENT", "WRITE", "Answer", "Message", "MysqlWire", "PostgresWire", "Wire"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of the client's. `spoiled`: the same with a statement that is a syntax error.

    `begins`: it is the first of what the client writes to its socket at once. `ends`: the server answers it, and what
    came before it, as a whole. `is_spoken`: in a session that has begun, and does not end with it.
    """

    raw: bytes
    sql: str = ""
    spoiled: bytes = b""
    begins: bool = True
    ends: bool = True
    is_spoken: bool = True
    is_farewell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A piece of what the server says. `ends`: a request is answered with it; `commits`: a COMMIT is done."""

    raw: bytes
    ends: bool = False
    commits: bool = False


class Wire(Protocol):
    """A connection's protocol, as both sides have spoken it so far. `session`: its number at the server's."""

    port: int
    session: int
    end_session: str
    """The statement by which another session ends one."""

    async def opening(self, client: StreamReader) -> bytes:
        """Read what the client says before anything is a message."""
        ...

    async def message(self, client: StreamReader) -> Message:
        """Read what the client says next."""
        ...

    async def answer(self, server: StreamReader) -> Answer:
        """Read what the server says next."""
        ...


class PostgresWire:
    """PostgreSQL's: P parses, B binds, D describes, E executes, S syncs, Q is a simple query, X says farewell."""

    port = 5432
    end_session = "SELECT pg_terminate_backend({})"

    def __init__(self) -> None:
        self.session = 0
        self._begins = True

    async def opening(self, client: StreamReader) -> bytes:
        """Read the startup packet, which has no letter."""
        (length,) = struct.unpack("!I", head := await client.readexactly(4))
        return head + await client.readexactly(length - 4)

    async def message(self, client: StreamReader) -> Message:
        """Read a message."""
        kind, body = await self._read(client)
        begins, self._begins = self._begins, kind in b"QSXp"
        sql, spoiled = "", self._written(kind, body)
        if kind == b"Q":
            sql, spoiled = body.rstrip(b"\0").decode(), self._written(b"Q", b"injected fault\0")
        elif kind == b"P":
            name, statement, rest = body.split(b"\0", 2)
            sql, spoiled = statement.decode(), self._written(b"P", b"\0".join((name, b"injected fault", rest)))
        return Message(
            raw=self._written(kind, body),
            sql=sql,
            spoiled=spoiled,
            begins=begins,
            ends=kind in b"QS",
            is_spoken=kind in b"PBDEQSHCF",
            is_farewell=kind == b"X",
        )

    async def answer(self, server: StreamReader) -> Answer:
        """Read a message; K tells the session, C what was done, Z that it is ready for more."""
        kind, body = await self._read(server)
        if kind == b"K":
            (self.session,) = struct.unpack("!I", body[:4])
        commits = kind == b"C" and body == b"COMMIT\0"
        return Answer(raw=self._written(kind, body), ends=kind == b"Z", commits=commits)

    async def _read(self, reader: StreamReader) -> tuple[bytes, bytes]:
        head = await reader.readexactly(5)
        (length,) = struct.unpack("!I", head[1:])
        return head[:1], await reader.readexactly(length - 4)

    def _written(self, kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body


_LOGIN: Final = -1
_QUERY, _QUIT = b"\3", b"\1"
_OK, _ERROR, _EOF = 0x00, 0xFF, 0xFE
_SHORTEST_ROW_LIKE_EOF: Final = 9
_MORE_FOLLOWS: Final = 8
_TLS: Final = 8  # of the second byte
_ONE_END: Final = 1 << 24  # CLIENT_DEPRECATE_EOF


class MysqlWire:
    """MariaDB's and MySQL's, without compression: a command is answered before the next one is said.

    An answer is one packet, or the number of columns, the columns, an end, the rows, an end. With a client that has
    said so at its login (asyncmy, not PyMySQL) there is no end between columns and rows, and the last one is told
    like what a statement did.
    """

    port = 3306
    end_session = "KILL {}"

    def __init__(self) -> None:
        self.session = 0
        self._sql = ""
        self._ends_to_come = _LOGIN
        self._has_one_end = False

    async def opening(self, client: StreamReader) -> bytes:
        """Read nothing: the server speaks first."""
        del client
        return b""

    async def message(self, client: StreamReader) -> Message:
        """Read a command; what belongs to the login is numbered on."""
        number, body = await self._read(client)
        raw = self._written(number, body)
        if number == 1 and self._ends_to_come == _LOGIN:
            (able,) = struct.unpack_from("<I", body)
            self._has_one_end = bool(able & _ONE_END)
        if number:
            return Message(raw=raw, is_spoken=False)
        is_query, is_farewell = body[:1] == _QUERY, body[:1] == _QUIT
        self._sql, self._ends_to_come = body[1:].decode(errors="replace") if is_query else "", 0
        spoiled = self._written(0, b"\3injected fault") if is_query else raw
        return Message(
            raw=raw,
            sql=self._sql,
            spoiled=spoiled,
            ends=not is_farewell,
            is_spoken=not is_farewell,
            is_farewell=is_farewell,
        )

    async def answer(self, server: StreamReader) -> Answer:
        """Read a packet; the greeting tells the session."""
        number, body = await self._read(server)
        if self._ends_to_come == _LOGIN:
            return Answer(raw=self._written(number, body if number else self._greeted(body)))
        raw, first = self._written(number, body), body[0]
        is_end = first == _EOF and (self._has_one_end or len(body) < _SHORTEST_ROW_LIKE_EOF)
        if first == _ERROR:
            self._ends_to_come = 0
        elif self._ends_to_come and is_end:
            self._ends_to_come -= 1
        elif not self._ends_to_come and first != _OK and not is_end:
            self._ends_to_come = 1 if self._has_one_end else 2
        is_whole = not self._ends_to_come and not self._goes_on(body)
        commits = first == _OK and is_whole and COMMIT(Message(raw=b"", sql=self._sql))
        return Answer(raw=raw, ends=is_whole, commits=commits)

    def _greeted(self, body: bytes) -> bytes:
        """Note the session; do not offer TLS, which would be taken."""
        at = body.index(b"\0", 1) + 1
        (self.session,) = struct.unpack_from("<I", body, at)
        at += 14  # four bytes of the session, nine of the login, and one of what the server can
        return body[:at] + bytes([body[at] & ~_TLS]) + body[at + 1 :]

    def _goes_on(self, body: bytes) -> bool:
        """Return whether another result follows the one that ends here, as the server's status says."""
        if body[0] == _EOF and not self._has_one_end:
            return bool(struct.unpack_from("<H", body, 3)[0] & _MORE_FOLLOWS)
        if body[0] not in (_OK, _EOF):
            return False
        at = 1
        for _ in range(2):  # how many rows, and the last number, each as long as its first byte says
            at += {0xFC: 3, 0xFD: 4, 0xFE: 9}.get(body[at], 1)
        return bool(struct.unpack_from("<H", body, at)[0] & _MORE_FOLLOWS)

    async def _read(self, reader: StreamReader) -> tuple[int, bytes]:
        head = await reader.readexactly(4)
        length = int.from_bytes(head[:3], "little")
        assert length < 0xFFFFFF, "a packet that goes on in the next one"
        return head[3], await reader.readexactly(length)

    def _written(self, number: int, body: bytes) -> bytes:
        return len(body).to_bytes(3, "little") + bytes([number]) + body


Which = Callable[[Message], bool]


def EVERY(message: Message) -> bool:  # noqa: N802  # these five are chosen from, like constants
    """Every message of a session that has begun."""
    return message.is_spoken


def STATEMENT(message: Message) -> bool:  # noqa: N802
    """The statements of the guard, not those of the tests' handlers."""
    return bool(message.sql) and not re.search(r"\b(effects|counted)\b", message.sql)


def REQUEST(message: Message) -> bool:  # noqa: N802
    """What the server answers as a whole."""
    return message.ends and message.is_spoken


def WRITE(message: Message) -> bool:  # noqa: N802
    """What the client writes to its socket at once; the farewell of a session that is closed does nothing."""
    return message.begins and not message.is_farewell


def COMMIT(message: Message) -> bool:  # noqa: N802
    """A statement that commits."""
    return message.sql.upper().startswith("COMMIT")
