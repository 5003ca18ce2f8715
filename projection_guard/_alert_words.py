"""How an alert is worded: a title, and plain sentences that say what it means and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from ._alerts import AlertKind, AlertSeverity, AlertState

__all__ = ["severity_of", "text_of", "title_of"]

Facts = Mapping[str, Any]
_NAME: Final = "<name>"
_QUOTED: Final = "'<name>'"
_LOOK: Final = "guard.health('<name>'), GET /health/projections/<name> and `projection-guard status` say how it is now."


def severity_of(kind: AlertKind, state: AlertState, facts: Facts) -> AlertSeverity:
    """Say how urgent it is."""
    if state == "recovered" or kind is AlertKind.TEST:
        return "info"
    if kind is AlertKind.STATUS:
        return "warning" if facts.get("status") == "degraded" else "critical"
    is_loss_possible = kind is AlertKind.SKIPPED and facts.get("given_up")
    return "critical" if kind is AlertKind.STUCK or is_loss_possible else "warning"


def title_of(kind: AlertKind, state: AlertState, subject: str, facts: Facts) -> str:
    """Say it in one line."""
    name = _name(kind, subject, facts)
    if _is_unwatched(facts):
        return f"{name}: not watched any more"
    if state == "recovered":
        return f"{name}: recovered ({_CALM[kind]})"
    return f"{name}: {'still ' if state == 'reminder' else ''}{_TITLES[kind](facts)}"


def text_of(kind: AlertKind, state: AlertState, subject: str, facts: Facts) -> str:
    """Say what it means, and what to do."""
    if _is_unwatched(facts):
        return f"Alerts of this kind ({kind.value}) were switched off. Whether it is over is not known."
    if state == "recovered":
        return f"It is over: {_CALM[kind]}. Nothing has to be done."
    sentences = [_TEXTS[kind](facts), _errors(facts)]
    if kind not in (AlertKind.WORKER_GONE, AlertKind.TEST):
        sentences.append(_LOOK)
    text = " ".join(each for each in sentences if each)
    return text.replace(_QUOTED, repr(subject)).replace(_NAME, quote(subject, safe=""))


def _is_unwatched(facts: Facts) -> bool:
    return facts.get("watched") is False


def _name(kind: AlertKind, subject: str, facts: Facts) -> str:
    if kind is AlertKind.WORKER_GONE:
        return f"worker {facts.get('process_id', subject)} on {facts.get('host', 'a host')}"
    return subject or "projection_guard"


def _number(value: object, noun: str) -> str:
    return f"{value} {noun}" if value == 1 else f"{value} {noun}s"


def _errors(facts: Facts) -> str:
    """Name the errors that were met most, by type and fingerprint: their texts may quote events."""
    met: list[dict[str, Any]] = facts.get("errors") or []
    told = [f"{each['error_type']} ({each['count']}, fingerprint {each['fingerprint']})" for each in met]
    return f"Met most among the newest errors: {', '.join(told)}." if told else ""


def _status_title(facts: Facts) -> str:
    status, before = facts["status"], facts.get("before", "healthy")
    return str(status) if before == status else f"{status} (was {before})"


def _status(facts: Facts) -> str:
    return (
        f"Its health is {facts['status']}: {'; '.join(facts['reasons']) or 'it has become better meanwhile'}. Nothing "
        "is lost: what failed is on record, later events of those streams wait, all other streams go on."
    )


def _active_failures(facts: Facts) -> str:
    return (
        f"{_number(facts['active_failures'], 'event')} could not be applied, {facts['exhausted_failures']} of them "
        "wait for a person; later events of their streams wait behind them. See what they have in common: "
        "guard.failure_groups('<name>'), GET /admin/projections/failures/groups, `projection-guard failures groups`. "
        "Once the cause is mended retry them all: guard.propose_bulk(...), POST /admin/projections/bulk."
    )


def _lag(facts: Facts) -> str:
    state = facts.get("state", "active")
    stands = "" if state == "active" else f" The projection is {state}: is it meant to be, for so long?"
    return (
        f"The oldest event that waits is {facts['lag_seconds']:.0f} s old, and at most "
        f"{_number(facts['lag_events'], 'event')} wait: failed, parked, or still in the log.{stands} If nothing has "
        "failed, the handler is too slow or too few workers run: start more, give the projection partitions=, or look "
        "for locks in the database."
    )


def _exhausted(facts: Facts) -> str:
    return (
        f"{_number(facts['exhausted_failures'], 'failed event')} will not be retried any more, and later events of the "
        "stream wait. Mend the cause, then guard.resolve(failure_id, 'retry', actor=...), "
        "POST /admin/projections/failures/{id}/resolve, or `projection-guard failures retry`. 'skip' leaves an event "
        "out and taints its stream; 'manual_fix' says that its effect was made by hand."
    )


def _skipped(facts: Facts) -> str:
    given_up, holes = _number(facts["given_up"], "sequence"), _number(facts["holes"], "range")
    return (
        f"{given_up} of the log given up while a transaction could still have written there; {holes} empty for good. "
        "Where sequences were given up look whether something stands there by now, and if so replay that range: "
        "guard.skipped('<name>'), GET /admin/projections/<name>/skipped, "
        "guard.replay('<name>', from_sequence=..., actor=...)."
    )


def _worker_gone(facts: Facts) -> str:
    return (
        "It was killed, hangs, or cannot reach the database. What it had in hand is taken over by other workers when "
        "its leases end. See that enough of them run (guard.workers()), and start it again. "
        f"Its projections: {', '.join(facts.get('projections') or ['none'])}."
    )


_STUCK_TITLES: Final = {
    "no_worker": "stuck, work is due and nobody does it",
    "not_followed": "stuck, events are in the log and nobody follows it",
    "held": "held by the breaker, almost everything fails",
    "unreadable": "stuck, its event log cannot be read",
    "beyond": "stuck, it is beyond the end of its event log",
    "resetting": "stuck in a reset that was not finished",
    "left_job": "stuck in a replay that nobody runs",
}
_STUCK_TEXTS: Final = {
    "no_worker": (
        "Retries or parked events are due, and no worker takes them up. See that a worker with this projection runs "
        "(guard.workers()), that it reaches the database, and that nothing holds locks there."
    ),
    "not_followed": (
        "Events wait in the log, and the cursor does not move. See that a worker with this projection runs "
        "(guard.workers()), and whether an old transaction is open that may still write into the log "
        "(pg_stat_activity, the oldest xact_start): the follower waits for it."
    ),
    "held": (
        "So many failures in a row look like an outage of what the handler writes to. Events are kept unattempted, one "
        "is tried from time to time, and it goes on by itself with the first success. Look at what the handler needs."
    ),
    "unreadable": (
        "Its source raises when it is asked; the worker's log says with which error. Nothing is lost: it waits."
    ),
    "beyond": (
        "It has come further than the log goes: was the log restored from a backup? Events that are appended now are "
        "missed. Reset it, or pause it and call guard.follow_from('<name>', ...)."
    ),
    "resetting": (
        "Whoever reset it died, or on_reset hangs; events are parked meanwhile. Reset it again: "
        "guard.reset('<name>', actor=...), POST /admin/projections/<name>/reset."
    ),
    "left_job": (
        "A replay or rebuild is to run and nobody does; the projection stands still meanwhile. Start a worker that has "
        "this projection and its source, or end it: guard.cancel_replay(id, actor=...), "
        "POST /admin/projections/replays/{id}/cancel."
    ),
}


def _stuck_title(facts: Facts) -> str:
    reasons = facts.get("reasons") or ["no_worker"]
    return _STUCK_TITLES[reasons[0]]


def _stuck(facts: Facts) -> str:
    return " ".join(_STUCK_TEXTS[reason] for reason in facts.get("reasons") or ())


def _skipped_title(facts: Facts) -> str:
    return "positions of the log were given up" if facts.get("given_up") else "positions of the log were skipped"


def _test(facts: Facts) -> str:
    del facts
    return "Somebody asked for a test of the alerts. Nothing is wrong, and nothing has to be done."


_TITLES: Final[Mapping[AlertKind, Callable[[Facts], str]]] = {
    AlertKind.STATUS: _status_title,
    AlertKind.ACTIVE_FAILURES: lambda facts: _number(facts["active_failures"], "unresolved failure"),
    AlertKind.LAG: lambda facts: f"{facts['lag_seconds']:.0f} s behind",
    AlertKind.EXHAUSTED: lambda facts: f"{_number(facts['exhausted_failures'], 'failure')} to be decided by a person",
    AlertKind.SKIPPED: _skipped_title,
    AlertKind.STUCK: _stuck_title,
    AlertKind.WORKER_GONE: lambda facts: f"gone, silent for {facts.get('silent_seconds', 0.0):.0f} s",
    AlertKind.TEST: lambda _: "a test alert",
}
_TEXTS: Final[Mapping[AlertKind, Callable[[Facts], str]]] = {
    AlertKind.STATUS: _status,
    AlertKind.ACTIVE_FAILURES: _active_failures,
    AlertKind.LAG: _lag,
    AlertKind.EXHAUSTED: _exhausted,
    AlertKind.SKIPPED: _skipped,
    AlertKind.STUCK: _stuck,
    AlertKind.WORKER_GONE: _worker_gone,
    AlertKind.TEST: _test,
}
_CALM: Final[Mapping[AlertKind, str]] = {
    AlertKind.STATUS: "healthy",
    AlertKind.ACTIVE_FAILURES: "few or no unresolved failures",
    AlertKind.LAG: "little or no lag",
    AlertKind.EXHAUSTED: "no failure waits for a person",
    AlertKind.SKIPPED: "no skipped positions are on record any more",
    AlertKind.STUCK: "it moves again",
    AlertKind.WORKER_GONE: "it showed itself again, was stopped, or another one has taken its place",
    AlertKind.TEST: "the test is over",
}
