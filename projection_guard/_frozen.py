"""Frozen dataclasses where there is one for each event: made at half the price.

A frozen dataclass's own `__init__` sets each field through `object.__setattr__`, which is what costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields, make_dataclass
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["quick"]

P = ParamSpec("P")
T = TypeVar("T")


def quick(kind: Callable[P, T]) -> Callable[P, T]:
    """Return what makes instances of a frozen, slotted dataclass quickly; one without `__post_init__`.

    A twin that is not frozen is filled, and then becomes one of `kind`: an instance may change its class for another
    one with the same slots.
    """
    made = cast("Any", kind)

    def freeze(twin: Any) -> None:
        twin.__class__ = made

    like = [(each.name, object, field(default=each.default)) for each in fields(made)]
    twins = make_dataclass(made.__name__, like, namespace={"__post_init__": freeze}, slots=True, kw_only=True)
    return cast("Callable[P, T]", twins)
