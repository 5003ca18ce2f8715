"""The process whose children die, as a test sees it: it gives an order, breaks something, and is told what came of it.

with Zygote() as zygote:
    end = zygote.let_die({**play.order(), "url": ..., ...}, break_it=lambda pid: proxy.kill(pid, at=3))
    assert end.is_killed or end.returned
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.faults.processes import Victim

__all__ = ["End", "Zygote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What a child said before it ended. `writes`: how often it wrote to its disk, where that was broken."""

    is_killed: bool
    returned: bool
    raised: str = ""
    writes: int = 0


class Zygote:
    """Children one after the other, forked from a process that has imported everything."""

    def __init__(self) -> None:
        self._process = Victim("tests.faults.crasher")

    def let_die(self, order: dict[str, Any], *, break_it: Callable[[int], int | None]) -> End:
        """Let a child get ready, break something of that process's, and let it go on; return how it ended.

        `break_it` may return a number for the child: the write to its disk at which that breaks.
        """
        self._say(json.dumps(order))
        word, _, pid = self._process.line().partition(" ")
        assert word == "ready", f"the child says {word!r}"
        try:
            at = break_it(int(pid)) or 0
        except BaseException:  # a skip, too: the next order is for another child
            os.kill(int(pid), signal.SIGKILL)
            self._hear_out()
            raise
        self._say(str(at))
        said = self._hear_out()
        assert said["ended"] in ("0", "-9"), f"the child ended with {said['ended']}"
        return End(
            is_killed=said["ended"] == "-9",
            returned="returned" in said,
            raised=said.get("raised", ""),
            writes=int(said.get("writes", "0")),
        )

    def _hear_out(self) -> dict[str, str]:
        said: dict[str, str] = {}
        while "ended" not in said:
            word, _, rest = self._process.line().partition(" ")
            assert word, "the process whose children die has died"
            said[word] = rest
        return said

    def _say(self, line: str) -> None:
        stdin = self._process.process.stdin
        assert stdin is not None
        stdin.write(line + "\n")
        stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)
