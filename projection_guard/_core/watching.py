"""A look at everything that people may have to be told of: what is seen, what that comes to, what is written down.

One transaction does all of it, and holds the rows of what it looks at: however many workers look, each change is told
once. What it writes for receivers, `telling` gives them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection

from .._alert_rules import STATUSES, Seen, Sign, Standing, Step, sign_of_worker, signs_of_projection, step, unwatched
from .._alert_words import severity_of, text_of, title_of
from .._alerts import Alert, AlertKind, AlertPolicy, AlertState
from .._health import HealthPolicy, Lag
from .._store import alerts, messages, reading, workers
from .._store.alerts import WORKERS, Place
from .context import Context, transact

__all__ = ["LOOK_EVERY_SECONDS", "composed", "log_alert", "look"]

log = logging.getLogger("projection_guard")
LOOK_EVERY_SECONDS: Final = 5.0
_WORKERS_KEPT: Final = timedelta(hours=23)
"""Shortly before a worker that was not heard of for a day is forgotten. Then it has not come back."""
_WITH_ERRORS: Final = (AlertKind.STATUS, AlertKind.ACTIVE_FAILURES, AlertKind.EXHAUSTED)


async def look(
    context: Context, policy: AlertPolicy, receivers: Sequence[str], wanted: Sequence[str], lags: Mapping[str, Lag]
) -> list[Alert]:
    """Look at those of the projections (and the workers) at which nobody looks just now; return what is told."""

    def do(connection: Connection) -> list[Alert]:
        taken = alerts.take_looks(connection, wanted, LOOK_EVERY_SECONDS)
        watch = _Watch(connection=connection, policy=policy, receivers=receivers, now=reading.now(connection))
        names = [name for name in taken if name != WORKERS]
        if names:
            watch.projections(context.health, names, lags)
        if WORKERS in taken:
            watch.workers()
            watch.forget_old()
        return watch.told

    told = await transact(context, do, what="alerts")
    for alert in told:
        log_alert(alert)
    return told


def log_alert(alert: Alert) -> None:
    """Log what is told: one line."""
    level = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}[alert.severity]
    known = {"alert": alert.kind.value, "state": alert.state, "incident": str(alert.incident), "id": str(alert.id)}
    log.log(level, "alert %s: %s", alert.state, alert.title, extra={"projection_guard": known})


@dataclass(slots=True, kw_only=True)
class _Watch:
    """One look, within its transaction."""

    connection: Connection
    policy: AlertPolicy
    receivers: Sequence[str]
    now: datetime
    told: list[Alert] = field(default_factory=list[Alert])

    def projections(self, health: HealthPolicy, names: list[str], lags: Mapping[str, Lag]) -> None:
        """Look at projections."""
        before = alerts.standing(self.connection, names)
        left = alerts.left_jobs(self.connection, names)
        for each in reading.judged(self.connection, health, lags, names):
            name = each.health.projection_name
            policy = self.policy.of(name)
            if policy is None:
                self._without_policy({place: at for place, at in before.items() if place.subject == name})
                continue
            seen = Seen(
                health=each.health,
                signs=each.signs,
                state_seconds=each.state_seconds,
                given_up=each.signs.lag.given_up,
                holes=alerts.holes(self.connection, name) if policy.holes else 0,
                left_job=left.get(name),
            )
            for sign in signs_of_projection(seen, policy):
                place = Place(subject=name, kind=sign.kind)
                self._note(place, before.get(place), sign, policy)

    def _without_policy(self, standing: Mapping[Place, Standing]) -> None:
        """Nothing is to be told of a projection: what is on record of it ends without a word."""
        for place, before in standing.items():
            came = step(before, unwatched(place.kind), self.policy, incident=before.incident, now=self.now)
            if came.standing is None:
                alerts.forget(self.connection, place)
            elif came.standing != before:
                alerts.go_on(self.connection, place, came.standing)

    def workers(self) -> None:
        """Look at the workers."""
        before = alerts.standing_of_workers(self.connection)
        found = workers.seen(self.connection)
        for worker in found:
            place = Place(subject=worker.worker_id, kind=AlertKind.WORKER_GONE)
            standing = before.pop(place, None)
            if worker.kind != "service":
                continue
            is_told = standing is not None and standing.told_at is not None
            sign = sign_of_worker(worker, self.policy, found, is_told=is_told)
            came = self._note(place, standing, sign, self.policy)
            if came.told == "recovered" and "replaced_by" in sign.facts:
                workers.leave(self.connection, worker.worker_id)
        for place, standing in before.items():
            self._without_row(place, standing)

    def _without_row(self, place: Place, standing: Standing) -> None:
        """A worker has stopped after all; or it was forgotten, since it has not been heard of for a day."""
        if self.now - standing.since > _WORKERS_KEPT:
            alerts.forget(self.connection, place)
            return
        sign = Sign(kind=place.kind, level=0, may_clear=True, facts=standing.facts)
        self._note(place, standing, sign, self.policy)

    def forget_old(self) -> None:
        """Take away what no receiver of ours was given in time."""
        for receiver in messages.forget_old(self.connection, self.policy.gives_up_after_seconds + 3600):
            log.error("alerts for %s were given up: no process gives it any; was it renamed or taken away?", receiver)

    def _note(self, place: Place, before: Standing | None, sign: Sign, policy: AlertPolicy) -> Step:
        came = step(before, sign, policy, incident=uuid4(), now=self.now)
        if came.told is not None:
            self._tell(place, before, sign, came, came.told)
        elif came.standing is None and before is not None:
            alerts.forget(self.connection, place)
        elif came.standing is not None and came.standing != before:
            self._keep(place, came.standing, sign)
        return came

    def _keep(self, place: Place, standing: Standing, sign: Sign) -> None:
        if standing.told_at is not None:
            alerts.go_on(self.connection, place, standing)
            return
        waiting = replace(standing, facts=sign.facts)
        title = title_of(sign.kind, "firing", place.subject, _levelled(sign, standing.level, 0))
        alerts.put(self.connection, place, waiting, severity=severity_of(sign.kind, "firing", sign.facts), title=title)

    def _tell(self, place: Place, before: Standing | None, sign: Sign, came: Step, state: AlertState) -> None:
        facts = _levelled(sign, came.standing.level if came.standing else 0, came.before)
        if sign.kind in _WITH_ERRORS and state != "recovered":
            facts["errors"] = alerts.errors_met(self.connection, place.subject)
        standing = came.standing or before
        assert standing is not None, "what is told began at some time"
        alert = composed(place, sign.kind, state, facts, standing, self.now)
        if came.standing is None:
            alerts.forget(self.connection, place)
        else:
            kept = replace(came.standing, facts=facts)
            alerts.put(self.connection, place, kept, severity=alert.severity, title=alert.title)
        messages.write(self.connection, place.subject, alert, self._who_hears(place, state))
        self.told.append(alert)

    def _who_hears(self, place: Place, state: AlertState) -> list[str]:
        if state != "reminder":
            return list(self.receivers)
        waiting = messages.waiting(self.connection, place.subject, place.kind.value)
        return [receiver for receiver in self.receivers if receiver not in waiting]


def _levelled(sign: Sign, level: int, before: int) -> dict[str, Any]:
    """Return the facts that are told: of a status the one that lasted, and the one before."""
    if sign.kind is not AlertKind.STATUS or not sign.is_watched:
        return dict(sign.facts)
    return {**sign.facts, "status": STATUSES[level], "before": STATUSES[before]}


def composed(
    place: Place, kind: AlertKind, state: AlertState, facts: Mapping[str, Any], standing: Standing, now: datetime
) -> Alert:
    """Make a message."""
    is_worker = kind is AlertKind.WORKER_GONE
    return Alert(
        id=uuid4(),
        incident=standing.incident,
        kind=kind,
        state=state,
        severity=severity_of(kind, state, facts),
        title=title_of(kind, state, place.subject, facts),
        text=text_of(kind, state, place.subject, facts),
        projection=None if is_worker else (place.subject or None),
        worker=place.subject if is_worker else None,
        facts=facts,
        since=standing.since,
        at=now,
    )
