"""SQLite's transactions of this process and `fork()`: none of the guard's is open at that moment.

A child inherits SQLite's own record of who in the process holds which lock. Was a thread of the parent in the middle
of writing, the child would find the file locked by itself for ever (https://www.sqlite.org/howtocorrupt.html, 2.6), so
a fork waits for those transactions to end and holds new ones up meanwhile. PostgreSQL needs none of this.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from typing import Final

__all__ = ["act_for", "enter", "leave"]

log = logging.getLogger("projection_guard")
_LONGEST_WAIT_SECONDS: Final = 10.0


class _Latch:
    """Counts the transactions of each thread; held by the thread that forks, while it forks."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._inside: Counter[int] = Counter()
        self._forks = False

    def enter(self) -> None:
        """Begin; waits while another thread forks."""
        me = threading.get_ident()
        with self._changed:
            while self._forks and not self._inside[me]:
                self._changed.wait()
            self._inside[me] += 1

    def leave(self) -> None:
        """End."""
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no other thread is inside, and keep everybody out until the fork is over."""
        end = time.monotonic() + _LONGEST_WAIT_SECONDS
        self._changed.acquire()
        self._forks = True
        while self._others() and time.monotonic() < end:
            self._changed.wait(end - time.monotonic())
        if self._others():
            log.warning(
                "fork() did not wait any longer for a transaction on SQLite; the child may find the database locked"
            )

    def after_fork_in_parent(self) -> None:
        """Let everybody in."""
        self._forks = False
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: of the parent's threads there is only this one."""
        self._changed = threading.Condition(threading.RLock())
        self._inside = Counter({me: self._inside[me] for me in [threading.get_ident()] if self._inside[me]})
        self._forks = False

    def _others(self) -> bool:
        mine = {threading.get_ident(), getattr(_acts, "acts_for", None)}
        return any(thread not in mine for thread in self._inside)


_acts: Final = threading.local()
_latch: Final = _Latch()
enter, leave = _latch.enter, _latch.leave


def act_for(thread: int) -> None:
    """Say that this thread runs a handler for another one, which waits for it: a fork here need not wait for that."""
    _acts.acts_for = thread


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_latch.before_fork,
        after_in_parent=_latch.after_fork_in_parent,
        after_in_child=_latch.after_fork_in_child,
    )
