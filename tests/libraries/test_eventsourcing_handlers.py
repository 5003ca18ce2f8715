"""Handlers that join the guard's transaction, on the events of an `eventsourcing` application: blocking and async."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

pytest.importorskip(
    "eventsourcing", reason="eventsourcing is not installed: pip install 'projection-guard[eventsourcing]'"
)

from sqlalchemy import Connection, insert

from projection_guard.eventsourcing import ApplicationSource
from tests.bed import Bed, effects
from tests.libraries.eventsourcing_shop import Cart, Shop, environment


def test_one_poison_event_in_100_streams(diagonal_bed: Bed, tmp_path: Path) -> None:
    """The others go on; after the fix the stream is complete and in order; each event has its effect once."""
    bed = diagonal_bed
    place = str(tmp_path / "log.db") if bed.database == "sqlite" else bed.url
    poison = {117}

    def added(happened: Any, connection: Connection) -> None:
        if happened.amount in poison:
            raise ZeroDivisionError
        row = {"projection": "P", "stream": str(happened.originator_id), "n": happened.amount}
        connection.execute(insert(effects).values(row))

    with Shop(env=environment(bed.database, place)) as shop:
        carts = [Cart("someone") for _ in range(100)]
        for turn in range(3):
            for number, cart in enumerate(carts):
                cart.add(turn * 100 + number)
            shop.save(*carts)
        streams: list[UUID] = [cart.id for cart in carts]
        guard = bed.guard(source=ApplicationSource(shop))
        bed.joined(guard, "P", added, handles=[Cart.Added])
        guard.catch_up("P")
        assert len(bed.effects("P")) == 298
        assert bed.effects("P", str(streams[17])) == [(str(streams[17]), 17)]
        poison.clear()
        guard.work()
        for number, stream in enumerate(streams):
            wanted = [(str(stream), turn * 100 + number) for turn in range(3)]
            assert bed.effects("P", str(stream)) == wanted
        history = guard.stream("P", str(streams[17]))
        assert history.log_is_read
        assert [each.event_id for each in history.page.items] == [f"{streams[17]}:{n}" for n in (4, 3, 2, 1)]
