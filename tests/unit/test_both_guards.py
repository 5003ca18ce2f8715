"""Both guards have the same methods with the same parameters; the one's are called, the other's awaited."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from projection_guard import AsyncProjectionGuard, ProjectionGuard

NOT_AWAITED = {"projection", "publisher", "register", "worker"}
"""Registering waits for nothing."""


def methods(guard: type) -> dict[str, Callable[..., Any]]:
    """Return the public methods of a guard."""
    return {name: found for name, found in inspect.getmembers(guard, inspect.isfunction) if not name.startswith("_")}


def test_both_guards_have_the_same_methods() -> None:
    """A method that one lacks is found by nobody until somebody needs it."""
    assert methods(ProjectionGuard).keys() == methods(AsyncProjectionGuard).keys()


def test_they_take_the_same_parameters() -> None:
    """By the same names, in the same order, with the same defaults; the constructors as well."""

    def taken(method: Callable[..., Any]) -> list[tuple[str, object, object]]:
        return [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()]

    others = methods(AsyncProjectionGuard)
    of_both = [(name, one, others.get(name, one)) for name, one in methods(ProjectionGuard).items()]
    of_both.append(("__init__", ProjectionGuard.__init__, AsyncProjectionGuard.__init__))
    assert [name for name, one, other in of_both if taken(one) != taken(other)] == []


def test_what_waits_for_the_database_is_awaited() -> None:
    """In the async guard, and nothing is in the other one."""
    assert not [name for name, method in methods(ProjectionGuard).items() if inspect.iscoroutinefunction(method)]
    plain = {name for name, method in methods(AsyncProjectionGuard).items() if not inspect.iscoroutinefunction(method)}
    assert plain == NOT_AWAITED
