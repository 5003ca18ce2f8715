"""For tests of applications: faults, time, crashes, read models compared, and a real PostgreSQL on any machine.

    failing, hanging, killing       a handler of yours with a fault put in
    advance                         time passes at once: retries are due, leases run out
    crash_at, crash_sweep           the process dies, or its connection is lost, at a point of the flow
    assert_replay_equal             a read model that is filled again is what it was
    given                           given these events, when they are projected, then the read model is this
    postgres_server                 databases of one's own on a server that is found or started

None of it needs pytest; its fixtures are in `pytest_projection_guard`, which pytest loads by itself. The suites for
authors of an event source and of a codec are in `source_conformance` and `codec_conformance`. docs/testing.md shows
all. Nothing else in the library imports this module. It uses what the extra `projection-guard[test]` installs.
"""

from __future__ import annotations

from ._crashes import CrashOfSweep, crash_at, crash_sweep
from ._faults import Faulty, Hanging, InjectedFault, failing, hanging, killing
from ._found import PostgresFound, PostgresNotFound, find_postgres
from ._points import CRASH_POINTS, CrashPoint
from ._replay_equal import assert_replay_equal
from ._scenario import AsyncProjected, Given, Projected, given
from ._server import PostgresServer, postgres_server
from ._time import advance
from ._watched import Crash

__all__ = [
    "CRASH_POINTS",
    "AsyncProjected",
    "Crash",
    "CrashOfSweep",
    "CrashPoint",
    "Faulty",
    "Given",
    "Hanging",
    "InjectedFault",
    "PostgresFound",
    "PostgresNotFound",
    "PostgresServer",
    "Projected",
    "advance",
    "assert_replay_equal",
    "crash_at",
    "crash_sweep",
    "failing",
    "find_postgres",
    "given",
    "hanging",
    "killing",
    "postgres_server",
]
