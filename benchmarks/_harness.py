"""Measures variants side by side in small rounds, so that the machine's noise cancels in the ratios.

A variant is a `Block`: it does a number of things and returns how many seconds they took. Blocks take turns, in turning
order; a ratio is the median of the rounds' ratios, and never one of figures from different moments.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeVar

__all__ = ["Block", "Samples", "measure", "timed", "timed_async"]

E = TypeVar("E")
Block = Callable[[int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Seconds for one thing done, by variant, one figure a round."""

    seconds: Mapping[str, Sequence[float]]

    def microseconds(self, variant: str) -> float:
        """Return the median time of a variant."""
        return median(self.seconds[variant]) * 1e6

    def ratio(self, variant: str, baseline: str) -> float:
        """Return how many times as long as its baseline a variant took: the median of the rounds."""
        return median(self.ratios(variant, baseline))

    def ratios(self, variant: str, baseline: str) -> list[float]:
        """Return the ratio of each round."""
        pairs = zip(self.seconds[variant], self.seconds[baseline], strict=True)
        return [ours / theirs for ours, theirs in pairs]


def measure(variants: Mapping[str, Block], *, rounds: int, per_round: int) -> Samples:
    """Run all variants `rounds` times, after one round that does not count; each does `per_round` things in a turn."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        names = list(variants)[:: 1 if number % 2 else -1]
        for name in names:
            gc.collect()
            taken = variants[name](per_round) / per_round
            if number:
                seconds[name].append(taken)
    return Samples(seconds=seconds)


def timed(do: Callable[[E], object], things: Sequence[E]) -> float:
    """Do something to each thing; return the seconds it took."""
    started = perf_counter()
    for thing in things:
        do(thing)
    return perf_counter() - started


async def timed_async(do: Callable[[E], Awaitable[object]], things: Sequence[E]) -> float:
    """Do something to each thing, one after the other; return the seconds it took."""
    started = perf_counter()
    for thing in things:
        await do(thing)
    return perf_counter() - started
