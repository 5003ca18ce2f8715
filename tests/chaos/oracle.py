"""Judges a run from the database alone. Imports nothing of the package: its own connection, its own SQL, its own fold.

A look is one snapshot: what the log says must have become of each event, against what the handlers left behind and
what the guard's tables claim. What it takes for true of a publisher is only what that was told (`acked`).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

__all__ = ["Finding", "Oracle", "Seen"]

_LATE_NUMBERS: Final = 5000
"""How far below the highest number of the log a transaction may still commit one."""

_LOG: Final = "SELECT sequence, stream_id, n FROM chaos_log WHERE sequence > {after}"
_LEFT_OUT: Final = """
SELECT f.projection_name, f.event_id FROM projection_failures f
WHERE f.resolution_method IN ('manual_skip', 'manual_fix') AND NOT EXISTS (
    SELECT 1 FROM chaos_resets r WHERE r.projection = f.projection_name AND r.at > f.resolved_at)
"""
_OPEN: Final = "SELECT projection_name, event_id FROM projection_failures WHERE resolved_at IS NULL"
_PARKED: Final = "SELECT projection_name, event_id FROM projection_parked_events"
_TAINTED: Final = """
SELECT projection_name, stream_id FROM projection_streams
WHERE tainted AND tainted_reason NOT LIKE 'an event was skipped by%'
"""
_CHECKPOINTS: Final = "SELECT projection_name, last_event_sequence FROM projection_checkpoints"
_HEALTH: Final = "SELECT projection_name, active_failures FROM projection_health_metrics"
_RESTING: Final = "SELECT projection_name FROM projection_states WHERE state IN ('active', 'paused')"
_REPLAYING: Final = "SELECT projection_name FROM projection_replays WHERE finished_at IS NULL"
_PARTITIONS: Final = """
SELECT projection_name, partition, fence, lease_owner, lease_expires_at > {now}
FROM projection_partitions WHERE partition >= 0
"""
_FAR_LEASES: Final = """
SELECT 'a partition of ' || projection_name FROM projection_partitions WHERE partition >= 0 AND lease_expires_at > {far}
UNION ALL SELECT 'a stream of ' || projection_name FROM projection_streams WHERE lease_expires_at > {far}
UNION ALL SELECT 'a failure of ' || projection_name FROM projection_failures
WHERE resolved_at IS NULL AND lease_expires_at > {far}
"""
"""Nobody asks for more than seconds: who does has a wrong clock. SQLite's is the one of the process that writes."""
_ACTED: Final = "SELECT id, action, projection_name FROM projection_audit_log WHERE id > {after}"
_UNAUDITED: Final = """
SELECT count(*) FROM projection_failures f WHERE (f.resolved_by LIKE 'admin-%' AND NOT EXISTS (
    SELECT 1 FROM projection_audit_log a WHERE a.actor = f.resolved_by AND (
        a.failure_id = f.id OR (a.action IN ('reset', 'rebuild') AND a.projection_name = f.projection_name)))
) OR (f.resolution_method IN ('manual_skip', 'manual_fix') AND NOT EXISTS (
    SELECT 1 FROM projection_audit_log a WHERE a.actor = f.resolved_by AND a.actor LIKE 'admin-%'
    AND a.failure_id = f.id AND a.action IN ('skip', 'manual_fix')))
"""
"""What is left out of the fold is left out by a person, by that very deed: who is believed here hides what is lost."""
_DOUBLES: Final = """
SELECT projection, stream, n, count(*) FROM chaos_journal GROUP BY projection, stream, n HAVING count(*) > 1
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was broken. `kind`: lost, twice, order, states, checkpoint, count, lease or audit."""

    kind: str
    text: str


@dataclass(slots=True)
class Seen:
    """What stood in the database in one snapshot."""

    model: dict[tuple[str, str], tuple[int, int, str]]
    open_failures: set[tuple[str, str]]
    parked: set[tuple[str, str]]
    left_out: dict[str, set[str]]
    tainted: set[tuple[str, str]]
    checkpoints: dict[str, int]
    health: dict[str, int]
    at_rest: set[str]
    partitions: dict[tuple[str, int], tuple[int, str | None, bool]]
    resets: Counter[str]
    unaudited: int
    acted: dict[int, tuple[str, str]]
    audit_rows: int
    doubles: dict[tuple[str, str, int], int]
    far_leases: list[str]

    @property
    def progress(self) -> tuple[int, int, int, int]:
        """A number of things that change whenever anything goes on."""
        applied = sum(row[0] for row in self.model.values())
        return applied, sum(self.checkpoints.values()), len(self.open_failures), len(self.parked)


@dataclass(slots=True)
class _Fold:
    """The chain of a stream without what was skipped, after each of its events."""

    left_out: frozenset[int] = frozenset()
    chains: list[str] = field(default_factory=lambda: [""])
    counts: list[int] = field(default_factory=lambda: [0])

    def upto(self, n: int) -> tuple[int, str]:
        while len(self.chains) <= n:
            number = len(self.chains)
            last, count = self.chains[-1], self.counts[-1]
            if number not in self.left_out:
                last, count = hashlib.md5(f"{last}:{number}".encode(), usedforsecurity=False).hexdigest(), count + 1
            self.chains.append(last)
            self.counts.append(count)
        return self.counts[n], self.chains[n]


class Oracle:
    """Looks at a database that is named by a libpq URL or a SQLite file."""

    def __init__(self, where: str, *, joined: Sequence[str], apart: Sequence[str], followed: Sequence[str]) -> None:
        self._where = where
        self._joined, self._apart, self._followed = joined, apart, followed
        self.log: dict[int, tuple[str, int]] = {}
        self._folds: dict[tuple[str, str], _Fold] = defaultdict(_Fold)
        self._before: Seen | None = None
        self.looks = 0
        self.acted: dict[int, tuple[str, str]] = {}
        self.tainted: set[tuple[str, str]] = set()

    # -- reading

    def rows(self, sql: str) -> list[Any]:
        """Ask one thing past everything else."""
        with self._connected() as (ask, _):
            answer: list[Any] = ask(sql)
            return answer

    def _connected(self) -> Any:
        return _Connected(self._where)

    def _read(self) -> Seen:
        with self._connected() as (ask, is_sqlite):
            now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')" if is_sqlite else "now()"
            far = now.replace("'now'", "'now', '+10 minutes'") if is_sqlite else "now() + interval '1 minute'"
            newest = max(self.acted, default=0)
            self.log |= {
                sequence: (stream, n)
                for sequence, stream, n in ask(_LOG.format(after=max(self.log, default=0) - _LATE_NUMBERS))
            }
            left_out: dict[str, set[str]] = defaultdict(set)
            for projection, event in ask(_LEFT_OUT):
                left_out[projection].add(event)
            return Seen(
                model={(p, s): (applied, n, chain) for p, s, applied, n, chain in ask("SELECT * FROM chaos_model")},
                open_failures=set(ask(_OPEN)),
                parked=set(ask(_PARKED)),
                left_out=left_out,
                tainted=set(ask(_TAINTED)),
                checkpoints={projection: int(sequence or 0) for projection, sequence in ask(_CHECKPOINTS)},
                health=dict(ask(_HEALTH)),
                at_rest={p for (p,) in ask(_RESTING)} - {p for (p,) in ask(_REPLAYING)},
                partitions={
                    (p, number): (fence, owner, bool(lives))
                    for p, number, fence, owner, lives in ask(_PARTITIONS.format(now=now))
                },
                resets=Counter(p for (p,) in ask("SELECT projection FROM chaos_resets")),
                unaudited=int(ask(_UNAUDITED)[0][0]),
                acted={number: (action, p) for number, action, p in ask(_ACTED.format(after=newest - _LATE_NUMBERS))},
                audit_rows=int(ask("SELECT count(*) FROM projection_audit_log")[0][0]),
                doubles={(p, s, n): times for p, s, n, times in ask(_DOUBLES)},
                far_leases=[whose for (whose,) in ask(_FAR_LEASES.format(far=far))],
            )

    # -- judging

    def look(self, acked: Mapping[str, int]) -> tuple[Seen, list[Finding]]:
        """Judge one snapshot. `acked`: the last event of each stream that was acknowledged before it."""
        seen = self._read()
        self.looks += 1
        self.tainted |= {(p, s) for p, s in seen.tainted}
        lengths = self._lengths()
        found = [Finding("audit", "a failure was resolved by somebody who is not on record")] * bool(seen.unaudited)
        found += [Finding("lease", f"{whose} is held for minutes") for whose in seen.far_leases]
        found += [*self._models(seen), *self._states(seen, acked, lengths), *self._counts(seen)]
        if self._before is not None:
            found += self._since(self._before, seen)
        self._before = seen
        return seen, found

    def _lengths(self) -> dict[str, int]:
        lengths: dict[str, int] = {}
        for stream, n in self.log.values():
            lengths[stream] = max(lengths.get(stream, 0), n)
        return lengths

    def _fold(self, seen: Seen, projection: str, stream: str) -> _Fold:
        numbers = frozenset(
            int(event.rpartition("#")[2])
            for event in seen.left_out.get(projection, ())
            if event.rpartition("#")[0] == stream
        )
        fold = self._folds[projection, stream]
        if fold.left_out != numbers:
            fold = self._folds[projection, stream] = _Fold(left_out=numbers)
        return fold

    def _models(self, seen: Seen) -> list[Finding]:
        """P2 and P3: each read model is the fold of a beginning of its stream, without what was skipped."""
        found: list[Finding] = []
        for (projection, stream, n), times in seen.doubles.items():
            if (projection, stream) in seen.tainted:  # its fold says nothing; what came twice is twice all the same
                found.append(Finding("twice", f"{projection}: {stream}#{n} has {times} effects"))
        for (projection, stream), (applied, last, chain) in seen.model.items():
            if (projection, stream) in seen.tainted:
                continue
            count, wanted = self._fold(seen, projection, stream).upto(last)
            if applied == count and chain == wanted:
                continue
            kind = "twice" if applied > count else "lost" if applied < count else "order"
            found.append(Finding(kind, f"{projection}: {stream} has {applied} of {count} events up to {last}"))
        return found

    def _states(self, seen: Seen, acked: Mapping[str, int], lengths: Mapping[str, int]) -> list[Finding]:
        """P1: what was acknowledged, or stands at or below a checkpoint, is in exactly one state."""
        found = [
            Finding("states", f"{projection}: {event} is failed and parked")
            for projection, event in seen.open_failures & seen.parked
        ]
        reached: dict[str, Mapping[str, int]] = {
            projection: self._below(seen.checkpoints.get(projection, 0))
            for projection in self._joined
            if projection in self._followed and projection in seen.at_rest
        }
        reached |= {projection: acked for projection in self._joined if projection not in self._followed}
        for projection, ends in reached.items():
            left_out = seen.left_out.get(projection, set())
            for stream, end in ends.items():
                last = seen.model.get((projection, stream), (0, 0, ""))[1]
                for n in range(last + 1, end + 1):
                    it = (projection, f"{stream}#{n}")
                    if it not in seen.open_failures and it not in seen.parked and it[1] not in left_out:
                        found.append(Finding("lost", f"{projection}: {it[1]} is in no state; {last} was the last"))
        for projection, event in seen.open_failures | seen.parked:
            stream, _, number = event.rpartition("#")
            last = seen.model.get((projection, stream), (0, 0, ""))[1]
            if projection in self._joined and int(number) <= last and (projection, stream) not in seen.tainted:
                found.append(Finding("states", f"{projection}: {event} is open, but {last} was applied"))
        return found

    def _below(self, checkpoint: int) -> dict[str, int]:
        ends: dict[str, int] = {}
        for sequence, (stream, n) in self.log.items():
            if sequence <= checkpoint:
                ends[stream] = max(ends.get(stream, 0), n)
        return ends

    def _counts(self, seen: Seen) -> list[Finding]:
        """P6: the number of active failures is the number of unresolved rows."""
        rows = Counter(projection for projection, _ in seen.open_failures)
        return [
            Finding("count", f"{projection}: active_failures is {number}, unresolved rows are {rows[projection]}")
            for projection, number in {**dict.fromkeys(rows, 0), **seen.health}.items()
            if number != rows[projection]
        ]

    def _since(self, before: Seen, seen: Seen) -> list[Finding]:
        """P5, leases and the audit log: what may only go forward."""
        found: list[Finding] = []
        for projection, at in before.checkpoints.items():
            now = seen.checkpoints.get(projection, 0)
            if now < at and seen.resets[projection] == before.resets[projection]:
                found.append(Finding("checkpoint", f"{projection}: the checkpoint went from {at} to {now}"))
        for key, (fence, owner, _) in before.partitions.items():
            now_fence, now_owner, lives = seen.partitions.get(key, (fence, owner, False))
            if now_fence < fence or (owner and now_owner and lives and owner != now_owner and now_fence == fence):
                found.append(Finding("lease", f"{key}: fence {fence} to {now_fence}, owner changed"))
        asked_for = Counter(projection for action, projection in self._asked(seen) if action in ("reset", "rebuild"))
        for projection, resets in seen.resets.items():
            if resets > asked_for[projection]:
                found.append(Finding("audit", f"{projection}: {resets} resets, {asked_for[projection]} on record"))
        common = before.acted.keys() & seen.acted.keys()
        if seen.audit_rows < before.audit_rows or any(before.acted[key] != seen.acted[key] for key in common):
            found.append(Finding("audit", "rows of the audit log are gone or have changed"))
        return found

    def _asked(self, seen: Seen) -> list[tuple[str, str]]:
        self.acted |= seen.acted
        return list(self.acted.values())

    # -- the end

    def final(self, acked: Mapping[str, int]) -> tuple[Seen, list[Finding], int]:
        """Judge the end, when nothing is open any more; also return how often apart handlers were called again."""
        seen, found = self.look(acked)
        lengths, again = self._lengths(), 0
        evidence: dict[tuple[str, str], list[int]] = defaultdict(list)
        for projection, stream, n in self.rows(
            "SELECT projection, stream, n FROM chaos_journal ORDER BY id"
        ) + self.rows("SELECT projection, stream, n FROM chaos_calls ORDER BY id"):
            evidence[projection, stream].append(n)
        for projection in (*self._joined, *self._apart):
            ends = lengths if projection in self._followed else acked
            for stream, end in ends.items():
                done = evidence[projection, stream]
                if projection in self._apart:
                    again += len(done) - len(set(done))
                    done = list(dict.fromkeys(done))
                left_out = self._fold(seen, projection, stream).left_out
                # what nobody was told of may have come as well
                wanted = [n for n in range(1, max([end, *done]) + 1) if n not in left_out]
                is_tainted = (projection, stream) in self.tainted
                found += self._journal(projection, stream, done, wanted, is_tainted=is_tainted)
        return seen, found, again

    def _journal(
        self, projection: str, stream: str, done: list[int], wanted: list[int], *, is_tainted: bool
    ) -> list[Finding]:
        where, counted = f"{projection}: {stream}", Counter(done)
        found = [Finding("lost", f"{where}#{n} has no effect") for n in wanted if not counted[n]]
        if projection in self._joined:
            found += [Finding("twice", f"{where}#{n} has {times} effects") for n, times in counted.items() if times > 1]
            found += [Finding("twice", f"{where}#{n} was skipped and applied") for n in counted.keys() - set(wanted)]
        if not found and not is_tainted and [n for n in done if n in set(wanted)] != wanted:
            found.append(Finding("order", f"{where} came as {done}"))
        return found


class _Connected:
    """One snapshot of the database: everything that is asked within sees the same."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> tuple[Any, bool]:
        if self._where.startswith("postgresql"):
            connection: Any = psycopg.connect(
                self._where, connect_timeout=5, autocommit=True, application_name="oracle"
            )
            self._connection = connection
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return (lambda sql: connection.execute(sql).fetchall()), False
        connection = sqlite3.connect(self._where, timeout=30, isolation_level=None)
        self._connection = connection
        connection.execute("BEGIN")
        return (lambda sql: connection.execute(sql).fetchall()), True

    def __exit__(self, *_: object) -> None:
        self._connection.close()
