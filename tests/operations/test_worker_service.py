"""A worker as a process of its own: signals, the grace period, probes; and nothing lost, whatever comes."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from projection_guard import ConfigurationError, ProjectionGuard, SchemaError
from projection_guard._probes import Condition, HealthFile, HealthPort, condition
from projection_guard._shift import Pulse
from projection_guard.worker_service import WorkerServiceSettings, run_worker_service
from tests.alerting.told import outage
from tests.bed import Bed
from tests.faults.processes import Victim
from tests.faults.proxy import Proxy
from tests.following.logs import FollowedLog
from tests.following.members import Appenders, assert_exact, has_come_to, prepared

PROGRAM = "tests.operations.serving"
AT_WORK = "it is at work"


@contextmanager
def service(bed: Bed, **order: Any) -> Generator[Victim]:
    """Start a worker service that is at work when this returns."""
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, **order) as process:
        assert told(process, AT_WORK)
        yield process


def told(process: Victim, beginning: str) -> str:
    """Read what it says until a line begins so; fail when it ends before."""
    while line := process.line():
        if line.startswith(beginning):
            return line
    pytest.fail(f"it ended without saying {beginning!r}")


def workers(bed: Bed) -> list[str]:
    """Name the workers on record."""
    return [row.worker_id for row in bed.rows("SELECT worker_id FROM projection_workers WHERE kind = 'service'")]


def ended(process: Victim) -> int:
    """Wait for its end, and return its exit code."""
    return process.process.wait(60)


# -- signals


def test_two_services_under_load_get_every_signal_in_turn_and_nothing_is_lost(
    diagonal_bed: Bed, tmp_path: Path
) -> None:
    """SIGTERM, SIGKILL, SIGSTOP past the lease, each to one of two while events come, some fail: exact (P1, P2, P3).

    A failure that waits for a person meanwhile is told once by all of them, and its end, too.
    """
    bed = diagonal_bed
    log, alerts = prepared(bed, partitions=4), tmp_path / "alerts"
    alerts.touch()
    order = {"fails": True, "partitions": 4, "timeout": 3.0, "alerts": str(alerts)}
    outage(bed, log.guard())
    with ExitStack() as stack, Appenders(bed, 1, pause_seconds=0.1) as appenders:
        for sent in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
            hit, other = (stack.enter_context(service(bed, **order)) for _ in range(2))
            goes_on(bed)
            bed.wait_until(alerts.read_text)  # killed while it tells, it would leave that to the next one: told twice
            hit.stop(bed) if sent is signal.SIGSTOP else hit.process.send_signal(sent)
            if sent is signal.SIGTERM:
                assert ended(hit) == 0
            goes_on(bed)  # past the lease, where that was not given up
            hit.process.send_signal(signal.SIGCONT)
            for each in (hit, other):
                if each.process.poll() is None:
                    each.process.send_signal(signal.SIGTERM)
                    assert ended(each) in (0, -signal.SIGKILL)
        appenders.stop()
        bed.wait_until(lambda: alerts.read_text() == "exhausted firing\n")
        bed.change("DELETE FROM projection_failures WHERE event_id = 'e'")
        with service(bed, partitions=4, alerts=str(alerts)):
            head = bed.value("SELECT max(sequence) FROM log")
            bed.wait_until(has_come_to(bed, head))
            bed.wait_until(lambda: alerts.read_text() == "exhausted firing\nexhausted recovered\n")
    log.lengths.update(appenders.committed)
    assert_exact(bed, log)
    assert bed.value("SELECT count(*) FROM projection_failures") > 0
    assert bed.value("SELECT count(*) FROM projection_failures WHERE resolved_at IS NULL") == 0


def goes_on(bed: Bed) -> None:
    """Wait until every partition has come further."""
    before = high(bed)
    bed.wait_until(lambda: high(bed) > before)


def high(bed: Bed) -> int:
    """How far the slowest partition has come."""
    found: int = bed.value(
        "SELECT min(cursor) FROM projection_partitions WHERE projection_name = 'P' AND partition >= 0"
    )
    return found


def test_sigterm_settles_what_is_in_hand(diagonal_bed: Bed) -> None:
    """The event in hand is applied, the next one left to others; the worker's row is gone, the exit code 0."""
    bed = diagonal_bed
    log = prepared(bed)
    log.append("A", "A")
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, hangs_at="A#1", hangs_for=1.0) as process:
        told(process, "reached")
        process.process.send_signal(signal.SIGTERM)
        told(process, "SIGTERM")
        assert ended(process) == 0
    assert workers(bed) == []
    assert bed.effects("P") in ([("A", 1)], [("A", 1), ("A", 2)])


def test_a_second_signal_stops_it_at_once(diagonal_bed: Bed) -> None:
    """What was in hand is taken over by the next one when its lease ends, as after a kill: nothing is lost or twice."""
    bed = diagonal_bed
    log = prepared(bed)
    log.append("A", "A")
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, hangs_at="A#2", hangs_for=60.0) as process:
        told(process, "reached")
        process.process.send_signal(signal.SIGTERM)
        told(process, "SIGTERM")
        process.process.send_signal(signal.SIGTERM)
        assert ended(process) == 128 + signal.SIGTERM
    goes_on_exactly(bed, log)


def test_the_grace_period_ends(diagonal_bed: Bed) -> None:
    """A handler that does not come to its end holds the process up no longer than was granted."""
    bed = diagonal_bed
    log = prepared(bed)
    log.append("A", "A")
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, hangs_at="A#2", hangs_for=60.0, grace=0.5) as process:
        told(process, "reached")
        process.process.send_signal(signal.SIGTERM)
        assert ended(process) == 128 + signal.SIGTERM
    goes_on_exactly(bed, log)


def goes_on_exactly(bed: Bed, log: FollowedLog) -> None:
    """Let another service go on, and look that the end is exact."""
    with service(bed) as process:
        bed.wait_until(has_come_to(bed, len(log.appended)))
        process.process.send_signal(signal.SIGTERM)
        assert ended(process) == 0
    assert_exact(bed, log)


# -- probes


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Ask the health port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def bed_of_probes(postgres_url: str) -> Iterator[Bed]:
    """One on which a handler that stands still holds up neither the loop nor those who write."""
    made = Bed("blocking", "postgresql", postgres_url)
    yield made
    made.close()


def test_probes_say_how_it_is(bed_of_probes: Bed, tmp_path: Path) -> None:
    """Alive and ready while it works; alive, not ready, while it stops; the file says so too, and goes in the end."""
    bed, file = bed_of_probes, tmp_path / "health"
    log = prepared(bed)
    log.append("A")
    with Victim(PROGRAM, url=bed.url, kind=bed.kind, hangs_at="A#1", health_port=0, health_file=str(file)) as process:
        port = int(told(process, "probes are answered").rpartition(":")[2])
        told(process, "reached")
        bed.wait_until(lambda: get(port, "/readyz")[0] == 200)
        assert json.loads(get(port, "/livez")[1]) == {"status": "ok", "reason": "it is well"}
        bed.wait_until(lambda: file.exists() and file.read_text() == "ready: it is well\n")
        assert get(port, "/livez", "HEAD") == (200, "")
        assert get(port, "/page") == (200, "a page")
        status, body = get(port, "/broken")
        assert status == 500
        assert "secret" not in body
        assert get(port, "/elsewhere")[0] == 404
        process.process.send_signal(signal.SIGTERM)
        told(process, "SIGTERM")
        assert get(port, "/livez")[0] == 200
        assert get(port, "/readyz")[0] == 503
        assert json.loads(get(port, "/readyz")[1])["reason"] == "it is stopping"
        process.go_on()
        assert ended(process) == 0
    assert not file.exists()


def test_it_waits_for_a_database_that_is_away(server_bed: Bed) -> None:
    """Started before the database, it is alive and not ready; the database comes, and it works."""
    bed = server_bed
    log = prepared(bed)
    log.append("A")
    with Proxy(bed.url) as proxy:
        proxy.go_away()
        with Victim(PROGRAM, url=bed.url, through=proxy.url, kind=bed.kind, health_port=0) as process:
            port = int(told(process, "probes are answered").rpartition(":")[2])
            assert told(process, "The guard's database").endswith("it waits for that")
            assert get(port, "/readyz")[0] == 503
            assert get(port, "/livez")[0] == 200
            proxy.come_back()
            told(process, AT_WORK)
            bed.wait_until(has_come_to(bed, 1))
            process.process.send_signal(signal.SIGTERM)
            assert ended(process) == 0
    assert_exact(bed, log)


def test_a_database_that_does_not_answer_holds_up_neither_probes_nor_signals(postgres_bed: Bed) -> None:
    """Connected and not answered, it tells that it is alive and not ready; SIGTERM ends it, with nothing in hand."""
    bed = postgres_bed
    with socket.create_server(("127.0.0.1", 0)) as silent:
        through = f"postgresql+psycopg://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing"
        with Victim(PROGRAM, url=bed.url, through=through, kind=bed.kind, health_port=0) as process:
            port = int(told(process, "probes are answered").rpartition(":")[2])
            assert get(port, "/livez")[0] == 200
            assert json.loads(get(port, "/readyz")[1])["reason"] == "it has not looked for work yet"
            process.process.send_signal(signal.SIGTERM)
            assert ended(process) == 0


def test_systemd_is_told(blocking_bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY once it works, WATCHDOG while it is alive, STOPPING when it ends: the datagrams of sd_notify(3).

    Until it is ready it asks for more time: systemd would end one that waits for its database after 90 s.
    """
    bed, path = blocking_bed, tmp_path / "notify"
    prepared(bed)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as pipe:
        pipe.bind(str(path))
        pipe.settimeout(60)
        with Victim(PROGRAM, url=bed.url, kind=bed.kind, notify_socket=str(path)) as process:
            heard = list[str]()
            while "READY=1" not in heard:
                heard += pipe.recv(1000).decode().splitlines()
            process.process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in heard:
                heard += pipe.recv(1000).decode().splitlines()
            assert ended(process) == 0
    assert "WATCHDOG=1" in heard
    assert "EXTEND_TIMEOUT_USEC=30000000" in heard[: heard.index("READY=1")]


@pytest.mark.parametrize(
    ("pulse", "is_stopping", "now", "expected"),
    [
        (Pulse(), False, 10.0, (True, False, "it has not looked for work yet")),
        (Pulse(turned_at=9.0, looked_at=9.0), False, 10.0, (True, True, "it is well")),
        (Pulse(turned_at=9.0, looked_at=9.0), True, 10.0, (True, False, "it is stopping")),
        (Pulse(turned_at=9.0, errors_in_a_row=1), False, 10.0, (True, False, "it has not looked for work yet")),
        (
            Pulse(turned_at=9.0, looked_at=5.0, errors_in_a_row=2),
            False,
            10.0,
            (True, False, "it could not look for work; its log says why"),
        ),
        (Pulse(), False, 200.0, (True, False, "it has not looked for work yet")),
        (Pulse(), False, 400.0, (False, False, "it has not looked for work for 400 s")),
        (Pulse(turned_at=9.0, looked_at=9.0), True, 350.0, (False, False, "it has not looked for work for 341 s")),
    ],
)
def test_the_judgement(pulse: Pulse, *, is_stopping: bool, now: float, expected: tuple[bool, bool, str]) -> None:
    """Dead only where the coordinator stands still; not ready where it cannot get on with its work."""
    found = condition(pulse, is_stopping=is_stopping, now=now, began=0.0)
    assert (found.is_alive, found.is_ready, found.why) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_health_port_is_of_ipv4_or_ipv6(host: str) -> None:
    """Clusters are of either kind."""
    port = HealthPort(host, 0, lambda: Condition(is_alive=True, is_ready=True, why="it is well"), ())
    port.start()
    try:
        with socket.create_connection((host, port.port), timeout=30) as asked:
            asked.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert asked.recv(100).startswith(b"HTTP/1.0 200")
    finally:
        port.close()


def test_a_health_file_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not every 5 s for as long as the disk is full; and again when it was well in between."""
    folder = tmp_path / "folder"
    file = HealthFile(folder / "health")
    wells = [Condition(is_alive=True, is_ready=True, why=f"look {n}") for n in range(5)]
    file.show(wells[0])
    file.show(wells[1])
    assert caplog.text.count("could not be written") == 1
    folder.mkdir()
    file.show(wells[2])
    assert (folder / "health").read_text() == "ready: look 2\n"
    file.remove()
    folder.rmdir()
    file.show(wells[3])
    file.show(wells[4])
    assert caplog.text.count("could not be written") == 2


# -- wrong use


def test_it_refuses_tables_that_are_not_there(tmp_path: Path) -> None:
    """It does not wait for a migration: it says what to run."""
    guard = ProjectionGuard(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(SchemaError, match=r"run guard\.migrate"):
        run_worker_service(guard)
    guard.close()


def test_it_belongs_on_the_main_thread(tmp_path: Path) -> None:
    """Signals are the process's: elsewhere `guard.worker()` is the way."""
    guard, refused = ProjectionGuard(f"sqlite:///{tmp_path / 'empty.db'}"), list[str]()

    def run() -> None:
        try:
            run_worker_service(guard)
        except ConfigurationError as error:
            refused.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    guard.close()
    assert "main thread" in refused[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"grace_seconds": -1}, "grace_seconds"),
        ({"health_port": 70_000}, "health_port"),
        ({"health_file": Path("/nowhere/health")}, "There is no folder /nowhere"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], sentence: str) -> None:
    """One sentence that names the option."""
    with pytest.raises(ConfigurationError, match=sentence):
        WorkerServiceSettings(**options)


def test_a_port_that_is_taken_is_said(blocking_bed: Bed) -> None:
    """Before any work is begun."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        guard = ProjectionGuard(blocking_bed.url)
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            run_worker_service(guard, WorkerServiceSettings(health_port=taken.getsockname()[1]))
        guard.close()
