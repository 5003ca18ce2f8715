"""Following a log: handlers that write one row an event, and that write a batch, against loops of one's own."""

from __future__ import annotations

from contextlib import ExitStack

from sqlalchemy import create_engine

from ._bed import Run, bed, insert, insert_many
from ._following import compared, following
from ._harness import Block, measure
from ._log import log_in, turns
from ._loops import BATCH, PAGE, batches, loop, make_checkpoint
from ._report import Row

__all__ = ["on_postgresql"]

_PER_ROUND = 10_000
_ROUNDS = 12


def on_postgresql(run: Run) -> list[Row]:
    """Measure the guarded loop over the unguarded one, and a guarded batch over a bare executemany, on PostgreSQL."""
    with bed(run) as url, ExitStack() as stack:
        engine = create_engine(url)
        stack.callback(engine.dispose)
        log = log_in(engine)
        make_checkpoint(engine)
        variants: dict[str, Block] = {
            "unguarded": turns(log, lambda after: loop(engine, insert, after=after)),
            "executemany": turns(log, lambda after: batches(engine, insert_many, after=after)),
        }
        guarded = stack.enter_context(following(engine, "guarded", insert))
        batched = stack.enter_context(following(engine, "batched", insert_many, batch=BATCH))
        variants["guarded"] = turns(log, lambda _: guarded.catch_up())
        variants["batched"] = turns(log, lambda _: batched.catch_up())
        samples = measure(variants, rounds=run.rounds(_ROUNDS), per_round=run.size(_PER_ROUND))
    return [
        compared(
            samples,
            "guarded",
            "unguarded",
            benchmark="following",
            measure=f"one row an event, over a loop with a transaction every {PAGE}",
            target=1.15,
        ),
        compared(
            samples,
            "batched",
            "executemany",
            benchmark="following",
            measure=f"batch handler, over executemany and a checkpoint every {BATCH}",
            target=1.2,
        ),
    ]
