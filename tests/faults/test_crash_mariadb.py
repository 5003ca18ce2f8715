"""MariaDB's connection breaks, its session is killed, or the process dies, at any message of any kind of event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import pytest
from sqlalchemy import bindparam, text

from tests.bed import Bed
from tests.faults.crashes import KINDS
from tests.faults.proxy import COMMIT, EVERY, REQUEST, Proxy
from tests.faults.sweeps import Sweep, bed_of, ways
from tests.faults.zygote import End, Zygote
from tests.turns import IS_EVERY

SESSIONS = text("SELECT 1 FROM information_schema.processlist WHERE id IN :sessions").bindparams(
    bindparam("sessions", expanding=True)
)
"""The server has not yet ended what these had open."""

Deed = Callable[[Proxy, int, int], None]
DEEDS: Final[dict[str, Deed]] = {
    "cut": lambda proxy, pid, place: proxy.cut(at=place, which=EVERY),
    "reply lost": lambda proxy, pid, place: proxy.swallow(at=place, which=REQUEST),
    "session killed": lambda proxy, pid, place: proxy.end_session(at=place, which=EVERY),
    "process killed": lambda proxy, pid, place: proxy.kill(pid, at=place),
    "commit cut": lambda proxy, pid, place: proxy.cut(at=place, which=COMMIT),
    "commit's reply lost": lambda proxy, pid, place: proxy.lose_commit(at=place),
    "commit's reply lost, process killed": lambda proxy, pid, place: proxy.lose_commit(at=place, kill=pid),
}
FEW: Final = ("poison", "parked", "retried", "drained", "followed", "batch fails", "replayed")
"""What CI tries, each with another deed and another of the guards."""
WAYS: Final = [
    (name, handler, kind, deed)
    for name, handler, kind in ways(shift=2)
    for deed in DEEDS
    if IS_EVERY or (name in FEW and list(DEEDS)[FEW.index(name)] == deed)
]


def no_session_is_left(bed: Bed, proxy: Proxy) -> bool:
    """Return whether the server has ended all that went through the proxy."""
    with bed.engine.connect() as connection:
        return connection.execute(SESSIONS, {"sessions": list(proxy.sessions)}).first() is None


@pytest.mark.parametrize(("name", "handler", "kind", "deed"), WAYS)
def test_whatever_breaks_at_any_message_changes_nothing_in_the_end(
    mariadb_url: str,
    zygote: Zygote,
    tmp_path: Path,
    name: str,
    handler: str,
    kind: Literal["blocking", "async"],
    deed: str,
) -> None:
    """Before message or COMMIT 1, 2, 3, ..., or behind it: another process, or this one, comes to the exact end."""
    step = 1 if IS_EVERY else 3 if "commit" in deed else 17
    with bed_of(mariadb_url, kind) as bed, Proxy(mariadb_url) as proxy:

        def has_happened(place: int, end: End) -> bool:
            return proxy.disarm()

        sweep = Sweep(
            bed,
            zygote,
            name,
            handler,
            tmp_path / "journal",
            url=proxy.url,
            is_over=lambda: no_session_is_left(bed, proxy),
        )
        first = 1 + list(KINDS).index(name) % step
        reached = sweep.run(range(first, 600, step), lambda pid, place: DEEDS[deed](proxy, pid, place), has_happened)
    print(f"{name}, {handler}, {kind}, {deed}: up to {reached}")  # noqa: T201
    assert reached or name == "redelivered"
