"""What each store and event library has to show: one poison event, in one stream of a hundred.

`SCRIPT` is what happens, in its order: three events in each stream. Each test appends that in its library's own way,
says how an event is read, and how the projection is given the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, insert

from tests.bed import Bed, GuardOnBed, effects
from tests.flow.acting import make_due

__all__ = ["SCRIPT", "STREAMS", "heals_in_order"]

STREAMS: Final = [f"account-{number}" for number in range(1, 101)]
SCRIPT: Final = [(stream, n) for n in (1, 2, 3) for stream in STREAMS]
POISON: Final = ("account-42", 2)


def heals_in_order(
    bed: Bed,
    guard_of: Callable[[], GuardOnBed],
    *,
    deliver: Callable[[GuardOnBed], object],
    read: Callable[[Any], tuple[str, int]],
    **options: Any,
) -> None:
    """The others go on; fixed, the stream is complete and in order, with no operator; and each event is applied once.

    `guard_of` makes a guard, and is asked twice: the second one heals, as another process would. `deliver` lets the
    projection "P" take all that there is; it is called again in the end. `read` tells an event's stream and number.
    """
    is_fixed = False

    def body(event: object, connection: Connection) -> None:
        stream, n = read(event)
        connection.execute(insert(effects).values(projection="P", stream=stream, n=n))
        if (stream, n) == POISON and not is_fixed:
            raise ValueError("this one cannot be applied")

    def registered() -> GuardOnBed:
        guard = guard_of()
        bed.joined(guard, "P", body, **{"handles": None, **options})
        return guard

    guard = registered()
    deliver(guard)
    held = POISON[0]
    assert [effect for effect in bed.effects("P") if effect[0] != held] == [each for each in SCRIPT if each[0] != held]
    assert bed.effects("P", held) == [(held, 1)]
    health = guard.health("P")
    assert (health.active_failures, health.parked_events) == (1, 1)
    is_fixed, guard = True, registered()
    for _ in range(2):
        make_due(bed)
        guard.work()
    deliver(guard)
    assert bed.effects("P", held) == [(held, 1), (held, 2), (held, 3)]
    assert Counter(bed.effects("P")) == Counter(SCRIPT)
    health = guard.health("P")
    assert (health.active_failures, health.parked_events, health.total_events_processed) == (0, 0, len(SCRIPT))
