"""What a registered object says it takes by `subscribed_to()`, as subscribers of event buses do."""

from __future__ import annotations

from typing import Any

import pytest

from projection_guard import ProjectionGuard
from projection_guard.errors import RegistrationError
from tests.bed import Happened


class Later(Happened):
    """A class below the one that is subscribed to."""


class Subscriber:
    """Notes what it is given."""

    def __init__(self, subscribed_to: Any) -> None:
        self._subscribed_to = subscribed_to
        self.given: list[object] = []

    def subscribed_to(self) -> Any:
        return self._subscribed_to

    def can_handle(self, event: object) -> bool:
        raise AssertionError("the list says it all")

    def handle(self, event: object) -> None:
        self.given.append(event)


def test_it_takes_the_classes_and_not_those_below_them(sqlite_url: str) -> None:
    """A bus looks a handler up by the event's own class."""
    subscriber = Subscriber([Happened])
    with ProjectionGuard(sqlite_url, worker="external") as guard:
        apply = guard.register(subscriber)
        event = Happened(event_id="1", stream_id="A", sequence=1, n=1)
        assert apply(event).status == "applied"
        assert apply(Later(event_id="2", stream_id="A", sequence=2, n=2)).status == "ignored"
    assert subscriber.given == [event]


@pytest.mark.parametrize("said", [[], ["Happened"], [Happened, "Later"], Happened, None], ids=repr)
def test_anything_but_a_list_of_classes_is_refused(sqlite_url: str, said: Any) -> None:
    """Nothing at all could mean everything or nothing."""
    with (
        ProjectionGuard(sqlite_url, worker="external") as guard,
        pytest.raises(RegistrationError, match="subscribed_to\\(\\) gives a list of event classes, not empty"),
    ):
        guard.register(Subscriber(said))
