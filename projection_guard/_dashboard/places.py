"""All pages and all that their forms do, in the order in which an address is tried against them."""

from __future__ import annotations

from typing import Final

from .acts import ACTS
from .audit import AUDIT
from .bulk import BULK
from .edit import EDIT
from .failure import FAILURE
from .failures import FAILURES
from .job import JOB
from .jobs import JOBS
from .overview import OVERVIEW
from .place import Place
from .projection import PROJECTION
from .stream import STREAM
from .streams import STREAMS
from .untaint import UNTAINT

__all__ = ["PLACES"]

PLACES: Final[tuple[Place, ...]] = (
    *OVERVIEW,
    *PROJECTION,
    *ACTS,
    *STREAMS,
    *STREAM,
    *UNTAINT,
    *FAILURES,
    *FAILURE,
    *EDIT,
    *BULK,
    *JOBS,
    *JOB,
    *AUDIT,
)
