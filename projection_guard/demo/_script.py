"""See projections fail, park, heal and drain: `make demo`, or `projection-guard demo --help`.

A document service is fed with the history of a git repository. Meanwhile a read model is away for a while, one event
is poison, and a handler has a bug that is fixed halfway. At the end every read model has to equal one computed straight
from the log, and all four health states have to have been seen; otherwise the demo exits with 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine
from tenacity import stop_after_attempt, wait_exponential

from projection_guard import Breaker, Failure, HealthStatus, Notice, NoticeKind, ProjectionGuard, RetryPolicy
from projection_guard.demo import read_models as rm
from projection_guard.demo.faults import Faults
from projection_guard.demo.history import Change, changes
from projection_guard.demo.screen import Screen
from projection_guard.demo.service import Place, register
from projection_guard.demo.serving import Unserved, serve
from projection_guard.demo.store import EventStore

__all__ = ["Demonstrated", "Place", "add_options", "demonstrate", "main", "place_of"]

QUICK = RetryPolicy(
    wait=wait_exponential(multiplier=0.05, max=0.4),
    stop=stop_after_attempt(4),
    breaker=Breaker(failures=60, streams=10, first_pause_seconds=0.2, longest_pause_seconds=0.5),
)


@dataclass
class Demo:
    """The service, its guard, and the script of what goes wrong."""

    guard: ProjectionGuard
    store: EventStore
    faults: Faults
    screen: Screen
    events: int = 0
    seen: set[HealthStatus] = field(default_factory=set[HealthStatus])
    mended: int = 0

    def look(self) -> None:
        """Show how things are, and remember which states were reached."""
        healths = self.guard.health()
        self.seen |= {health.status for health in healths}
        self.screen.show(healths, self.events)

    def script(self, done: float) -> None:
        """Break and mend, by how much of the history has been published."""
        plan = [
            (0.05, "a bug is deployed in Documents", self._break_documents),
            (0.25, "the read model of Folders is away", self._take_folders_away),
            (0.60, "the bug in Documents is fixed and deployed; an operator retries what was exhausted", self._fix),
            (0.70, "Folders is back: nobody does anything", self._bring_folders_back),
        ]
        for when, what, act in plan:
            if done >= when and what not in self.screen.happened:
                self.screen.announce(what)
                act()

    def _break_documents(self) -> None:
        self.faults.bug_in_documents = True

    def _take_folders_away(self) -> None:
        self.faults.folders_away = True

    def _bring_folders_back(self) -> None:
        self.faults.folders_away = False

    def _fix(self) -> None:
        self.faults.bug_in_documents = False
        self.retry_exhausted("Documents")

    def exhausted(self, name: str) -> list[Failure]:
        """List the failures of a projection that wait for a person."""
        return [failure for failure in self.guard.failures(name, limit=1000).items if failure.is_exhausted]

    def retry_exhausted(self, name: str) -> None:
        """What an operator does once a fix is deployed."""
        for failure in self.exhausted(name):
            self.guard.resolve(failure.id, "retry", actor="olga", note="the fix is deployed")
            self.mended += 1

    def treat_poison(self) -> None:
        """What an operator does about an event that nobody can fix: here, the event is understood after all."""
        waiting = self.exhausted("Authors")
        if waiting:
            self.screen.announce("an operator looks at the poison event: a new release understands it")
            self.faults.poison.clear()
            self.retry_exhausted("Authors")


def run(demo: Demo, history: list[Change], pace_seconds: float) -> None:
    """Append and publish the history, then wait until everything has healed."""
    publisher = demo.guard.publisher()
    for number, change in enumerate(history):
        event = demo.store.append(change)
        if number == len(history) // 10:
            demo.screen.announce("an event that nobody can read is published (Authors)")
            demo.faults.poison.add(event.event_id)
        publisher.publish(event)
        demo.events += 1
        demo.script(number / len(history))
        if number % 10 == 0:
            demo.look()
        time.sleep(pace_seconds)
    demo.screen.announce("everything is published; what is parked drains by itself")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        demo.look()
        demo.treat_poison()
        if all(health.parked_events == 0 and health.active_failures == 0 for health in demo.guard.health()):
            break
        demo.retry_exhausted("Documents")
        demo.retry_exhausted("Folders")
        time.sleep(0.1)
    demo.look()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrated:
    """What the demo showed. `differences` are read models that do not equal the log, `unseen` states not reached."""

    source: str
    events: int
    seconds: float
    failures: int
    healed: int
    retried: int
    database: str
    feed: str
    differences: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def is_fine(self) -> bool:
        """True where it showed what it is to show."""
        return not self.differences and not self.unseen

    def told(self) -> list[str]:
        """Return it in lines for people."""
        lines = [
            "",
            f"{self.events} events from {self.source} in {self.seconds:.1f} s",
            f"{self.failures} failures: {self.healed} healed by themselves, {self.retried} retried by olga after a fix",
            f"look at it: {self.database} (the feed: {self.feed})",
            "    SELECT * FROM projection_health_metrics ORDER BY health_status DESC;",
            "    SELECT projection_name, resolution_method, count(*) FROM projection_failures GROUP BY 1, 2;",
            "look at it in a browser: projection-guard demo --serve, or make demo DEMO_ARGS=--serve",
            *(f"DIFFERS  {line}" for line in self.differences[:20]),
        ]
        if self.unseen:
            lines.append(f"NOT SEEN  these health states were never reached: {', '.join(self.unseen)}")
        if self.is_fine:
            lines.append(
                "Every read model equals the one computed straight from the log. All four health states were seen."
            )
        return lines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options to a command line."""
    parser.add_argument("--repo", type=Path, metavar="FOLDER", help="a git repository (default: the current folder)")
    parser.add_argument("--events", type=int, default=400, metavar="N", help="at most so many (400; 150 or more)")
    parser.add_argument("--database", metavar="URL", help="a SQLAlchemy URL (default: SQLite in a temporary folder)")
    parser.add_argument("--fast", action="store_true", help="do not pace it for human eyes")
    parser.add_argument("--serve", action="store_true", help="then keep it open, with its dashboard, until Ctrl-C")
    parser.add_argument("--port", type=int, default=8765, metavar="N", help="the dashboard's port on 127.0.0.1 (8765)")


def place_of(wanted: argparse.Namespace) -> Place:
    """Return where the demo keeps what it writes: the database that was named, or a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="projection-guard-demo-"))
    return Place(wanted.database or f"sqlite:///{folder / 'documents.db'}", folder / "feed.db")


def demonstrate(wanted: argparse.Namespace, place: Place, *, is_quiet: bool = False) -> Demonstrated:
    """Run the demo; return what it showed."""
    source, history = changes(wanted.repo or Path.cwd(), max(wanted.events, 150))
    engine = create_engine(place.url)
    rm.metadata.create_all(engine)
    store, feed, faults = EventStore(engine), rm.Feed(place.feed), Faults()
    seen: set[HealthStatus] = set()
    with Screen(source, is_quiet=is_quiet) as screen:

        def watch(notice: Notice) -> None:
            screen.tell(notice)
            if notice.kind is NoticeKind.STATUS_CHANGED and notice.after is not None:
                seen.add(HealthStatus(notice.after))  # one that was passed through between two looks

        with ProjectionGuard(engine, retry=QUICK, observers=[watch]) as guard:
            guard.migrate()
            register(guard, faults, feed)
            demo = Demo(guard=guard, store=store, faults=faults, screen=screen, seen=seen)
            started = time.monotonic()
            run(demo, history, 0.0 if wanted.fast else 0.03)
            failures = guard.failures(include_resolved=True, limit=1000).items
    differences = tuple(rm.differences(engine, feed, store.read_all()))
    engine.dispose()
    return Demonstrated(
        source=source,
        events=demo.events,
        seconds=time.monotonic() - started,
        failures=len(failures),
        healed=sum(failure.resolution_method == "auto_retry" for failure in failures),
        retried=demo.mended,
        database=engine.url.render_as_string(hide_password=True),
        feed=str(place.feed),
        differences=differences,
        unseen=tuple(status.value for status in HealthStatus if status not in demo.seen),
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the demo from a command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    wanted = parser.parse_args(words)
    place = place_of(wanted)
    shown = demonstrate(wanted, place)
    print("\n".join(shown.told()), flush=True)
    if not shown.is_fine:
        return 1
    if wanted.serve:
        try:
            serve(place, wanted.port, say=lambda line: print(line, flush=True))
        except Unserved as refused:
            print(refused, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0
