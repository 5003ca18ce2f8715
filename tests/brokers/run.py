"""A broker run from beginning to end: publish, one consumer, two, three with faults, the poison cured, the verdict."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import create_engine

from projection_guard import ProjectionGuard
from projection_guard.testing import find_postgres, postgres_server
from tests.brokers import world
from tests.brokers.brokers import ACK_WAIT_SECONDS, BROKERS, BrokerUnderTest
from tests.brokers.oracle import Finding, Stand, judge, stand
from tests.brokers.processes import Consumer, Faults
from tests.brokers.world import Fact

__all__ = ["Settings", "Verdict", "run"]

log = logging.getLogger("brokers")
_STUCK_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to run; `rate_seconds` is how long one and two consumers are measured, 0 for not at all."""

    broker: str
    messages: int = 100_000
    consumers: int = 3
    seed: int = 1
    streams: int = 500
    rate_seconds: float = 20.0
    with_faults: bool = True
    gap_seconds: float = 8.0
    """Between two faults there is this or up to twice as much."""
    most_at_once: int = 1
    """More than that the guard refuses; the consumers are made to take it, and the run has to turn red."""
    url: str | None = None
    """A database with our tables and the guard's; one is made by default."""


@dataclass(slots=True)
class Verdict:
    """What a run came to. It is good when there are no findings."""

    figures: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def line(self) -> str:
        """All figures as one line of JSON."""
        return json.dumps(self.figures, sort_keys=True)


def prepare(url: str) -> None:
    """Make the tables: the guard's, and those of the handler."""
    with ProjectionGuard(url, worker="external") as guard:
        guard.migrate()
    engine = create_engine(url)
    with engine.begin() as connection:
        world.create(connection)
    engine.dispose()


def run(settings: Settings, *, keep: Path | None = None) -> Verdict:
    """Run it. The consumers' logs are written to `keep`, or thrown away."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="projection-guard-brokers-")))
        folder.mkdir(parents=True, exist_ok=True)
        url = settings.url
        if url is None:
            server = stack.enter_context(postgres_server(find_postgres()))
            url = stack.enter_context(server.database())
            prepare(url)
        return asyncio.run(_Run(settings, url, folder).all_phases())


class _Run:
    def __init__(self, settings: Settings, url: str, folder: Path) -> None:
        self._settings, self._url, self._folder = settings, url, folder
        self._plain = url.replace("postgresql+psycopg", "postgresql", 1)
        self._name = secrets.token_hex(4)
        self._there: BrokerUnderTest = BROKERS[settings.broker](self._name)
        self._verdict = Verdict(figures={"broker": settings.broker, "consumers": settings.consumers})
        self._lengths: Counter[str] = Counter()
        self._consumers: list[Consumer] = []

    def _consumer(self, number: int, of: int, phase: str) -> Consumer:
        order = {
            "name": f"{phase}{number}",
            "number": number,
            "of": of,
            "broker": self._settings.broker,
            "run": self._name,
            "url": self._url,
            "most_at_once": self._settings.most_at_once,
        }
        return Consumer(self._folder, order)

    async def all_phases(self) -> Verdict:
        """Do everything, and leave no process behind."""
        figures, settings = self._verdict.figures, self._settings
        begun = time.monotonic()
        async with self._there.made():
            try:
                await self._publish()
                if settings.rate_seconds:
                    await self._rates()
                await self._to_the_end()
            finally:
                for consumer in self._consumers:
                    consumer.kill()
        self._verdict.findings += judge(self._plain, self._lengths)
        counted = Counter(finding.kind for finding in self._verdict.findings)
        figures |= {kind: counted[kind] for kind in ("lost", "twice", "order", "model", "stuck")}
        figures["seconds"] = round(time.monotonic() - begun, 1)
        figures["streams"] = len(self._lengths)
        return self._verdict

    async def _publish(self) -> None:
        settings, figures = self._settings, self._verdict.figures
        begun = time.monotonic()
        published = list(self._with_repeats(world.facts(settings.messages, settings.streams, settings.seed)))
        held = await self._there.publish(published)
        assert held == len(published), f"the broker has {held} of {len(published)} messages"
        figures["messages"], figures["of_them_repeated"] = held, held - sum(self._lengths.values())
        figures["published_in_seconds"] = round(time.monotonic() - begun, 1)

    def _with_repeats(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """Publish some a second time a little later, as one does who was not told that it had come through."""
        facts = iter(facts)
        while chunk := list(islice(facts, 50)):
            self._lengths.update(fact.stream_id for fact in chunk)
            yield from chunk
            yield chunk[0]

    # -- one, and two

    async def _rates(self) -> None:
        rates: list[float] = []
        for number in (1, 2):
            consumers = [self._consumer(each, number, f"{number}.") for each in range(number)]
            self._consumers += consumers
            for consumer in consumers:
                consumer.start()
            await self._at_work([consumer.name for consumer in consumers])
            before, since = self._stand().applied, time.monotonic()
            await asyncio.sleep(self._settings.rate_seconds)
            rates.append((self._stand().applied - before) / (time.monotonic() - since))
            for consumer in consumers:
                consumer.end()
        self._verdict.figures["per_second_of_1_and_2"] = [round(rate, 1) for rate in rates]
        self._verdict.figures["ratio_of_2_to_1"] = round(rates[1] / rates[0], 2)

    async def _at_work(self, names: list[str]) -> None:
        """Wait until each of these has applied something."""
        end = time.monotonic() + _STUCK_SECONDS
        while time.monotonic() < end:
            with psycopg.connect(self._plain, application_name="oracle") as connection:
                rows = connection.execute(
                    "SELECT count(DISTINCT consumer) FROM broker_journal WHERE consumer = ANY(%s)", [names]
                ).fetchone()
            if rows is not None and rows[0] == len(names):
                return
            await asyncio.sleep(0.2)

    def _stand(self) -> Stand:
        return stand(self._plain)

    # -- all of them

    async def _to_the_end(self) -> None:
        settings, figures = self._settings, self._verdict.figures
        consumers = [self._consumer(each, settings.consumers, "c") for each in range(settings.consumers)]
        extra = self._consumer(settings.consumers, settings.consumers, "c")
        self._consumers += [*consumers, extra]
        for consumer in consumers:
            consumer.start()
        total, begun = sum(self._lengths.values()), time.monotonic()
        at_first = self._stand().applied
        if settings.with_faults:
            stop = ACK_WAIT_SECONDS + 2 if settings.broker == "nats" else 12.0
            faults = Faults(
                consumers, extra, self._plain, seed=settings.seed, stop_seconds=stop, gap_seconds=settings.gap_seconds
            )
            with faults:
                await self._until(lambda now: now.applied + now.failed + now.parked >= total * 0.97)
            assert faults.error is None, faults.error
            figures["faults"] = dict(sorted(faults.done.items()))
            figures["slow_to_end"] = faults.slow_to_end
        else:
            await self._until(lambda now: now.applied + now.failed + now.parked >= total)
        await self._until(lambda now: now.applied + now.failed + now.parked >= total)
        now = self._stand()
        figures["before_the_cure"] = {"applied": now.applied, "failed": now.failed, "parked": now.parked}
        figures["per_second_with_faults"] = round((now.applied - at_first) / (time.monotonic() - begun), 1)
        self._cure()
        await self._until(lambda now: now.applied >= total and not now.failed and not now.parked)
        await self._settled()
        for consumer in consumers:
            consumer.end()

    def _cure(self) -> None:
        with psycopg.connect(self._plain, autocommit=True) as connection:
            connection.execute("UPDATE broker_switch SET poison = 0")

    async def _settled(self) -> None:
        """Wait until the broker has nothing left: what comes again is a duplicate, and changes nothing."""
        end = time.monotonic() + _STUCK_SECONDS
        left = await self._there.waiting()
        while left and time.monotonic() < end:
            await asyncio.sleep(0.2)
            left = await self._there.waiting()
        self._verdict.figures["left_in_the_broker"] = left
        if left:
            self._verdict.findings.append(Finding("stuck", f"{left} messages were never settled"))

    async def _until(self, is_so: Any) -> None:
        """Wait on a condition; who makes no progress for long is stuck."""
        last, since = self._stand(), time.monotonic()
        while not is_so(now := self._stand()):
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > _STUCK_SECONDS:
                self._verdict.findings.append(Finding("stuck", f"no progress for {_STUCK_SECONDS:.0f} s at {now}"))
                return
            log.info("%s", now)
            await asyncio.sleep(0.5)
