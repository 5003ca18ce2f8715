"""A process dies at every write to PostgreSQL, and after every COMMIT whose reply it does not see: the end is exact."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy.engine import make_url

from tests.bed import Bed
from tests.faults.crashes import KINDS
from tests.faults.proxy import Proxy
from tests.faults.sweeps import Sweep, bed_of, places, ways
from tests.faults.zygote import End, Zygote
from tests.turns import IS_EVERY

VICTIM = "the one who dies"
SESSIONS = "SELECT 1 FROM pg_stat_activity WHERE application_name = :name AND datname = current_database()"


def victims(url: str) -> str:
    """Return the URL with a name by which his sessions are known."""
    return make_url(url).update_query_dict({"application_name": VICTIM}).render_as_string(hide_password=False)


def no_session_is_left(bed: Bed) -> bool:
    """Return whether the server has ended all that the dead one had open."""
    return not bed.rows(SESSIONS, name=VICTIM)


@contextmanager
def sweeping(bed: Bed, zygote: Zygote, name: str, handler: str, path: Path) -> Iterator[tuple[Sweep, Proxy]]:
    """A sweep of one kind through a proxy."""
    with Proxy(bed.url) as proxy:
        yield (
            Sweep(
                bed,
                zygote,
                name,
                handler,
                path / "journal",
                url=victims(proxy.url),
                is_over=lambda: no_session_is_left(bed),
            ),
            proxy,
        )


def commits_of(name: str) -> Iterable[int]:
    """Return which COMMITs lose their replies: there are far fewer of them than writes."""
    return range(1, 99) if IS_EVERY or KINDS[name].is_short else range(1, 99, 5)


@pytest.mark.parametrize(("name", "handler", "kind"), ways(shift=1))
def test_a_process_dies_at_any_write_and_after_any_commit(
    postgres_url: str, zygote: Zygote, tmp_path: Path, name: str, handler: str, kind: Literal["blocking", "async"]
) -> None:
    """SIGKILL right before write 1, 2, 3, ...; or COMMIT 1, 2, 3, ... is done, and its reply lost.

    The process is dead by then, or lives on without that connection. Another one takes up what it left.
    """
    is_long = not KINDS[name].is_short
    with bed_of(postgres_url, kind) as bed, sweeping(bed, zygote, name, handler, tmp_path) as (sweep, proxy):

        def has_happened(place: int, end: End) -> bool:
            return proxy.disarm()

        def kill(pid: int, place: int) -> None:
            proxy.kill(pid, at=place)

        def lose(pid: int, place: int) -> None:
            proxy.lose_commit(at=place)

        def lose_and_kill(pid: int, place: int) -> None:
            proxy.lose_commit(at=place, kill=pid)

        writes = sweep.run(places(name, strides=is_long), kill, has_happened)
        commits = sweep.run(commits_of(name), lose, has_happened)
        if IS_EVERY:  # what the server has done by then is what it has done at the next write
            sweep.run(places(name, strides=False), lose_and_kill, has_happened)
    print(f"{name}, {handler}, {kind}: up to {writes} writes, {commits} commits")  # noqa: T201
    assert writes >= 2
    assert commits or name == "redelivered" or handler == "apart"  # its statements commit by themselves
