"""The near side of the throw-away cluster: it starts the supervisor that owns it, and ends it by closing a pipe."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ._found import PostgresNotFound

__all__ = ["cluster"]

DURABLE = {"max_connections": "200", "max_prepared_transactions": "10", "timezone": "UTC", "log_timezone": "UTC"}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@contextmanager
def cluster(binaries: str, *, fast: bool = False) -> Generator[str]:
    """Run a new, empty PostgreSQL from these binaries and yield its URL; afterwards no process and no folder is left.

    It keeps PostgreSQL's own durability, since tests kill things; `fast` gives that up, and keeps
    the data in memory where there is room for it.
    """
    password = secrets.token_urlsafe(12)
    order = {
        "binaries": binaries,
        "password": password,
        "settings": DURABLE | (FAST if fast else {}),
        "is_fast": fast,
    }
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("_supervisor.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,  # a Ctrl-C in the terminal is for the tests; this one cleans up after them
    )
    with supervisor:  # closes the pipes, which ends the supervisor, and waits for it
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        supervisor.stdin.write(json.dumps(order).encode() + b"\n")
        supervisor.stdin.flush()
        answer = json.loads(supervisor.stdout.readline() or b'{"error": "its supervisor died"}')
        if "error" in answer:
            raise PostgresNotFound(f"No PostgreSQL could be started from {binaries}: {answer['error']}")
        try:
            yield f"postgresql+psycopg://postgres:{password}@127.0.0.1:{answer['port']}/postgres"
        finally:
            if supervisor.poll() is None:  # said in words, since a forked child may hold the pipe open
                supervisor.stdin.write(b"end\n")
                supervisor.stdin.flush()
