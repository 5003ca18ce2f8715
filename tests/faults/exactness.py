"""What is so, by a look of its own at the tables, the handlers' effects and their journal: nothing of the package.

One's own SQL, one's own connection; what is to be in the read model follows from the events' numbers alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

__all__ = ["Facts", "number", "of"]

STATES = """
SELECT event_id, how AS state FROM projection_applied_events WHERE projection_name = 'P'
UNION ALL SELECT event_id, 'failed' FROM projection_failures WHERE projection_name = 'P' AND resolved_at IS NULL
UNION ALL SELECT event_id, 'parked' FROM projection_parked_events WHERE projection_name = 'P'
"""
LEASES = """
SELECT lease_owner AS owner, lease_expires_at AS ends FROM projection_streams
UNION ALL SELECT lease_owner, lease_expires_at FROM projection_failures WHERE resolved_at IS NULL
UNION ALL SELECT lease_owner, lease_expires_at FROM projection_partitions
UNION ALL SELECT lease_owner, lease_expires_at FROM projection_replays WHERE finished_at IS NULL
"""
WAITING = """
SELECT 1 FROM projection_failures WHERE resolved_at IS NULL AND next_retry_at IS NOT NULL
UNION ALL SELECT 1 FROM projection_parked_events
UNION ALL SELECT 1 FROM projection_streams WHERE drain_after IS NOT NULL
UNION ALL SELECT 1 FROM projection_failures WHERE resolved_at IS NULL AND lease_owner IS NOT NULL
UNION ALL SELECT 1 FROM projection_applied_events WHERE NOT rolled_up
"""
BEHIND = """
UNION ALL SELECT 1 FROM projection_partitions WHERE partition >= 0 AND cursor < (SELECT max(sequence) FROM log)
"""
STATE = "SELECT state FROM projection_states WHERE projection_name = 'P'"
CLOSED = """
SELECT 'a blocked gate' AS what, '' AS which FROM projection_streams WHERE blocked OR lease_owner IS NOT NULL
UNION ALL SELECT 'an open failure', event_id FROM projection_failures WHERE resolved_at IS NULL
UNION ALL SELECT 'a held partition', '' FROM projection_partitions WHERE lease_owner IS NOT NULL AND partition >= 0
UNION ALL SELECT 'an unfinished job', '' FROM projection_replays WHERE finished_at IS NULL
UNION ALL SELECT 'a state', state FROM projection_states WHERE state <> 'active'
UNION ALL SELECT 'active failures', projection_name FROM projection_health_metrics WHERE active_failures <> 0
"""


class Facts:
    """Looks at projection "P", and at those streams of it: their names, and how many events each has."""

    def __init__(self, engine: Engine, streams: Mapping[str, int], journal: Path, *, is_followed: bool) -> None:
        self._engine = engine
        self._is_mysql = engine.dialect.name == "mysql"
        self._streams = streams
        self._journal = journal
        self._is_followed = is_followed
        self._checkpoint: int | None = None
        self._last_audit = 0
        self._last_replay = 0

    def _rows(self, sql: str, **parameters: object) -> list[Any]:
        if self._is_mysql:  # these are words of its own
            sql = re.sub(r"\b(partition|cursor)\b", r"`\1`", sql)
        with self._engine.connect() as connection:
            return list(connection.execute(text(sql), parameters))

    def begin(self) -> None:
        """Note what was before."""
        ((self._checkpoint,),) = self._rows("SELECT max(last_event_sequence) FROM projection_checkpoints")
        ((self._last_audit,),) = self._rows("SELECT coalesce(max(id), 0) FROM projection_audit_log")
        ((self._last_replay,),) = self._rows("SELECT count(*) FROM projection_replays")

    # -- while somebody has died, and nobody has taken it up

    def check_at_rest(self, *, is_joined: bool, lease_seconds: int) -> None:
        """P1, P3, P5, P6, leases and the audit log, whatever has happened."""
        states = self.states()
        self._check_counters()
        self._check_leases(lease_seconds)
        self._check_audit()
        for stream in self._streams:
            effects = self._effects(stream)
            assert len(effects) == self._count(stream), f"{stream}: its writes of one event are torn apart"
            if not self._is_followed:
                applied = {number(event) for event, state in states.items() if of(event) == stream and state in DONE}
                told = effects if is_joined else self._done(stream)
                assert (sorted(told) == sorted(applied)) if is_joined else applied <= set(told), (told, states)

    def check_kept(self, event_id: str) -> None:
        """P1: `publish` has returned for it."""
        assert event_id in self.states(), f"{event_id} is lost: publish returned, and it is in no state"

    def states(self) -> dict[str, str]:
        """Return what is on record of each event; none is in two states (P1)."""
        rows = self._rows(STATES)
        twice = [event for event, times in Counter(row.event_id for row in rows).items() if times > 1]
        assert not twice, f"in two states at once: {twice}"
        return {row.event_id: row.state for row in rows}

    def _check_counters(self) -> None:
        ((active, is_open),) = self._rows(
            "SELECT (SELECT sum(active_failures) FROM projection_health_metrics),"
            " (SELECT count(*) FROM projection_failures WHERE resolved_at IS NULL)"
        )
        assert active in (is_open, None), f"active_failures says {active}, {is_open} are open"  # None: no "P" yet
        ((checkpoint,),) = self._rows("SELECT max(last_event_sequence) FROM projection_checkpoints")
        if self._checkpoint is not None:
            assert checkpoint >= self._checkpoint, f"the checkpoint went from {self._checkpoint} to {checkpoint}"
        wrong = self._rows("SELECT id FROM projection_failures WHERE resolved_at IS NULL AND retry_count > max_retries")
        assert not wrong, "more retries were counted than there may be"

    def _check_leases(self, lease_seconds: int) -> None:
        latest = datetime.now(UTC) + timedelta(seconds=lease_seconds + 60)  # nobody in these tests asks for more
        for lease in self._rows(LEASES):
            assert (lease.owner is None) == (lease.ends is None), "a lease without an end"
            if lease.ends is not None:
                ends = datetime.fromisoformat(lease.ends) if isinstance(lease.ends, str) else lease.ends
                assert ends.replace(tzinfo=ends.tzinfo or UTC) < latest, "a lease that does not run out"

    def _check_audit(self) -> None:
        """An action is on record as often as it was done: once begun, and not ended before it was begun."""
        rows = self._rows("SELECT action, action_id FROM projection_audit_log WHERE id > :last", last=self._last_audit)
        assert len({row.action_id for row in rows}) == len(rows), "an action stands twice in the audit log"
        actions = [row.action for row in rows]
        begun, ended = actions.count("reset"), actions.count("reset_done") + actions.count("reset_undone")
        states = [row.state for row in self._rows(STATE)]
        assert ended <= begun, actions
        assert ("resetting" in states) == (bool(actions) and actions[-1] == "reset"), (actions, states)
        assert actions.count("replay") == self.replays(), "a replay that is not in the audit log"

    # -- when it has been taken up

    def is_anything_waiting(self) -> bool:
        """Return whether a worker has something to do: retries, a drain, the rest of the log, what is not counted."""
        behind = "UNION ALL SELECT 1 FROM projection_partitions WHERE partition >= 0 AND cursor < {}"
        return bool(
            self._rows(WAITING + (behind.format("(SELECT max(sequence) FROM log)") if self._is_followed else ""))
        )

    def replays(self) -> int:
        """Return how many jobs there are that were not there before."""
        ((number_of_jobs,),) = self._rows("SELECT count(*) FROM projection_replays")
        return int(number_of_jobs) - self._last_replay

    def is_replay_finished(self) -> bool:
        """Return whether all jobs have ended."""
        return not self._rows("SELECT 1 FROM projection_replays WHERE finished_at IS NULL")

    def check_cleared(self) -> None:
        """A reset has come to its end: nothing is on record, the read model is empty, it goes on."""
        assert self.states() == {}
        assert self._rows("SELECT 1 FROM effects WHERE projection = 'P'") == []
        assert [row.state for row in self._rows(STATE)] == ["active"]
        self._checkpoint = None

    def check_exhausted(self, event_id: str, *, most_calls: int) -> None:
        """It has used its attempts, the one in which the process died among them; a person is asked."""
        (row,) = self._rows("SELECT event_id, next_retry_at FROM projection_failures WHERE resolved_at IS NULL")
        assert (row.event_id, row.next_retry_at) == (event_id, None)
        calls = self._lines().count(f"call {event_id}")
        outages = self._rows(
            "SELECT verdict FROM projection_attempts JOIN projection_failures ON failure_id = projection_failures.id"
            " WHERE resolved_at IS NULL AND verdict = 'transient'"
        )
        allowed = most_calls + len(outages)  # a lost connection exhausts no event: such a try does not count
        assert calls <= allowed, f"{event_id} was tried {calls} times, {allowed} are allowed"

    def check_exact(self, *, is_joined: bool, times: int = 1) -> None:
        """P1, P2, P3 at the end: all effects are there, once (joined), in order; nothing is open, held or waits."""
        self._check_counters()
        self._check_audit()
        left = [tuple(row) for row in self._rows(CLOSED)]
        assert not left, left
        states = self.states()
        for stream, last in self._streams.items():
            wanted = list(range(1, last + 1))
            if is_joined:
                assert self._effects(stream) == wanted * times, f"{stream}: {self._effects(stream)}, not {wanted}"
                assert self._count(stream) == last * times
            else:
                done = self._done(stream)
                assert list(dict.fromkeys(done)) == wanted, f"{stream}: {done}, not {wanted}"
                assert is_in_turns(done, wanted), f"{stream}: an earlier one came after a later one: {done}"
            if not self._is_followed:
                assert [states.get(f"{stream}#{n}") for n in wanted] == ["applied"] * last

    # -- looks

    def _effects(self, stream: str) -> list[int]:
        sql = "SELECT n FROM effects WHERE projection = 'P' AND stream = :stream ORDER BY id"
        return [row.n for row in self._rows(sql, stream=stream)]

    def _count(self, stream: str) -> int:
        return sum(row.count for row in self._rows("SELECT count FROM counted WHERE stream = :stream", stream=stream))

    def _lines(self) -> list[str]:
        return self._journal.read_text().splitlines() if self._journal.exists() else []

    def _done(self, stream: str) -> list[int]:
        lines = [line.split() for line in self._lines()]
        return [number(event) for word, event in lines if word == "done" and of(event) == stream]


DONE = ("applied", "skipped", "fixed")


def number(event_id: str) -> int:
    """Return which of its stream it is."""
    return int(event_id.partition("#")[2])


def of(event_id: str) -> str:
    """Return its stream."""
    return event_id.partition("#")[0]


def is_in_turns(done: list[int], wanted: list[int]) -> bool:
    """Return whether none was passed over, however often calls began again before: 1 2 2 3, 1 2 1 2 3."""
    follows = all(after <= before + 1 for before, after in zip([0, *done], done, strict=False))
    return follows and set(done) == set(wanted)
