"""What the doctor makes of what it was told: pure functions from facts to findings, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from .._core.projection import Projection
from .._model import Health
from .._records import WorkerState
from .._store.diagnosing import Idle, Known, Left, Waiting
from .._store.server import Server
from ._progress import lasting
from ._screen import counted

__all__ = [
    "Facts",
    "Finding",
    "Verdict",
    "findings",
    "of_server",
    "worst",
]

Verdict = Literal["ok", "warning", "problem"]
_CLOCK_WARNING_SECONDS: Final = 2.0
_CLOCK_PROBLEM_SECONDS: Final = 60.0
_LONG_RESET_SECONDS: Final = 600.0
"""A worker gives a sign of life every 10 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found in one respect, and what to do about it; `advice` is None where nothing is to be done."""

    check: str
    verdict: Verdict
    detail: str
    advice: str | None = None
    projection_name: str | None = None


def worst(found: Sequence[Finding]) -> Verdict:
    """Return the worst verdict."""
    told = {each.verdict for each in found}
    if "problem" in told:
        return "problem"
    return "warning" if "warning" in told else "ok"


# -- the database


def of_server(server: Server, before: datetime, after: datetime) -> Iterator[Finding]:
    """Judge the database; it was asked between these two moments of the clock here."""
    yield _clock(server.now, before, after)
    yield _rights(server)
    if server.is_pooled is not None:
        yield _pooler(is_pooled=server.is_pooled)
    if server.journal_mode is not None:
        yield _journal(server.journal_mode)


def _clock(now: datetime, before: datetime, after: datetime) -> Finding:
    """Tell how far the clocks are apart, at the least: the answer took a while, too."""
    apart = max((before - now).total_seconds(), (now - after).total_seconds(), 0.0)
    verdict: Verdict = "ok"
    if apart >= _CLOCK_WARNING_SECONDS:
        verdict = "problem" if apart >= _CLOCK_PROBLEM_SECONDS else "warning"
    if verdict == "ok":
        return Finding(check="clock", verdict=verdict, detail="the database's clock and this one agree")
    whose = "behind" if now < before else "ahead of"
    return Finding(
        check="clock",
        verdict=verdict,
        detail=f"the database's clock is {lasting(apart)} {whose} this one",
        advice="let both be set by NTP; leases and retries go by the database's, times of your events by yours",
    )


def _rights(server: Server) -> Finding:
    if server.is_read_only:
        return Finding(
            check="rights",
            verdict="problem",
            detail="the database takes no writes: a standby, or default_transaction_read_only",
            advice="connect to the primary",
        )
    if server.lacks:
        name, rights = next(iter(server.lacks.items()))
        others = len(server.lacks) - 1
        more = f", and more on {others} other tables" if others else ""
        return Finding(
            check="rights",
            verdict="warning",
            detail=f"the role {server.role} lacks {', '.join(rights)} on {name}{more}: it can look at most",
            advice="use the application's role, with the grants of docs/security.md",
        )
    whose = "" if server.role is None else f" of {server.role}"
    return Finding(check="rights", verdict="ok", detail=f"all tables can be read and written{whose}")


def _pooler(*, is_pooled: bool) -> Finding:
    detail = "connections come straight to the server"
    if is_pooled:
        detail = "connections come through a pooler, such as PgBouncer in transaction mode; nothing is prepared on them"
    return Finding(check="pooler", verdict="ok", detail=detail)


def _journal(mode: str) -> Finding:
    if mode.lower() in ("wal", "memory"):
        return Finding(check="journal", verdict="ok", detail=f"SQLite's journal mode is {mode}")
    return Finding(
        check="journal",
        verdict="warning",
        detail=f"SQLite's journal mode is {mode}: readers and the writer wait for each other",
        advice="PRAGMA journal_mode = WAL; the guard does so where the file system can",
    )


# -- what is on record


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the guard's tables say. `registered` are the application's projections; None without an application."""

    known: Mapping[str, Known]
    healths: Sequence[Health]
    left: Sequence[Left]
    idle: Sequence[Idle]
    waiting: Sequence[Waiting]
    workers: Sequence[WorkerState]
    registered: Mapping[str, Projection] | None


def findings(facts: Facts) -> Iterator[Finding]:
    """Judge what is on record. What is well is told in one line."""
    found = [
        *_workers(facts),
        *_leases(facts),
        *_jobs(facts),
        *_work(facts),
        *(each for known in facts.known.values() for each in _states(known)),
        *(each for health in facts.healths for each in _failures(health)),
        *_registration(facts),
    ]
    yield from found
    told = {each.check for each in found}
    if facts.registered is None:  # nobody can say
        told.add("registration")
    if not facts.workers:
        told.add("workers")
    quiet = [name for name in _CHECKS if name not in told]
    yield from (Finding(check=name, verdict="ok", detail=_CHECKS[name]) for name in quiet)


_CHECKS: Final = {
    "workers": "workers give signs of life",
    "leases": "no lease is left behind",
    "jobs": "no replay and no bulk action waits for somebody who runs it",
    "work": "no retry and no parked event is overdue",
    "states": "no reset was broken off, nothing is held",
    "failures": "no failure waits for a person",
    "streams": "no stream is tainted",
    "registration": "the database and the application know the same projections",
}


def _workers(facts: Facts) -> Iterator[Finding]:
    for worker in facts.workers:
        if worker.is_silent:
            yield Finding(
                check="workers",
                verdict="warning",
                detail=f"the worker in process {worker.process_id} on {worker.host} has been silent for "
                f"{lasting(worker.silent_seconds)}: it was killed, hangs, or cannot reach the database",
                advice="others take over what it had in hand; its row goes by itself after a day",
            )
    if facts.known and all(worker.is_silent for worker in facts.workers):
        yield Finding(
            check="workers",
            verdict="warning",
            detail="no worker is at work: what fails is not tried again, what is parked stays so",
            advice="run projection-guard worker beside it, or let the application start one (worker='auto')",
        )


def _leases(facts: Facts) -> Iterator[Finding]:
    for left in facts.left:
        yield Finding(
            check="leases",
            verdict="warning",
            detail=f"{counted(left.number, f'{left.what} lease')} ran out {lasting(left.for_seconds)} ago, still held: "
            "their process died",
            advice="start a worker: it takes them over",
            projection_name=left.projection,
        )


def _jobs(facts: Facts) -> Iterator[Finding]:
    for job in facts.idle:
        steer = f"bulk cancel {job.id}" if job.what.startswith("bulk ") else f"replays cancel {job.id}"
        yield Finding(
            check="jobs",
            verdict="problem",
            detail=f"{job.what} {job.id} has not moved for {lasting(job.for_seconds)}, and nobody runs it",
            advice=f"start a worker where the projection is registered, or end it: projection-guard {steer}",
            projection_name=job.projection,
        )


def _work(facts: Facts) -> Iterator[Finding]:
    for waits in facts.waiting:
        yield Finding(
            check="work",
            verdict="problem",
            detail=f"{waits.number} due for up to {lasting(waits.for_seconds)}, and nobody does them: retries, or "
            "streams with parked events",
            advice="start a worker where the projection is registered",
            projection_name=waits.projection,
        )


def _states(known: Known) -> Iterator[Finding]:
    name = known.name
    if known.state == "resetting":
        is_long = known.for_seconds >= _LONG_RESET_SECONDS
        by = "somebody" if known.actor is None else known.actor
        yield Finding(
            check="states",
            verdict="problem" if is_long else "warning",
            detail=f"it has been resetting for {lasting(known.for_seconds)}, begun by {by}",
            advice=f"where that process died, reset it again: projection-guard reset {name}",
            projection_name=name,
        )
    if known.state in ("replaying", "rebuilding") and not known.has_job:
        yield Finding(
            check="states",
            verdict="problem",
            detail=f"it is {known.state}, and there is no such job",
            advice=f"were rows deleted by hand? reset it: projection-guard reset {name}",
            projection_name=name,
        )
    if known.held_since is not None:
        yield Finding(
            check="states",
            verdict="warning",
            detail=f"it has been held since {known.held_since:%Y-%m-%d %H:%M:%S} UTC: everything failed, which looks "
            "like an outage",
            advice="mend what its handler needs; one event at a time is tried, and it goes on by itself",
            projection_name=name,
        )


def _failures(health: Health) -> Iterator[Finding]:
    name = health.projection_name
    if health.exhausted_failures:
        yield Finding(
            check="failures",
            verdict="warning",
            detail=f"{counted(health.exhausted_failures, 'failure')} exhausted: no retry is planned",
            advice=f"projection-guard failures groups --projection {name}; then failures retry, skip or resolve",
            projection_name=name,
        )
    if health.tainted_streams:
        yield Finding(
            check="streams",
            verdict="warning",
            detail=f"{counted(health.tainted_streams, 'stream')} tainted: an event was skipped, or order may be broken",
            advice=f"projection-guard streams {name} --state tainted; then replay {name} --stream ID, or mend the read "
            f"model by hand and untaint {name} ID",
            projection_name=name,
        )


def _registration(facts: Facts) -> Iterator[Finding]:
    if facts.registered is None:
        return
    for name in sorted(facts.known.keys() - facts.registered.keys()):
        yield Finding(
            check="registration",
            verdict="warning",
            detail="it is detached: the database knows it, and the application does not register it",
            advice="register it, or run the application that does; was it renamed, rebuild it under the new name",
            projection_name=name,
        )
    for name in sorted(facts.registered.keys() - facts.known.keys()):
        yield Finding(
            check="registration",
            verdict="warning",
            detail="it is registered, and the database has no record of it yet",
            advice="it is made when the application or a worker first runs; is this the application's database?",
            projection_name=name,
        )
    for name in sorted(facts.registered.keys() & facts.known.keys()):
        yield from _differences(facts.known[name], facts.registered[name])


def _differences(known: Known, registered: Projection) -> Iterator[Finding]:
    if known.order != registered.order.value:
        yield Finding(
            check="registration",
            verdict="warning",
            detail=f"it was run with order={known.order!r}, and is registered with {registered.order.value!r}",
            advice="it changes when the application starts, where nothing is failed or parked",
            projection_name=known.name,
        )
    if known.is_followed != registered.is_followed:
        was, is_now = ("followed", "pushed") if known.is_followed else ("pushed", "followed")
        yield Finding(
            check="registration",
            verdict="warning",
            detail=f"the database has it as {was}, and the application registers it as {is_now}",
            advice="docs/following.md, From pushed to followed, says what happens then",
            projection_name=known.name,
        )
