"""Builds of the package with one planted bug each: an oracle that was never red proves nothing.

A mutant is a copy of the package in a folder of its own, in which a piece of text, that has to be there exactly once,
is another one. The programs of a run import that copy; nothing in the package knows of it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.processes import ROOT

__all__ = ["MUTANTS", "Edit", "Mutant", "build"]

_SLEEP: Final = "__import__('time').sleep"


@dataclass(frozen=True, slots=True)
class Edit:
    """A piece of a file, and what it is turned into."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug. `kinds`: what the oracle may call it; `faults`: what brings it to light."""

    name: str
    edits: tuple[Edit, ...]
    kinds: frozenset[str]
    faults: tuple[str, ...]


def _mutant(name: str, *edits: Edit, kinds: str, faults: str = "") -> Mutant:
    return Mutant(name, edits, frozenset(kinds.split()), tuple(filter(None, faults.split(","))))


MUTANTS: Final = (
    _mutant(
        "no fence",
        Edit(
            "_core/stand.py",
            "        self.cursors = {p: max(cursor, self.cursors.get(p, 0)) for p, cursor in held.cursors.items()}\n"
            "        if not held.cursors:\n"
            "            self.lose()\n"
            "            return False\n",
            "        if not held.cursors:\n            return True\n"
            "        self.cursors = {p: max(cursor, self.cursors.get(p, 0)) for p, cursor in held.cursors.items()}\n",
        ),
        Edit(
            "_core/stand.py",
            "held.cursors.get(event.partition, event.sequence) < event.sequence",
            "held.cursors.get(event.partition, 0) < event.sequence",
        ),
        Edit("_core/following.py", "                if not rows:\n", "                if not rows and False:\n"),
        kinds="twice",
        faults="stop after reading",
    ),
    _mutant(
        "an unknown commit is done again",
        Edit(
            "_core/stand.py",
            "held.cursors.get(event.partition, event.sequence) < event.sequence",
            "event.partition in held.cursors",
        ),
        kinds="twice",
        faults="reply swallowed,backends",
    ),
    _mutant(
        "checkpoint and failure in two transactions",
        Edit(
            "_core/lone.py",
            "        gates.lock(connection, self.ticket)\n        written = write_failure(",
            "        self.advance(connection, OutcomeStatus.FAILED)\n        connection.commit()\n"
            f"        {_SLEEP}(0.2)\n"
            "        gates.lock(connection, self.ticket)\n        written = write_failure(",
        ),
        kinds="lost",
        faults="none",
    ),
    _mutant(
        "nothing is parked",
        Edit("_store/claims.py", '_FREE = "NOT g.blocked AND (', '_FREE = "('),
        kinds="lost order states",
        faults="none",
    ),
    _mutant(
        "one position for all partitions",
        Edit(
            "_store/steps.py",
            "hand_is_lone = {false}, lease_expires_at = {lease_end}\n"
            "WHERE projection_name = :projection AND lease_owner = :token\n"
            '"""\n_LOCK_CHECKPOINT',
            'hand_is_lone = {false}\nWHERE projection_name = :projection\n"""\n_LOCK_CHECKPOINT',
        ),
        kinds="lost",
        faults="none",
    ),
    _mutant(
        "counters are read, then written",
        Edit(
            "_store/counters.py",
            'active_failures=M.active_failures + bindparam("change")',
            'active_failures=bindparam("change")',
        ),
        Edit(
            "_store/counters.py",
            "    (row,) = _count.run(connection, ",
            "    old = select(M.active_failures).where(M.projection_name == projection)\n"
            "    change += connection.execute(old).scalar_one()\n"
            f"    {_SLEEP}(0.02)\n"
            "    (row,) = _count.run(connection, ",
        ),
        kinds="count",
        faults="none",
    ),
    _mutant(
        "duplicates are not recognised",
        Edit(
            "_store/claims.py",
            "SELECT epoch, EXISTS (SELECT 1 FROM applied) FROM gate\n",
            "SELECT epoch, true FROM gate\n",
        ),
        kinds="twice",
        faults="none",
    ),
    _mutant(
        "the checkpoint may go back",
        Edit(
            "_store/counters.py",
            "or_(C.last_event_sequence.is_(None), C.last_event_sequence < _SEQUENCE)",
            "_SEQUENCE > 0",
        ),
        kinds="checkpoint",
        faults="none",
    ),
    _mutant(
        "holes are not waited for",
        Edit(
            "_sql_source.py",
            "        first, last = hole\n        if last <= self._final:\n"
            "            return self._final, _EMPTY\n        holds",
            "        first, last = hole\n        return seen, _EMPTY\n        holds",
        ),
        kinds="lost",
        faults="none",
    ),
    _mutant(
        "what a failed handler wrote stays",
        Edit("_core/delivering.py", "    connection.exec_driver_sql(_SAVEPOINT_UNDONE)\n", "    del connection\n"),
        kinds="twice order states",
        faults="none",
    ),
    _mutant(
        "what is parked is drained backwards",
        Edit("_store/parked.py", "_line.order_by(P.id)", "_line.order_by(P.id.desc())"),
        kinds="order lost",
        faults="none",
    ),
    _mutant(
        "a publisher is not told that the store was away",
        Edit("_publisher.py", '            if self._on_unavailable == "raise":\n                raise\n', ""),
        kinds="lost",
        faults="backends,restart immediate",
    ),
    _mutant(
        "a skip leaves no row in the audit log",
        Edit("_core/admin.py", '        deed.write(connection, row, strategy, "resolved")\n', ""),
        kinds="audit",
        faults="none",
    ),
)


def build(mutant: Mutant, folder: Path) -> Path:
    """Copy the package into a folder, plant the bug, and return the folder, to be imported from."""
    shutil.copytree(
        ROOT / "projection_guard", folder / "projection_guard", ignore=shutil.ignore_patterns("__pycache__")
    )
    for edit in mutant.edits:
        path = folder / "projection_guard" / edit.file
        text = path.read_text()
        if text.count(edit.before) != 1:
            raise LookupError(f"{mutant.name}: {edit.file} holds this {text.count(edit.before)} times: {edit.before!r}")
        path.write_text(text.replace(edit.before, edit.after))
    return folder
