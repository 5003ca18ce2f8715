"""Judges a broker run from the database alone. Imports nothing of the package: its own connection, its own SQL."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import psycopg

__all__ = ["Finding", "Stand", "judge", "stand"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was broken. `kind`: lost, twice, order, model, stuck."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """How far it has come."""

    applied: int
    failed: int
    parked: int


def stand(url: str) -> Stand:
    """Count, in one snapshot."""
    with psycopg.connect(url, application_name="oracle", connect_timeout=30) as connection:
        row = connection.execute(
            "SELECT (SELECT coalesce(sum(applied), 0) FROM broker_model), "
            "(SELECT count(*) FROM projection_failures WHERE resolved_at IS NULL), "
            "(SELECT count(*) FROM projection_parked_events)"
        ).fetchone()
    assert row is not None
    return Stand(applied=int(row[0]), failed=int(row[1]), parked=int(row[2]))


def judge(url: str, lengths: Mapping[str, int]) -> list[Finding]:
    """Compare what was done with what was published: of each stream the events from 1 to its length, in order."""
    with psycopg.connect(url, application_name="oracle", connect_timeout=30) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        journal = connection.execute("SELECT stream, n FROM broker_journal ORDER BY id").fetchall()
        model = connection.execute("SELECT stream, applied, chain FROM broker_model").fetchall()
    done: dict[str, list[int]] = defaultdict(list)
    for stream, n in journal:
        done[stream].append(n)
    found: list[Finding] = []
    for stream in lengths.keys() | done.keys():
        found += _judged(stream, done[stream], lengths.get(stream, 0))
    kept = {stream: (applied, chain) for stream, applied, chain in model}
    for stream, length in lengths.items():
        if kept.get(stream) != (length, _chain(length)):
            found.append(Finding("model", f"{stream}: its read model is not the fold of its {length} events"))
    return found


def _judged(stream: str, came: list[int], length: int) -> list[Finding]:
    counted = Counter(came)
    found = [Finding("lost", f"{stream}#{n}") for n in range(1, length + 1) if not counted[n]]
    found += [Finding("twice", f"{stream}#{n}: {times} times") for n, times in counted.items() if times > 1]
    found += [Finding("twice", f"{stream}#{n} was never published") for n in counted if not 1 <= n <= length]
    first = list(dict.fromkeys(came))
    found += [
        Finding("order", f"{stream}: {later} came before {earlier}")
        for later, earlier in pairwise(first)
        if earlier < later
    ]
    return found


def _chain(length: int) -> str:
    chain = ""
    for n in range(1, length + 1):
        chain = hashlib.md5(f"{chain}:{n}".encode(), usedforsecurity=False).hexdigest()
    return chain
