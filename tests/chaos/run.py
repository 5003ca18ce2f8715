"""A chaos run from beginning to end: calm, faults, drain, verdict; and its figures."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from projection_guard.testing import _supervisor as supervisor
from tests.chaos import world
from tests.chaos.admins import Admin, Admins, answers, resume_all, retry_all
from tests.chaos.faults import Faults
from tests.chaos.oracle import Finding, Oracle, Seen
from tests.chaos.places import Database, Place, open_place
from tests.chaos.processes import ROOT, Program, Programs
from tests.chaos.takeovers import Takeovers

__all__ = ["Settings", "Verdict", "run"]

log = logging.getLogger("chaos")
STUCK_SECONDS: Final = 60.0
_FOR_A_PERSON: Final = "SELECT projection_name, state FROM projection_states WHERE state IN ('resetting', 'paused')"
_NUMBERED: Final = ("lost", "twice", "order")
_MOST_FINDINGS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run. `package`: where projection_guard is imported from; a build with a planted bug is somewhere else."""

    database: Database = "postgresql"
    seed: int = 1
    seconds: float = 60.0
    calm_seconds: float = 5.0
    pause_seconds: float = 0.1
    gap_seconds: float = 1.0
    workers: int = 2
    publishers: int = 2
    streams: int = 12
    faults: tuple[str, ...] = ()
    package: Path = ROOT
    stop_at_first: bool = False
    """End with the first finding, or with the faults: nothing is drained."""
    until_fenced: bool = False
    """Let the faults go on, at most as long again, until a late commit was fenced."""
    look_every_seconds: float = 1.0


@dataclass(slots=True)
class Verdict:
    """What a run came to. It is good when there are no findings."""

    figures: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def line(self) -> str:
        """All figures as one line of JSON."""
        return json.dumps(self.figures, sort_keys=True)


def run(settings: Settings, *, keep: Path | None = None) -> Verdict:
    """Run it. Logs are written to `keep`, or thrown away when all is well."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="projection-guard-chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.acks"), *folder.glob("*.log")):
            old.unlink()
        place = stack.enter_context(open_place(settings.database, settings.seconds))
        return _Run(settings, place, folder).all_phases()


class _Run:
    def __init__(self, settings: Settings, place: Place, folder: Path) -> None:
        self._settings, self._place, self._folder = settings, place, folder
        self._port = supervisor.free_port()
        self._programs = Programs([Program(folder, settings.package, order) for order in self._orders()])
        self._oracle = Oracle(place.oracle, joined=world.JOINED, apart=world.APART, followed=world.FOLLOWED)
        self._verdict = Verdict()
        self._seen: Seen | None = None
        self._recoveries: list[float] = []
        self._peak_connections = 0
        self._unlooked = 0

    def _orders(self) -> list[dict[str, Any]]:
        settings, place = self._settings, self._place
        orders: list[dict[str, Any]] = []
        for role, number in (("publisher", settings.publishers), ("worker", settings.workers), ("server", 1)):
            for each in range(number):
                kind = "blocking" if role == "server" or each % 2 == 0 else "async"
                orders.append({"role": role, "name": f"{role}{each}", "kind": kind, "url": place.url})
                if (role, each) in (("publisher", number - 1), ("worker", 0)):  # one of each comes through the proxy
                    orders[-1]["url"] = place.proxied
        common = {
            "folder": str(self._folder),
            "package": str(settings.package),
            "log_url": place.url,
            "port": self._port,
            "streams": settings.streams,
            "pause": settings.pause_seconds,
        }
        return [order | common for order in orders]

    def all_phases(self) -> Verdict:
        """Do everything, and leave no process behind."""
        figures = self._verdict.figures
        begun = time.monotonic()
        try:
            self._programs.start()
            self._calm()
            with Takeovers(self._place) as takeovers:
                self._faults()
            if not self._settings.stop_at_first:
                self._drain()
        finally:
            self._programs.kill()
            if self._place.cluster is not None:
                shutil.copy(self._place.cluster.log, self._folder / "postgres.log")
        figures["takeover_p50_seconds"], figures["takeover_p99_seconds"] = takeovers.p50_and_p99()
        self._sum_up(time.monotonic() - begun)
        return self._verdict

    # -- looking

    def _acked(self) -> dict[str, int]:
        acked: dict[str, int] = {}
        for path in self._folder.glob("*.acks"):
            for line in path.read_text().splitlines():
                words = line.split()
                if len(words) == 3 and words[0] == "ok":
                    acked[words[1]] = max(acked.get(words[1], 0), int(words[2]))
        return acked

    def _look(self) -> Seen | None:
        """Let the oracle look; None where the database is away just now."""
        acked = self._acked()
        try:
            self._seen, found = self._oracle.look(acked)
        except (psycopg.OperationalError, sqlite3.OperationalError) as error:
            if "no such" in str(error):  # SQLite's word for what is a mistake of ours
                raise
            self._unlooked += 1
            return None
        self._report(found)
        self._peak_connections = max(self._peak_connections, self._place.connections())
        return self._seen

    def _report(self, found: list[Finding]) -> None:
        known = set(self._verdict.findings)
        self._verdict.findings += [finding for finding in found if finding not in known]

    # -- phases

    def _calm(self) -> None:
        """Measure how the healthy ones fare beside one that fails on everything, without any other fault."""
        figures = self._verdict.figures
        end = time.monotonic() + 60
        while not (self._look() and self._seen and self._seen.checkpoints.get("followed")) and time.monotonic() < end:
            time.sleep(0.1)
        if not self._settings.calm_seconds:
            return
        for switch in ("poison", "stumble"):
            self._place.set_switch(switch, is_on=False)
        rates = [self._rate()]
        self._place.set_switch("sick", is_on=True)
        rates.append(self._rate())
        self._place.set_switch("sick", is_on=False)
        for switch in ("poison", "stumble"):
            self._place.set_switch(switch, is_on=True)
        figures["healthy_effects_per_second"] = [round(rate / self._settings.calm_seconds, 1) for rate in rates]
        figures["healthy_beside_sick_ratio"] = round(rates[1] / rates[0], 3) if rates[0] else None

    def _rate(self) -> float:
        """Return how much of what was appended meanwhile the healthy ones have applied."""
        before = self._look()
        time.sleep(self._settings.calm_seconds)
        after = self._look()
        assert before is not None
        assert after is not None

        def applied(seen: Seen) -> int:
            return sum(row[0] for (projection, _), row in seen.model.items() if projection != "sick")

        return applied(after) - applied(before)

    def _faults(self) -> None:
        until = time.monotonic() + self._settings.seconds
        faults = Faults(
            self._place,
            self._programs,
            seed=self._settings.seed,
            only=self._settings.faults,
            recovered=self._recovered,
        )
        settings = self._settings
        patience = 0.0 if settings.stop_at_first else settings.seconds
        thread = threading.Thread(
            target=faults.run,
            args=(until, self._settings.gap_seconds),
            kwargs={"or_until": until + patience, "lacks": lambda: settings.until_fenced and not self._fenced()},
            name="faults",
        )
        looks_before = self._oracle.looks
        with Admins(self._port, self._settings.seed) as admins:
            thread.start()
            try:
                while thread.is_alive():
                    self._look()
                    thread.join(self._settings.look_every_seconds)
                    if self._settings.stop_at_first and self._verdict.findings:
                        faults.stop_now()
            finally:
                faults.stop_now()
                thread.join()
        self._verdict.figures["faults"] = dict(sorted(faults.done.items()))
        self._verdict.figures["faults_left_out"] = faults.left_out
        self._admins = admins.told
        if faults.error is not None:
            self._verdict.findings.append(Finding("idle", f"the faults have ended with {faults.error!r}"))
        if not self._settings.stop_at_first:
            never = faults.never_done([name for name in self._settings.faults if name != "none"])
            self._verdict.findings += [Finding("idle", f"{name}: was never done") for name in never]
        if self._oracle.looks == looks_before:
            self._verdict.findings.append(Finding("idle", "the oracle has seen nothing while there were faults"))

    def _fenced(self) -> int:
        return self._programs.said(": fenced (")

    def _recovered(self, answered_at: float) -> None:
        """Take the time from when the server answers again to the first effect after that."""

        def newest() -> int:
            try:
                return int(self._oracle.rows("SELECT coalesce(max(id), 0) FROM chaos_journal")[0][0])
            except Exception:
                return -1

        before, end = newest(), answered_at + 60
        while time.monotonic() < end and newest() <= before:
            time.sleep(0.02)
        self._recoveries.append(time.monotonic() - answered_at)

    def _drain(self) -> None:
        """Everything is well again: whatever is open has to heal. Stuck is who makes no progress."""
        begun = time.monotonic()
        log.info("no more faults")
        self._programs.let_rest()
        killed = self._programs.end("publisher")
        log.info("publishers have ended")
        for program in self._programs.all:
            program.skew_seconds = 0
            if program.role != "publisher" and not program.is_alive:
                program.start()
        for switch in ("poison", "stumble", "sick"):
            self._place.set_switch(switch, is_on=False)
        admin = Admin(self._port, "admin-3")
        resume_all(admin, until=time.monotonic() + STUCK_SECONDS)
        progress, moved_at = None, time.monotonic()
        while True:
            for projection, state in self._oracle.rows(_FOR_A_PERSON):
                # Whoever did the reset has died: a person does it again. What is rebuilt while paused is paused after.
                admin.steer(projection, "reset" if state == "resetting" else "resume")
            retry_all(admin, until=time.monotonic() + STUCK_SECONDS)
            seen = self._look()
            if seen is not None and self._is_drained(seen):
                break
            if seen is not None and seen.progress != progress:
                progress, moved_at = seen.progress, time.monotonic()
            if time.monotonic() - moved_at > STUCK_SECONDS:
                self._verdict.findings.append(Finding("stuck", self._what_is_stuck(seen)))
                break
            log.info("%s", progress)
            time.sleep(0.3)
        log.info("drained")
        self._verdict.figures["drain_seconds"] = round(time.monotonic() - begun, 1)
        admin.close()
        self._admins += admin.told
        killed += self._programs.end()
        self._verdict.findings += [
            Finding("stuck", f"{each.name} did not end when asked to; the end of its log:\n{each.last_words()}")
            for each in self._programs.all
            if each.name in killed
        ]
        self._final()

    def _is_drained(self, seen: Seen) -> bool:
        head = max((at for at in self._oracle.rows("SELECT max(sequence) FROM chaos_log")[0] if at), default=0)
        reached = all(seen.checkpoints.get(projection, 0) >= head for projection in world.FOLLOWED)
        acked = self._acked()
        told = [at for at, (stream, n) in self._oracle.log.items() if n <= acked.get(stream, 0)]
        reached = reached and all(seen.checkpoints.get(name, 0) >= max(told, default=0) for name in world.PUSHED)
        return reached and not seen.open_failures and not seen.parked and seen.at_rest >= {*world.FOLLOWED}

    def _what_is_stuck(self, seen: Seen | None) -> str:
        if seen is None:
            return "the database cannot be read"
        return (
            f"{len(seen.open_failures)} failures, {len(seen.parked)} parked, checkpoints {seen.checkpoints}, "
            f"at rest {sorted(seen.at_rest)}"
        )

    def _final(self) -> None:
        self._seen, found, again = self._oracle.final(self._acked())
        self._report(found)
        self._verdict.figures["apart_called_again"] = again
        self._report(self._audit())
        self._report([*self._idle()])

    def _idle(self) -> Iterator[Finding]:
        """Name what has done nothing: what was never tried is not proved."""
        acked = self._acked()
        for name in (program.name for program in self._programs.all if program.role == "publisher"):
            if not any(stream.startswith(f"{name}-") for stream in acked):
                yield Finding("idle", f"{name} has published nothing")
        if not answers(self._admins)[0]:
            yield Finding("idle", "nobody has answered an admin")

    def _audit(self) -> list[Finding]:
        """Every action that was answered is on record, and none that nobody has asked for."""
        on_record = Counter(
            dict(
                self._oracle.rows(
                    "SELECT action, count(*) FROM projection_audit_log WHERE actor LIKE 'admin-%' GROUP BY action"
                )
            )
        )
        done, unknown = answers(self._admins)
        self._verdict.figures["admin_actions"], self._verdict.figures["admin_unknown"] = dict(done), unknown.total()
        return [
            Finding("audit", f"{action}: {done[action]} were answered, {on_record[action]} are on record")
            for action in done.keys() | on_record.keys()
            if action not in ("reset_done", "reset_undone")
            and not done[action] <= on_record[action] <= done[action] + unknown[action]
        ]

    # -- figures

    def _sum_up(self, seconds: float) -> None:
        figures, findings, programs = self._verdict.figures, self._verdict.findings, self._programs
        unhandled = programs.unhandled()
        findings += [Finding("unhandled", line) for line in unhandled[:_MOST_FINDINGS]]
        findings += [Finding("died", line) for line in programs.ended_by_themselves]
        kinds = [finding.kind for finding in findings]
        figures |= {
            "database": self._settings.database,
            "seed": self._settings.seed,
            "seconds": round(seconds, 1),
            "events": len(self._oracle.log),
            "acknowledged": sum(self._acked().values()),
            "effects": sum(row[0] for row in self._seen.model.values()) if self._seen else 0,
            "looks": self._oracle.looks,
            "looks_without_a_database": self._unlooked,
            "unknown_commits": self._count_unknown(),
            **{kind.replace("order", "out_of_order"): kinds.count(kind) for kind in _NUMBERED},
            "other_findings": len([kind for kind in kinds if kind not in _NUMBERED]),
            "tainted_streams": len(self._oracle.tainted),
            "fenced_late_commits": self._fenced(),
            "recovery_seconds": _spread(self._recoveries),
            "peak_connections": self._peak_connections,
            "peak_memory_mib": {program.name: program.peak_kib // 1024 for program in programs.all},
            "unhandled_exceptions": len(unhandled),
        }

    def _count_unknown(self) -> int:
        return sum(path.read_text().count("unknown ") for path in self._folder.glob("*.acks"))


def _spread(seconds: list[float]) -> Mapping[str, float] | None:
    if not seconds:
        return None
    return {"median": round(statistics.median(seconds), 2), "longest": round(max(seconds), 2)}
