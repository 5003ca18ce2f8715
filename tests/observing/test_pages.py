"""The tables of docs/metrics.md, the rules and the dashboard, against what two processes and an exporter tell."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from projection_guard import HealthStatus, OutcomeStatus, ProjectionGuard
from projection_guard.opentelemetry import OpenTelemetryMetrics, observe_database
from tests.bed import Bed
from tests.flow.acting import Planned
from tests.following.logs import FollowedLog
from tests.observing.pages import ROOT, code_in, rows_of
from tests.observing.process import LATER, UNTIL_ASKED
from tests.observing.scraped import Scraped, samples_of

COUNTERS, GAUGES = "Counters and histograms", "Gauges"
RULES = ROOT / "deploy" / "prometheus" / "projection_guard.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "projection_guard.json"
_PARTS = ("_bucket", "_sum", "_count", "_created")


@pytest.fixture(scope="module")
def scrapes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Scraped]]:
    """What two processes tell that work on one database: one of them has the gauges, too."""
    url = f"sqlite:///{tmp_path_factory.mktemp('pages')}/pages.db"
    with ProjectionGuard(url, worker="external") as guard:
        guard.migrate()
    script = [sys.executable, "-W", "error", "-m", "tests.observing.process", url]
    running = []
    for kind in ("worker", "publisher"):
        process = subprocess.Popen([*script, kind], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        running.append((process, process.stdout.readline().strip()))
    try:
        found = []
        for _, address in running:
            with urlopen(address, timeout=30) as answer:
                found.append(samples_of(answer.read().decode()))
        yield found
    finally:
        for process, _ in running:
            process.communicate(UNTIL_ASKED, timeout=60)
            assert process.returncode == 0


def documented() -> dict[str, set[str]]:
    """Return the names of the page with their labels."""
    rows = {**rows_of("metrics.md", COUNTERS), **rows_of("metrics.md", GAUGES)}
    return {name: set(code_in(row[3])) for name, row in rows.items()}


def base_of(name: str) -> str:
    """Return the name of the metric that a sample belongs to."""
    for part in _PARTS:
        if name.endswith(part) and name.removesuffix(part) in documented():
            return name.removesuffix(part)
    return name


def test_a_scrape_of_two_processes_has_the_names_and_labels_of_the_page(scrapes: list[Scraped]) -> None:
    """No name and no label more, and all of them."""
    pages = documented()
    seen: dict[str, set[str]] = {}
    for scrape in scrapes:
        for name in scrape.names() - {each for each in scrape.names() if each.endswith("_created")}:
            seen.setdefault(base_of(name), set()).update(scrape.labels(name) - {"le"})
    assert seen == pages


def test_counters_add_up_and_gauges_are_in_one_place(scrapes: list[Scraped]) -> None:
    """The worker's process says how the projections stand, of what both have done."""
    worker, publisher = scrapes
    applied = [each.of("events_total", projection="P", origin="publish", outcome="applied") for each in scrapes]
    assert applied == [3, 3]
    assert worker.of("processed_events", projection="P") == sum(applied)
    assert worker.of("active_failures", projection="P") == 2
    assert not [name for name in publisher.names() if name.startswith("projection_guard_active")]


def test_an_exporter_of_opentelemetry_has_the_names_of_the_page(bed: Bed) -> None:
    """With their units and attributes."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    log, planned = FollowedLog(bed), Planned("P", "A#1")
    guard = log.guard(instruments=[OpenTelemetryMetrics(provider)], retry=LATER)
    planned.register(bed, guard, "joined")
    log.append("A", "B")
    guard.work()
    guard.start_replay("P", from_sequence=1, actor="alice")
    bed.change("UPDATE projection_replays SET position = 1, started_at = created_at")

    async def observe() -> None:
        observe_database(guard.real, meter_provider=provider)

    if bed.is_async:
        bed.run(observe())
        data = bed.run(_in_a_thread(reader.get_metrics_data))
    else:
        observe_database(guard.real, meter_provider=provider)
        data = reader.get_metrics_data()
    assert data is not None
    told = {metric.name: metric for each in data.resource_metrics[0].scope_metrics for metric in each.metrics}
    rows = {
        code_in(row[1])[0]: row for heading in (COUNTERS, GAUGES) for row in rows_of("metrics.md", heading).values()
    }
    assert told.keys() == rows.keys()
    units = {name: code_in(row[2])[0] for name, row in rows.items()}
    assert {name: metric.unit for name, metric in told.items()} == units
    named = {"error_type": "error.type", "projection_guard.notices kind": "projection_guard.notice"}
    for name, row in rows.items():
        labels = set[str]()
        for label in code_in(row[3]):
            labels.add(named.get(f"{name} {label}") or named.get(label) or f"projection_guard.{label}")
        seen = {attribute for point in told[name].data.data_points for attribute in point.attributes or {}}
        assert seen == labels, name
    active = told["projection_guard.active_failures"].data.data_points
    assert [getattr(point, "value", None) for point in active] == [1]
    provider.shutdown()


async def _in_a_thread(work: Any) -> Any:
    return await asyncio.to_thread(work)


def expressions() -> list[str]:
    """Return every expression of the rules and of the dashboard."""
    rules = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", RULES.read_text(encoding="utf-8"))
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = [each["definition"] for each in board["templating"]["list"] if "definition" in each]
    return [*("".join(rule) for rule in rules), *shown, *asked]


def test_rules_and_dashboard_name_only_what_is_scraped(scrapes: list[Scraped]) -> None:
    """Names, labels and the values that are asked for; and no gauge is added up over the processes that export it."""
    names = {name for scrape in scrapes for name in scrape.names()}
    gauges = set(rows_of("metrics.md", GAUGES))
    found = expressions()
    assert len(found) > 40
    for expression in found:
        used = re.findall(r"(projection_guard_\w+)(?:\{([^}]*)\})?", expression)
        assert used, expression
        for name, selected in used:
            assert name in names, expression
            labels = {label for scrape in scrapes for label in scrape.labels(name)}
            asked = re.findall(r'(\w+)(=~?)"([^"]*)"', selected)
            assert {label for label, _, _ in asked} <= labels, expression
            for label, _, values in asked:
                if not values.startswith("$"):
                    assert set(values.split("|")) <= _values(label), expression
            if name in gauges and "label_values" not in expression:
                assert re.search(rf"(max|absent)\s*(by \([a-z, ]+\) )?\({name}", expression), expression
            by = {each for group in re.findall(r"by \(([^)]*)\)", expression) for each in group.split(", ")}
            assert by <= labels | {"projection", "le"}, expression


def _values(label: str) -> set[str]:
    known: dict[str, set[str]] = {
        "status": {each.value for each in HealthStatus},
        "outcome": {each.value for each in OutcomeStatus},
        "state": {"held", "expired", "alive", "stopping", "silent"},
        "kind": {"service", "embedded"},
    }
    return known[label]


def test_the_dashboard_shows_every_metric() -> None:
    """What is exported and nobody looks at is not worth its cost."""
    shown = " ".join(expressions())
    assert [name for name in documented() if name not in shown] == ["projection_guard_database_read_seconds"]


def test_promtool_accepts_the_rules() -> None:
    """As far as there is one on this machine."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool on this machine (Debian: apt-get install prometheus)")
    checked = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout
