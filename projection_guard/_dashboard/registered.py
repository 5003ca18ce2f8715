"""What a projection is registered with, in words."""

from __future__ import annotations

from typing import Final

from tenacity import wait_exponential, wait_fixed

from .._core.projection import Projection
from .._model import Order
from .._policy import UNLIMITED, RetryPolicy, call_state
from ..errors import ConfigurationError
from .wording import amount, plural, span

__all__ = ["order_in_words", "retries_in_words", "way_in_words"]

_MOST_NAMED: Final = 6
_ORDERS: Final = {
    Order.STREAM: "by stream: what fails holds its stream, the others go on",
    Order.NONE: "none: what fails holds nothing",
    Order.GLOBAL: "one line: what fails holds the whole projection",
}


def order_in_words(order: Order) -> str:
    """Say what waits behind a failure."""
    return _ORDERS[order]


def way_in_words(projection: Projection) -> str:
    """Say how events come to a projection."""
    if not projection.is_followed:
        return "pushed by the application's publisher"
    parts = "" if projection.partitions == 1 else f", in {plural(projection.partitions, 'partition')}"
    return f"followed in the event log{parts}"


def retries_in_words(policy: RetryPolicy) -> str:
    """Say when a failed event is tried again, as far as that can be said in few words."""
    if policy.max_retries == 0:
        return "none: what fails waits for a person"
    if policy.max_retries == UNLIMITED:
        return f"without end{_first(policy)}"
    return f"{plural(policy.max_retries, 'retry', 'retries')}{_first(policy)}; then it waits for a person"


def _first(policy: RetryPolicy) -> str:
    if type(policy.wait) not in (wait_fixed, wait_exponential):  # others draw lots, or are the application's own
        return ""
    number = min(policy.max_retries, _MOST_NAMED)
    error = ConfigurationError("asked for words")
    try:
        waits = [float(policy.wait(call_state(each, error, 0.0))) for each in range(1, number + 1)]
    except OverflowError:
        return ""
    if len(set(waits)) == 1:
        return f", each {_after(waits[0])}"
    return f", after {', '.join(map(_short, waits))}{'' if number == policy.max_retries else ' and so on'}"


def _after(seconds: float) -> str:
    return f"after {_short(seconds)}" if seconds else "at once"


def _short(seconds: float) -> str:
    return f"{amount(int(seconds))} s" if seconds < 60 and seconds == int(seconds) else span(seconds)
