"""The rows are moved: in the transaction that made the guard's tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, select

from ..._dialect import utc_now
from ..._health import HealthPolicy
from ..._store import adopted, audits, parked, tracker
from ..._store.tracker import Theirs
from ...errors import SchemaError
from ..context import new_token
from .opened import Known, Opened, decide, place
from .rows import Reader
from .tables import Tally, checkpoints_of, failures_of, metrics_of
from .told import begins_after

__all__ = ["Gathered", "gather", "move"]

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A tracker's rows as the guard gets them. `failures` are read, and counted, while one goes through them."""

    opened: Mapping[UUID, Opened]
    failures: Iterator[dict[str, Any]]
    checkpoints: Mapping[str, dict[str, Any]]
    metrics: Mapping[str, dict[str, Any]]
    tally: Tally


def gather(
    connection: Connection,
    theirs: Mapping[str, Theirs],
    columns: Mapping[str, Mapping[str, str]],
    known: Known,
    reader: Reader,
    *,
    is_aside: bool,
) -> Gathered:
    """Read a tracker's tables, where they are or where they have been set aside."""
    tally = Tally()
    now: datetime = connection.execute(select(utc_now())).scalar_one()

    def rows(name: str, *, only_open: bool = False) -> Iterable[Mapping[str, object]]:
        if name not in theirs:
            return ()
        return tracker.rows(connection, theirs[name], columns[name], is_aside=is_aside, only_open=only_open)

    opened = decide(rows("projection_failures", only_open=True), reader, known)
    return Gathered(
        opened=opened,
        failures=failures_of(rows("projection_failures"), opened, reader, tally, now),
        checkpoints=checkpoints_of(rows("projection_checkpoints"), reader, tally),
        metrics=metrics_of(rows("projection_health_metrics"), reader, tally),
        tally=tally,
    )


def move(connection: Connection, gathered: Gathered, known: Known, policy: HealthPolicy, *, actor: str) -> None:
    """Write everything. Raises `SchemaError` where the guard has rows of one of these projections already."""
    while part := list(islice(gathered.failures, _AT_ONCE)):
        adopted.write_failures(connection, part)
    names = sorted(gathered.tally.names)
    there = adopted.has_rows_of(connection, names)
    if there:
        raise SchemaError(f"The guard has {', '.join(there)} on record already; a tracker is adopted before it works")
    for name in names:
        _begin(connection, gathered, known, name)
    _line_up(connection, gathered, known)
    for name in names:
        active = adopted.recount(connection, policy, name)
        _note(connection, gathered, name, active, actor)


def _begin(connection: Connection, gathered: Gathered, known: Known, name: str) -> None:
    checkpoint = gathered.checkpoints.get(name)
    begins = begins_after(known, name, checkpoint)
    adopted.begin(connection, name, known.order_of(name), follows=begins is not None)
    if checkpoint is not None:
        logged = {} if begins is None else {"last_event_sequence": begins}
        adopted.write_checkpoint(connection, name, {**checkpoint, **logged})
    if begins is not None:
        reached = [
            each.ticket.event.sequence or 0 for each in gathered.opened.values() if each.ticket.projection == name
        ]
        number = known.projections[name].partitions
        adopted.follow(connection, name, number, begins, rescan_until=max(reached, default=0))
    metrics = {name: value for name, value in gathered.metrics.get(name, {}).items() if name != "active_failures"}
    adopted.write_metrics(connection, name, metrics)


def _line_up(connection: Connection, gathered: Gathered, known: Known) -> None:
    """Let each stream wait for its first failure, the others parked behind it in their order."""
    for opened in sorted(gathered.opened.values(), key=place):
        if opened.fate == "parked":
            projection = known.projections.get(opened.ticket.projection)
            is_in_log = projection is not None and projection.is_followed
            parked.park(connection, [opened.ticket], None if is_in_log else opened.payload, "blocked")
    tickets = {
        (each.ticket.projection, each.ticket.gate): each.ticket
        for each in gathered.opened.values()
        if each.fate != "twice"
    }
    for key in sorted(tickets):
        adopted.block(connection, tickets[key], known.order_of(key[0]))


def _note(connection: Connection, gathered: Gathered, name: str, active: int, actor: str) -> None:
    said = gathered.metrics.get(name, {}).get("active_failures")
    fates = {fate: gathered.tally.fates[name, fate] for fate in ("resolved", "retried", "waits", "parked")}
    audits.write(
        connection,
        action_id=new_token(),
        actor=actor,
        action="adopt",
        projection=name,
        note="moved over from a tracker of the application's own",
        details={**fates, "active_failures": active, "active_failures_by_the_tracker": said},
    )
