"""The same handler, one row an event, by the peers: how many times their events a second ours does."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Final

from sqlalchemy import create_engine

from ._bed import Run, bed, insert, make_read_model
from ._following import following
from ._harness import Block, Samples, measure
from ._log import log_in, turns
from ._loops import loop
from ._peer import OpenPeer
from ._report import Row

__all__ = ["on_postgresql"]

_ROUNDS = 10
_PER_ROUND = 10_000
_OURS = "ours"
_UNGUARDED = "unguarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library that is measured beside ours. `needs`: as in the dependency group `bench`."""

    name: str
    needs: str
    module: str
    opens: str = "opened"
    target: float
    aim: float | None = None

    @property
    def distribution(self) -> str:
        """The distribution's name."""
        return self.needs.split("[", maxsplit=1)[0]


_EVENTSOURCE: Final = "eventsource-py[postgresql]>=0.15,<0.16; python_version >= '3.13'"
_PGQUEUER: Final = "pgqueuer[asyncpg]>=1.6,<1.7"
PEERS: Final = (
    Peer(
        name="eventsourcing, ProjectionRunner",
        needs="eventsourcing[postgres]>=9.5,<9.6",
        module="_peer_eventsourcing",
        target=3.0,
        aim=5.0,
    ),
    Peer(
        name="eventsource-py, a checkpoint a batch",
        needs=_EVENTSOURCE,
        module="_peer_eventsource",
        target=4.0,
        aim=6.0,
    ),
    Peer(
        name="pgqueuer, a job an event, in tens (its default)",
        needs=_PGQUEUER,
        module="_peer_pgqueuer",
        target=2.0,
    ),
    Peer(
        name="pgqueuer, a job an event, in hundreds",
        needs=_PGQUEUER,
        module="_peer_pgqueuer",
        opens="opened_in_hundreds",
        target=2.0,
    ),
)


def on_postgresql(run: Run) -> list[Row]:
    """Measure all that are installed in turns, each on a log of its own in the same server."""
    with ExitStack() as stack:
        variants = _ours(run, stack)
        for peer in PEERS:
            if (opened := _opener(peer)) is not None:
                url = stack.enter_context(run.server.database())
                make_read_model(url)
                variants[peer.name] = stack.enter_context(opened(url))
        samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=run.size(_PER_ROUND))
    return [_row(peer, samples) for peer in PEERS]


def _ours(run: Run, stack: ExitStack) -> dict[str, Block]:
    url = stack.enter_context(bed(run))
    engine = create_engine(url)
    stack.callback(engine.dispose)
    log = log_in(engine)
    follower = stack.enter_context(following(engine, _OURS, insert))
    return {
        _UNGUARDED: turns(log, lambda after: loop(engine, insert, after=after)),
        _OURS: turns(log, lambda _: follower.catch_up()),
    }


def _opener(peer: Peer) -> OpenPeer | None:
    """Import a peer's module; None where what it needs is not installed."""
    try:
        opened: OpenPeer = getattr(import_module(f".{peer.module}", __package__), peer.opens)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(str(__package__)):
            raise
        return None
    return opened


def _row(peer: Peer, samples: Samples) -> Row:
    if peer.name not in samples.seconds:
        return Row(benchmark="peers", measure=peer.name, remark=f'not measured: pip install "{peer.needs}"')
    remarks = [f"{version(peer.distribution)}; unguarded loop {samples.ratio(peer.name, _UNGUARDED):.2f}"]
    if peer.aim is not None:
        remarks.append(f"aim {peer.aim:.0f}")
    return Row(
        benchmark="peers",
        measure=peer.name,
        ratio=samples.ratio(peer.name, _OURS),
        target=peer.target,
        target_is="at least",
        microseconds=samples.microseconds(_OURS),
        baseline_microseconds=samples.microseconds(peer.name),
        remark="; ".join(remarks),
    )
