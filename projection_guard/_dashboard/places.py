"""All pages and all that their forms do, in the order in which an address is tried against them."""

from __future__ import annotations

from typing import Final

from .bulk import BULK
from .edit import EDIT
from .failure import FAILURE
from .failures import FAILURES
from .overview import OVERVIEW
from .place import Place

__all__ = ["PLACES"]

PLACES: Final[tuple[Place, ...]] = (*OVERVIEW, *FAILURES, *FAILURE, *EDIT, *BULK)
